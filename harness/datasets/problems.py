"""What is wrong with a task, and where in its file: the checks of every data kind give these."""

from __future__ import annotations

from typing import Any

Place = tuple[Any, ...]  # keys and indices from the top of the task file
Problem = tuple[Place, str]


def show(place: Place) -> str:
    """Return a place as text: data.templates[2].text."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in place).removeprefix(
        "."
    )
