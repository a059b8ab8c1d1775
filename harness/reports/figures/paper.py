"""Sheets of panels, and writing them: equal results give equal bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.errors import HarnessError

FORMS = ("svg", "png", "pdf")


def sheet(width: float, height: float) -> Any:
    """An empty figure of so many inches. Raises `HarnessError` without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise HarnessError(
            "plotting needs matplotlib: pip install 'circuit-harness[plot]'"
        ) from error
    return Figure(figsize=(width, height), layout="constrained")


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
