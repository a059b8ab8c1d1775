"""`harness bench`: what methods cost, beside lower bounds of that cost.

`measure` times a batch and `prompts` growing numbers of them; `floors` and `memory` count.
`rows` holds all names without torch, so that `--help` can list them.
"""
