"""The one transformer: its configuration, forward pass, sites, training and checkpoints.

`loading` reads checkpoints of other programs, `compile` writes weights for known programs.
"""
