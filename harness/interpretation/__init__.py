"""What features stand for: where they are strongest, and which concepts of the task they detect.

Features may be those of dictionaries, a model's neurons or random directions (`subjects`). A task
brings its own concepts (`harness.datasets.concepts`).
"""
