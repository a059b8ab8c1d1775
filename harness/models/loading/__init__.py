"""Checkpoints of other programs as configurations of the one transformer.

A family is one function from `config.json` and the names of the tensors to a `Translation`: our
configuration, and for each of our parameters the tensors that it comes from.
"""
