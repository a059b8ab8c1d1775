"""The kinds of data that a task can have: one line for each, readable without torch.

A kind is a package. Its module `spec` holds the class of a task's `data` as `SPEC`, a dataclass
with a `kind` of that name, and the package itself holds what is done with it as `KIND`
(`harness.datasets.kinds`).
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Protocol, cast

PACKAGES = {
    "generator": "harness.datasets.generators",
    "template": "harness.datasets.template",
    "file": "harness.datasets.files",
    "program": "harness.datasets.program",
}


class DataSpec(Protocol):
    """What the `data` of every kind have."""

    @property
    def kind(self) -> str:
        """The name of the kind."""
        ...


@cache
def data_classes() -> tuple[type[DataSpec], ...]:
    """The classes of all kinds of data; imports their packages."""
    return tuple(
        cast("type[DataSpec]", import_module(f"{package}.spec").SPEC)
        for package in PACKAGES.values()
    )
