"""Analyses of dictionaries' features as plain data, and what the features are called in them."""
