"""Figures for papers (matplotlib): colours of methods, fronts, frontiers, painted circuits."""
