"""Circuits of any granularity as nodes and links, and these in the formats of other tools."""
