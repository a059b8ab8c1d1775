"""Data of kind `program`: random tokens, answered by what a small program computes from them.

`read` checks the program of a task file, `run` interprets it, `domains` lists its values; a
compiler makes the same programs into models (`harness.models.compile`).
"""

from harness.datasets.program.program import (
    CARRIER,
    INDICES,
    TOKENS,
    Aggregate,
    Domain,
    Map,
    Program,
    Select,
    SelectorWidth,
    Step,
)

__all__ = [
    "CARRIER",
    "INDICES",
    "TOKENS",
    "Aggregate",
    "Domain",
    "Map",
    "Program",
    "Select",
    "SelectorWidth",
    "Step",
]
