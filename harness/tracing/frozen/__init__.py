"""The modules of a transformer with everything that is not linear held at the values of one run.

Each maps parts of the stream forward (`apply`) and directions backward (`adjoint`, `pull`).
"""
