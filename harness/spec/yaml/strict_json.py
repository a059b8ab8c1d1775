"""JSON of other people, read strictly: what `json.loads` takes silently, or gives up on oddly.

A key that stands twice would hide one of its values; integers of thousands of digits and deep
nesting make Python raise errors that name neither.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from harness.spec.printable import quoted

MOST_DIGITS = 64
"""Digits of an integer; 2**64 has 20."""


def read_json(text: str | bytes) -> Any:
    """The value of a JSON text. Raises `ValueError` with a message of one line."""
    try:
        return json.loads(text, object_pairs_hook=_mapping, parse_int=_integer)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise ValueError(f"not JSON: {error.msg} at {line}column {error.colno}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8: {error.reason} at byte {error.start}") from error
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _mapping(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"key {quoted(twice)} stands twice")
    return mapping


def _integer(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"an integer of {len(digits)} digits")
    return int(digits)
