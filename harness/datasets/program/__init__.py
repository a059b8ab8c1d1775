"""Data of kind `program`: random tokens, answered by what a small program computes from them.

`read` checks the program of a task file, `run` interprets it, `domains` lists its values; a
compiler makes the same programs into models (`harness.models.compile`).
"""

from harness.datasets.kinds import DataKind
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
from harness.datasets.program.task import checked_program, open_program, program_problems

KIND = DataKind(
    open=open_program,
    problems=program_problems,
    problems_without_tokens=program_problems,
    program=checked_program,
)

__all__ = [
    "CARRIER",
    "INDICES",
    "KIND",
    "TOKENS",
    "Aggregate",
    "Domain",
    "Map",
    "Program",
    "Select",
    "SelectorWidth",
    "Step",
    "checked_program",
]
