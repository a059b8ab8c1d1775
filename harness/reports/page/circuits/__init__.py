"""Circuits on a page: their drawings, what their nodes do, and how two of them differ."""
