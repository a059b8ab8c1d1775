"""Searches over a method's params, by what circuits they give."""
