"""Bridges between a frozen dense model and a weight-sparse one that is trained beside it."""
