"""Exact effects: one edge or node is replaced at a time and the rest of the model is run."""
