"""Prompt pairs in words, and the ones on which a circuit is furthest from its model."""
