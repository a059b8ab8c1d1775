"""What is wrong with a task, and where in its file: the checks of every data kind give these."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from harness.datasets.splits import share_problems

Place = tuple[Any, ...]  # keys and indices from the top of the task file
Problem = tuple[Place, str]


def show(place: Place) -> str:
    """Return a place as text: data.templates[2].text."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in place).removeprefix(
        "."
    )


def share_problems_at(shares: Mapping[str, float]) -> list[Problem]:
    """Return what is wrong with `data.shares`, with its place."""
    return [(("data", "shares"), text) for text in share_problems(shares)]


def listed(problems: Iterable[Problem]) -> str:
    """Return problems one per line, each after its place."""
    return "\n".join(f"{show(place)}: {text}" for place, text in problems)
