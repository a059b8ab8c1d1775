"""Dictionaries on disk: ours, and sparse autoencoders in SAELens' form. Nothing is unpickled."""
