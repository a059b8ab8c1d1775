"""Learned masks: each method names a distribution of masks and how long it is trained.

`training` is the loop that all share, `objective` what a step minimises on the prompts that
`prompts` draws, `hard_concrete` and `uniform_window` are distributions, `resume` checkpoints.
"""
