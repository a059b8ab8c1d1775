"""A circuit, or two and their difference, as lines of a given width."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tabulate import tabulate

from harness.spec.printable import printable

MARK = "●"

Data = Mapping[str, Any]


def circuits_text(report: Data, width: int) -> str:
    """The report of `harness.runs.services.describe` as lines at most `width` wide."""
    lines: list[str] = []
    for circuit in report["circuits"]:
        lines += [*_circuit(circuit, report, width), ""]
    if report["difference"]:
        lines += [*_difference(report["difference"], report, width), ""]
    return "\n".join(lines[:-1])


def _circuit(circuit: Data, report: Data, width: int) -> Iterator[str]:
    yield from _wrapped(f"{circuit['name']}: {_origin(circuit)}", width)
    yield from _wrapped(
        f"{circuit['size']} of {report['total']} {report['unit']}, "
        f"{circuit['nodes']} of {circuit['nodes_total']} nodes",
        width,
    )
    if recovered := circuit["known"]:
        yield from _wrapped(
            f"keeps {recovered['kept']} of the {report['known']['size']} known {report['unit']} "
            f"({report['known']['name']})" + _missing(recovered),
            width,
        )
    yield ""
    yield from _layers(circuit["layers"], width)
    if circuit["strongest"]:
        yield ""
        listed = len(circuit["strongest"])
        what = "strongest" if circuit["scored"] else "first (it has no scores)"
        yield f"{what} {listed} of {circuit['size']} {report['unit']}"
        yield from _elements(circuit["strongest"])


def _origin(circuit: Data) -> str:
    source = circuit["source"]
    on = [f"{name} {source[name]}" for name in ("method", "task", "model") if name in source]
    seed = [] if circuit["seed"] is None else [f"seed {circuit['seed']}"]
    return ", ".join([*on, *seed]) or "of unknown origin"


def _missing(recovered: Data) -> str:
    if not recovered["n_missing"]:
        return ""
    names = " ".join(one["element"] for one in recovered["missing"])
    more = recovered["n_missing"] - len(recovered["missing"])
    return f"; without {names}" + (f" and {more} more" if more else "")


def _layers(layers: Sequence[Data], width: int) -> Iterator[str]:
    rows = []
    for one in layers:
        layer = "other" if one["layer"] is None else str(one["layer"])
        heads = " ".join(one["heads"]) or "–"
        count = f"{len(one['heads'])}/{one['heads_total']}" if one["heads_total"] else ""
        others = " ".join(one["others"]) or "–"
        wide = max(20, width - 30)
        parts = textwrap.wrap(heads, wide) or [""]
        rows.append([layer, count, printable(parts[0]), printable(others)])
        rows += [["", "", printable(part), ""] for part in parts[1:]]
    modules = any("attention" in one["others"] for one in layers)
    headers = ["layer", "heads", "", "modules" if modules else "MLP"]
    yield from _table(headers, rows, ("right", "right", "left", "left"))


def _elements(elements: Sequence[Data]) -> Iterator[str]:
    marked = any(one["known"] is not None for one in elements)
    scored = any(one["score"] is not None for one in elements)
    headers = ["", "element", *(["score"] if scored else []), *(["known"] if marked else [])]
    rows = [
        [
            str(place),
            printable(one["element"]),
            *([f"{one['score']:+.4g}"] if scored else []),
            *([MARK if one["known"] else ""] if marked else []),
        ]
        for place, one in enumerate(elements, 1)
    ]
    align = ("right", "left", *(["right"] if scored else []), *(["left"] if marked else []))
    yield from _table(headers, rows, align)


def _difference(difference: Data, report: Data, width: int) -> Iterator[str]:
    share = "not defined" if difference["iou"] is None else f"{difference['iou']:.3f}"
    yield f"difference: {difference['both']} {report['unit']} in both, IoU {share}"
    for one in difference["only"]:
        yield ""
        nodes = f"; nodes {' '.join(one['nodes'])}" if one["nodes"] else ""
        yield from _wrapped(f"only in {one['name']}: {one['size']} {report['unit']}{nodes}", width)
        if one["strongest"]:
            yield from _elements(one["strongest"])


def _table(
    headers: Sequence[str], rows: Sequence[Sequence[str]], align: Sequence[str]
) -> list[str]:
    """Rows without frames: names may hold any character that is printable."""
    text = tabulate(rows, headers=headers, tablefmt="plain", disable_numparse=True, colalign=align)
    return [line.rstrip() for line in text.splitlines()]


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(
        printable(text),
        max(width, 40),
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
