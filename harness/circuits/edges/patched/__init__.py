"""The patched pass: every reader sees its own mix of kept and replaced writers.

`forward` runs it, `backward` gives the gradients of its masks; `live` leaves out what exact zeros
make idle, `readers` folds norms into weights, `mixing` and `post_norms` are the arithmetic.
"""
