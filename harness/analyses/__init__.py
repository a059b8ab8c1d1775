"""What circuits and features say together, over a prompt or many games: one module an analysis.

Nothing is patched but where an analysis says so. Nothing here knows a task: concepts, cells and
outputs are those of its library (`harness.datasets.concepts`).
"""
