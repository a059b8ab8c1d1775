"""Typed reading of another program's `config.json`, with one clear error for a bad field."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from harness.errors import HarnessError

T = TypeVar("T")

ACTIVATIONS: Mapping[str, Any] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
"""Their names of activations to ours; `gelu` alone is the exact one."""


@dataclass(frozen=True)
class Fields:
    """One object of a configuration; a value that is null counts as absent."""

    data: Mapping[str, Any]
    path: Path
    place: str = ""  # of a nested object, for messages

    def has(self, name: str) -> bool:
        """Whether the field is there."""
        return self.data.get(name) is not None

    def count(self, name: str, default: int | None = None) -> int:
        """A positive whole number; `HarnessError` if it is absent and there is no default."""
        value = self._value(name, default)
        if type(value) is not int or value < 1:
            raise self._unfit(name, value, "a positive whole number")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A number; `HarnessError` if it is absent and there is no default."""
        value = self._value(name, default)
        if type(value) not in (int, float):
            raise self._unfit(name, value, "a number")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self._value(name, default)
        if type(value) is not bool:
            raise self._unfit(name, value, "true or false")
        return value

    def choice(self, name: str, options: Mapping[str, T], default: str | None = None) -> T:
        """The option that a word names; `HarnessError` if there is none."""
        value = self._value(name, default)
        if not isinstance(value, str) or value not in options:
            raise self._unfit(name, value, f"one of {', '.join(options)}, which this reader knows")
        return options[value]

    def nested(self, name: str) -> Fields:
        """An object inside; empty where it is absent."""
        value = self._value(name, {})
        if not isinstance(value, dict):
            raise self._unfit(name, value, "an object")
        return Fields(value, self.path, f"{self.place}{name}.")

    def words(self, name: str) -> tuple[str, ...] | None:
        """A list of words, or None."""
        if not self.has(name):
            return None
        value = self.data[name]
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise self._unfit(name, value, "a list of words")
        return tuple(value)

    def refuse(self, name: str, fine: Collection[Any], why: str) -> None:
        """Refuse a field that asks for an unsupported feature: any value not among `fine`."""
        if self.has(name) and self.data[name] not in fine:
            raise HarnessError(
                f"{self.path}: {self.place}{name} is {self.data[name]!r}, and {why}; such models "
                "cannot be loaded"
            )

    def _value(self, name: str, default: Any) -> Any:
        value = self.data[name] if self.has(name) else default
        if value is None:
            raise HarnessError(f"{self.path}: {self.place}{name} is missing")
        return value

    def _unfit(self, name: str, value: object, wanted: str) -> HarnessError:
        return HarnessError(f"{self.path}: {self.place}{name} is {value!r}, not {wanted}")
