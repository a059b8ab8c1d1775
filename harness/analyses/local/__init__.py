"""Analyses of one prompt: what a logit, a feature or an attention score is made of."""
