"""Checkpoints in the names of single research projects, one module for each."""
