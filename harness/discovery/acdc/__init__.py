"""Automatic circuit discovery: removes edges one by one, from the logits down.

`search` decides edge by edge in the order of `order`, `plan` says what has to be run again for
that, `state` runs it, `resume` saves decisions and `cost` measures a sample of them.
"""
