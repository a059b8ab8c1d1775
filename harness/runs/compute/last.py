"""What cells that follow each other have in common, so that a worker computes it once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Last(Generic[Value]):
    """The value of the key that was asked for last; another key replaces it.

    A worker computes its cells model by model and task by task, so one value is enough.
    """

    def __init__(self) -> None:
        self._entry: tuple[object, Value] | None = None

    def of(self, key: object, make: Callable[[], Value]) -> Value:
        """The value of a key, made unless it is that of the key before."""
        if self._entry is None or self._entry[0] != key:
            self._entry = None  # freed before the next one is made
            self._entry = key, make()
        return self._entry[1]
