"""Circuits as drawings: where nodes and edges stand, by arithmetic, and drawings as SVG."""
