"""Tables of what features stand for, and their panels as files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.disk import write
from harness.reports.screens.boards import panel_svg, panel_title, with_lift
from harness.reports.screens.examples import last_tokens
from harness.reports.text import grid

Data = Mapping[str, Any]

_MOST = 5
"""Concepts written of a feature that was asked for."""


def features_text(report: Data) -> str:
    """The report of `harness.runs.services.features` for people."""
    families = [family["name"] for family in report["families"]]
    budget = report["budget"]
    boards = [family["name"] for family in report["families"] if family["board"]]
    lines = [
        f"{report['dictionary']} ({report['dictionary_id'][:12]}) of {report['model']} on "
        f"{report['task']}: strongest of {report['tokens']:,} tokens, labels chosen on "
        f"{min(budget['label_tokens'], report['tokens']):,}, confirmed on {budget['held_out']:,} "
        "held-out sequences",
        "",
        "Features whose label is confirmed, by family (precise: with a concept that is true at "
        "95 % of their tokens, whatever its base rate):",
        "",
        _labels(report["subjects"], families),
        "",
        "Coverage: mean over a family's concepts of the best F1 of any feature:",
        "",
        _shares([(one["name"], one["coverage"]) for one in report["subjects"]], families),
        "",
        "Boards rebuilt from precise features, F1 on held-out sequences:",
        "",
        _shares(_rebuilt(report), boards),
    ]
    if report["probes"]:
        rows = [(one["site"], one["f1"]) for one in report["probes"]]
        lines += ["", "Least-squares probes of the stream, F1:", "", _shares(rows, families)]
    for panel in report["panels"]:
        if panel["asked"]:
            lines += ["", *_panel_lines(panel, report["families"])]
    return "\n".join(lines)


def _panel_lines(panel: Data, families: Sequence[Data]) -> list[str]:
    """A feature that was asked for: what is true where it is strongest, and its examples."""
    if not panel["tokens"]:
        return [f"{panel_title(panel)}; never active"]
    shares = [
        (panel["share"][family["name"]][at], panel["base"][family["name"]][at], concept)
        for family in families
        for at, concept in enumerate(family["concepts"])
    ]
    shares.sort(key=lambda one: one[1] - one[0])
    return [
        f"{panel_title(panel)}; active at {panel['active']:.1%}; of its {panel['tokens']:,} "
        "strongest tokens:",
        *(
            f"  {concept} at {with_lift(share, base)}"
            for share, base, concept in shares[:_MOST]
            if share > base
        ),
        *(
            f"  {one['strength']:.2f} at position {one['position']} of {last_tokens(one, 60)}"
            for one in panel["examples"]
        ),
    ]


def _labels(subjects: Sequence[Data], families: Sequence[str]) -> str:
    head = ["site", "features", "alive", "L0", "precise", "confirmed", *families]
    rows = [
        [
            one["name"],
            str(one["features"]),
            str(one["alive"]),
            f"{one['active']:.1f}",
            str(one["precise"]),
            str(one["confirmed"]),
            *(str(one["by_family"][family]) for family in families),
        ]
        for one in subjects
    ]
    return grid(head, rows, "github")


def _rebuilt(report: Data) -> list[tuple[str, Mapping[str, float]]]:
    """By subject, and by all sites of a kind together."""
    rows = [(one["name"], one["rebuilt"]) for one in report["subjects"]]
    for one in report["together"]:
        kind = "" if one["kind"] == "features" else f" ({one['kind']})"
        rows.append((f"all sites{kind}", one["rebuilt"]))
    return rows


def _shares(rows: Sequence[tuple[str, Mapping[str, float]]], names: Sequence[str]) -> str:
    cells = [[name, *(f"{values[one]:.3f}" for one in names)] for name, values in rows]
    return grid(["site", *names], cells, "github")


def write_report(report: Data, folder: Path) -> list[Path]:
    """Write `features.json` and an SVG for each panel; returns the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "features.json"]
    write(paths[0], (json.dumps(report, indent=1, allow_nan=False) + "\n").encode())
    for panel in report["panels"]:
        path = folder / f"{panel['site']}.{panel['feature']}.svg"
        write(path, panel_svg(panel, report).encode())
        paths.append(path)
    return paths
