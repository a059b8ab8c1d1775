"""Circuits are run and measured here: curves over sizes, knock-outs, judging, overlap."""
