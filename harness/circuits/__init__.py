"""Graphs of edges, the patched pass over them, and circuits: kept edges with their scores."""
