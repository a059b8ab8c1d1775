"""Learned masks: each method says how its masks are distributed; `training` is their one loop.

`prompts` draws the prompt pairs of each step.
"""
