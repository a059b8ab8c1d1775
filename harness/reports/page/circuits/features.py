"""What features stand for where they are strongest: in words, and on boards where there are any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.reports.text import percent

LEVELS = 3
"""Shades of a cell, of either sign."""

LEADING, LEAST = 3, 25
"""Concepts that are named of a feature, and by how many percent they stand out at least."""

CELL = 10
"""Pixels of a cell's edge, in the units of its picture."""


@dataclass(frozen=True)
class Shade:
    """The cells of one shade as a path of SVG."""

    sign: str
    opacity: float
    path: str


@dataclass(frozen=True)
class ConceptBoard:
    """How much more, or less, often a family is true in each cell than at all tokens."""

    name: str
    size: int
    shades: tuple[Shade, ...]


@dataclass(frozen=True)
class FeatureShown:
    """`leading`: concepts that stand out; `words`: where it is strongest, with its strength."""

    name: str
    active: str
    leading: tuple[str, ...]
    words: tuple[tuple[str, tuple[str, ...]], ...]
    boards: tuple[ConceptBoard, ...]


def features_shown(stored: Mapping[str, Any]) -> tuple[FeatureShown, ...]:
    """The features of `nodes.json` (`harness.runs.nodes.features`), for a page."""
    told = stored.get("features")
    return () if told is None else tuple(_shown(one, told) for one in told["features"])


def _shown(feature: Mapping[str, Any], told: Mapping[str, Any]) -> FeatureShown:
    share, base = feature["share"], told["base"]
    return FeatureShown(
        feature["name"],
        percent(feature["active"]),
        () if share is None else tuple(_leading(share, base, told["families"])),
        tuple((f"{one['strength']:.3g}", tuple(one["words"])) for one in feature["strongest"]),
        () if share is None else tuple(_boards(share, base, told)),
    )


def _leading(
    share: Sequence[int], base: Sequence[int], families: Sequence[Mapping[str, Any]]
) -> list[str]:
    """The concepts that are most more often true where the feature is strongest."""
    names = [name for family in families for name in family["concepts"]]
    order = sorted(range(len(names)), key=lambda at: base[at] - share[at])[:LEADING]
    return [
        f"{names[at]} {share[at]} % (of all {base[at]} %)"
        for at in order
        if share[at] - base[at] >= LEAST
    ]


def _boards(
    share: Sequence[int], base: Sequence[int], told: Mapping[str, Any]
) -> list[ConceptBoard]:
    """A board for each family that says what the position is, else for each that has cells."""
    size, start, boards = told["board_size"], 0, []
    whole = any(family["board"] for family in told["families"])
    for family in told["families"]:
        part = slice(start, start + len(family["concepts"]))
        start = part.stop
        if size is None or family["cells"] is None or (whole and not family["board"]):
            continue
        apart = [one - all_ for one, all_ in zip(share[part], base[part], strict=True)]
        boards.append(ConceptBoard(family["name"], size * CELL, _shades(apart, family, size)))
    return boards


def _shades(apart: Sequence[int], family: Mapping[str, Any], size: int) -> tuple[Shade, ...]:
    """Cells by shade: differences in percent, to the nearest of `LEVELS` steps."""
    by_level: dict[int, list[str]] = {}
    for difference, cell in zip(apart, family["cells"], strict=True):
        if level := round(LEVELS * difference / 100):
            row, column = divmod(cell, size)
            square = f"M{column * CELL} {row * CELL}h9v9h-9z"
            by_level.setdefault(level, []).append(square)
    return tuple(
        Shade("more" if level > 0 else "less", round(abs(level) / LEVELS, 2), "".join(squares))
        for level, squares in sorted(by_level.items())
    )
