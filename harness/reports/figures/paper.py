"""Sheets of panels, and writing them: equal results give equal bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.reports.text import elided
from harness.spec.printable import printable

FORMS = ("svg", "png", "pdf")

LONGEST = 40
"""Characters of a name beside a line or point; of a title twice as many. Longer ones are cut."""


def sheet(width: float, height: float) -> Any:
    """An empty figure of so many inches. Raises `HarnessError` without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise HarnessError(
            "plotting needs matplotlib: pip install 'circuit-harness[plot]'"
        ) from error
    return Figure(figsize=(width, height), layout="constrained")


def lettering(name: str, most: int = LONGEST) -> str:
    """A name as it can stand in a figure: printable, and cut in the middle where it is too long."""
    return elided(printable(name), most)


def save(figure: Any, path: Path) -> None:
    """Write a figure; its kind is the path's ending. Raises `HarnessError` for another one."""
    import matplotlib as mpl

    form = path.suffix.lstrip(".")
    if form not in FORMS:
        endings = ", ".join(f".{name}" for name in FORMS)
        raise HarnessError(f"cannot write {path.name}: use one of {endings}")
    dates: dict[str, Any] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}
    # A salt of its own would give marks in SVG other names each time.
    with mpl.rc_context({"svg.hashsalt": "harness"}):
        figure.savefig(path, dpi=150, metadata=dates[form])
