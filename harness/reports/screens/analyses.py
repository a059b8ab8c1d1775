"""An analysis on a terminal, and as files: JSON, and pictures as SVG."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.disk import write
from harness.reports.screens.pictures import picture_svg
from harness.reports.text import grid

Data = Mapping[str, Any]


def analysis_text(report: Data) -> str:
    """The report of `harness.runs.services.analyses.analyse` for people."""
    named, names = report["named"], " and ".join(one["name"] for one in report["dictionaries"])
    lines = [
        f"{names} of {report['model']} on {report['task']}: {report['title']}",
        f"{named['in_all']} of {named['features']:,} features have a name, {named['confirmed']} of "
        "them a confirmed label",
        *report["notes"],
    ]
    for table in report["tables"]:
        lines += ["", f"{table['title']}:", "", *_table(table)]
    return "\n".join(lines)


def _table(table: Data) -> Iterator[str]:
    columns, shares = table["columns"], set(table["shares"])
    cells = [
        [shown(value, share=name in shares) for name, value in zip(columns, row, strict=True)]
        for row in table["rows"]
    ]
    texts = [
        at
        for at in range(len(columns))
        if any(isinstance(row[at], str) for row in table["rows"]) or not table["rows"]
    ]
    yield grid(columns, cells, "github", texts, tight=True)


def shown(value: str | float | None, *, share: bool) -> str:
    """A value of a table as text; nothing for what is not defined."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if share:
        return f"{value:.1%}"
    if isinstance(value, int) or (float(value).is_integer() and abs(value) >= 100):
        return f"{value:,.0f}"
    return f"{value:.3f}"


def write_analysis(report: Data, folder: Path) -> list[Path]:
    """Write the report and an SVG for each picture; returns the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{report['analysis']}.json"]
    write(paths[0], (json.dumps(report, indent=1, allow_nan=False) + "\n").encode())
    for picture in report["pictures"]:
        path = folder / f"{picture['name']}.svg"
        write(path, picture_svg(picture).encode())
        paths.append(path)
    return paths
