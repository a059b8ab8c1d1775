"""Circuits traced without patching: one run, frozen, as an exact sum of parts.

With norms, patterns, gates and codes held at the values of a run, every logit, feature and
attention score is linear in what was written before it. See `run.py`, then `influence.py`.
"""
