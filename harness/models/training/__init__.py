"""Training of the one transformer: the loop, its schedule, and what held-out data says of it.

What is trained on and what it is judged by are two small protocols (`data`), so that prompt pairs
of a task and texts of a corpus are trained on by the same loop.
"""
