"""Errors that a user can cause and mend.

A `HarnessError` is shown as one clear message without a traceback; anything else that
escapes is a bug and keeps its traceback. Each class carries the exit code of the command.
"""

from __future__ import annotations


class HarnessError(Exception):
    """Base of all errors that are the user's to mend; exit code 2."""

    exit_code = 2


class SpecError(HarnessError):
    """One or more mistakes in spec files. `issues` holds them all, sorted by place."""

    def __init__(self, issues: list[object]) -> None:
        super().__init__("\n".join(str(issue) for issue in issues))
        self.issues = issues


class NotFound(HarnessError):
    """A name (task, model, method, suite, run, cell) that nothing answers to."""


class StoreCorrupt(HarnessError):
    """A stored result or model does not match its own record; exit code 3."""

    exit_code = 3
