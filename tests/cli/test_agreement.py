"""What tables, comparisons and pages show is what the results hold, to the last digit shown.

All of it is computed here once more from the files of a run alone: `result.json` of its cells, the
examples and times beside it. Nothing of the package is used but its commands.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from statistics import fmean, median_low
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file

from harness.cli.main import main

RUN = Path("results/trial")
AT = 1  # place of the size 0.1 in the grid of the task
DRAWS, SEED = 1000, 20240626
METHODS = {"eap": "eap", "flow": "information_flow_routes", "chance": "random"}


@dataclass(frozen=True)
class Stored:
    """What lies in a cell's folder."""

    result: dict[str, Any]
    timing: dict[str, Any]
    examples: dict[str, Any]


SOLVED = {"n_layers: 1": "n_layers: 2", "d_model: 8": "d_model: 32", "steps: 10": "steps: 200"}


def ran(measuring: Any, seeds: Sequence[int]) -> dict[str, list[Stored]]:
    """Cells of a small real run by method, in the order of their seeds."""
    suite = measuring.suite("trial", ["toy"], list(METHODS))
    suite.write_text(suite.read_text().replace("seeds: [0]", f"seeds: {list(seeds)}"))
    measuring("run", "trial")
    cells: dict[str, list[Stored]] = {}
    for folder in RUN.glob("cells/*"):
        result, timing = (
            json.loads((folder / name).read_text()) for name in ("result.json", "timing.json")
        )
        one = Stored(result, timing, load_file(folder / "examples.safetensors"))
        cells.setdefault(result["method"], []).append(one)
    for group in cells.values():
        group.sort(key=lambda one: one.result["seed"])
    assert {len(group) for group in cells.values()} == {len(seeds)}
    return cells


# ---------------------------------------------------------------- computed once more
def resamples(n: int, *key: int) -> Any:
    draws = np.random.default_rng([SEED, *key, n]).multinomial(n, np.full(n, 1 / n), size=DRAWS)
    return draws / n


def faithfulness_draws(one: Stored) -> Any:
    weights = resamples(one.examples["whole/metric"].shape[0])
    whole, empty = (weights @ one.examples[f"{name}/metric"] for name in ("whole", "empty"))
    curve = weights @ one.examples["curve/metric"].T
    return (curve - empty[:, None]) / (whole - empty)[:, None]


def area_draws(one: Stored, name: str) -> Any:
    sizes = [point["size_requested"] for point in one.result["curve"]]
    if name.endswith("log"):
        logs = [math.log10(size) for size in sizes]
        sizes = [(x - logs[0]) / (logs[-1] - logs[0]) for x in logs]
    faithful = faithfulness_draws(one)
    height = np.abs(1 - faithful) if name.startswith("cmd") else faithful
    return sum(
        (sizes[i + 1] - sizes[i]) * (height[:, i] + height[:, i + 1]) / 2
        for i in range(len(sizes) - 1)
    )


def point_draws(one: Stored, name: str) -> Any:
    if name == "faithfulness":
        return faithfulness_draws(one)[:, AT]
    values = one.examples[f"curve/{name}"][AT]
    return resamples(len(values)) @ values


def ends(draws: Sequence[Any]) -> tuple[float, float]:
    seeds = resamples(len(draws), 1)
    mean = sum(seeds[:, [place]].T[0] * one for place, one in enumerate(draws))
    low, high = np.quantile(mean, [0.025, 0.975])
    return float(low), float(high)


def estimated(cells: Sequence[Stored], stored: Sequence[dict[str, Any]], draws: Any) -> Any:
    """Value and ends of the interval: with one seed they stand in `result.json`."""
    value = fmean(one["value"] for one in stored)
    if len(cells) == 1:
        return value, stored[0]["low"], stored[0]["high"]
    return value, *ends([draws(one) for one in cells])


def fixed(value: float, digits: int = 3) -> str:
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def with_interval(estimate: tuple[float, float, float]) -> str:
    value, low, high = estimate
    return f"{fixed(value)} ±{fixed((high - low) / 2)}"


def estimates(cells: Sequence[Stored]) -> dict[str, tuple[float, float, float]]:
    """By the name of the column in CSV."""
    areas = {
        name: estimated(
            cells,
            [one.result["summary"][name] for one in cells],
            lambda one, name=name: area_draws(one, name),
        )
        for name in ("cmd", "cpr", "cmd_log", "cpr_log")
    }
    return areas | {
        name: estimated(
            cells,
            [one.result["curve"][AT][name] for one in cells],
            lambda one, name=name: point_draws(one, name),
        )
        for name in ("faithfulness", "kl", "accuracy")
    }


HEADINGS = {
    "CMD ↓": "cmd",
    "CPR ↑": "cpr",
    "CMD log ↓": "cmd_log",
    "f @10% ↑": "faithfulness",
    "KL @10% ↓": "kl",
    "accuracy @10% ↑": "accuracy",
}


def bits(size: int, total: int) -> str:
    return fixed(math.log2(math.comb(total, size)), 1)


def method_row(cells: Sequence[Stored]) -> dict[str, str]:
    """What the wide table shows of a method, by heading."""
    results, times = [one.result for one in cells], [one.timing for one in cells]
    size, total = median_low([r["curve"][AT]["size"] for r in results]), results[0]["total"]
    reached = []
    for level in ("0.85", "0.95", "0.99"):
        sizes = [r["summary"][f"size_at_{level}"] for r in results]
        median = median_low([math.inf if one is None else one for one in sizes])
        reached.append("–" if median == math.inf else str(median))
    bound = "≤ " if any(r["summary"]["size_at"] == "grid" for r in results) else ""
    busy = any(
        abs(t["cost_fb_wall"] - t["cost_fb"]) >= 0.5
        and not t["cost_fb"] / 2 < t["cost_fb_wall"] < t["cost_fb"] * 2
        for t in times
    )
    shown = {heading: with_interval(estimates(cells)[name]) for heading, name in HEADINGS.items()}
    return shown | {
        "edges f≥.85/.95/.99 ↓": bound + " / ".join(reached),
        "edges @10%": str(size),
        "bits @10% ↓": bits(size, total),
        "cost": fixed(fmean(t["cost_fb"] for t in times), 2) + ("†" if busy else ""),
        "wall": fixed(fmean(t["cost_fb_wall"] for t in times), 2),
        "seeds": f"{len(cells)}/{len(cells)}",
    }


def fixed_row(result: dict[str, Any], kind: str) -> dict[str, str]:
    """What it shows of the whole model or the empty circuit."""
    stored = result[kind]
    shown = dict.fromkeys(method_row_headings(), "")
    for heading in ("f @10% ↑", "KL @10% ↓", "accuracy @10% ↑"):
        one = stored[HEADINGS[heading]]
        shown[heading] = with_interval((one["value"], one["low"], one["high"]))
    shown["edges @10%"] = str(result["total"] if kind == "whole" else 0)
    return shown | {"bits @10% ↓": "0.0", "#": ""}


def method_row_headings() -> list[str]:
    more = ["edges f≥.85/.95/.99 ↓", "edges @10%", "bits @10% ↓", "cost", "wall", "seeds"]
    return [*HEADINGS, *more]


def ranks(run: dict[str, list[Stored]]) -> dict[str, str]:
    """From the best on: who overlaps with the first of a group is in it."""
    cmd = {name: estimates(run[name])["cmd"] for name in METHODS}
    groups: list[list[str]] = []
    for name in sorted(cmd, key=lambda one: (cmd[one][0], one)):
        _, low, high = cmd[name]
        if groups and low <= cmd[groups[-1][0]][2] and cmd[groups[-1][0]][1] <= high:
            groups[-1].append(name)
        else:
            groups.append([name])
    places: dict[str, str] = {}
    for group in groups:
        place = f"{len(places) + 1}{'≈' if len(group) > 1 else ''}"
        places |= dict.fromkeys(group, place)
    return places


def board(run: dict[str, list[Stored]]) -> dict[str, dict[str, str]]:
    """The whole leaderboard: rows by method, fields by heading."""
    first = run["eap"][0].result
    return {
        **{name: {**method_row(run[name]), "#": ranks(run)[name]} for name in METHODS},
        "whole model": fixed_row(first, "whole"),
        "empty circuit": fixed_row(first, "empty"),
        "paths (control)": {**method_row(run["paths"]), "#": ""},
    }


# ---------------------------------------------------------------- as shown
def shown_by(*arguments: str) -> str:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def markdown_rows(text: str) -> tuple[list[str], list[list[str]]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    split = [[part.strip() for part in line.strip("|").split("|")] for line in lines]
    return split[0], split[2:]


class FirstTable(HTMLParser):
    """Headings, fields and the numbers behind them of the table in `#board-1`."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.numbers: list[list[str]] = []
        self._inside, self._field = False, False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self._inside |= found.get("id") == "board-1"
        if self._inside and tag == "tr":
            self.rows.append([])
            self.numbers.append([])
        if self._inside and tag in ("th", "td"):
            self.rows[-1].append("")
            self.numbers[-1].append(found.get("data-value") or "")
            self._field = True

    def handle_endtag(self, tag: str) -> None:
        self._inside &= tag != "article"
        self._field &= tag not in ("th", "td")

    def handle_data(self, data: str) -> None:
        if self._inside and self._field:
            self.rows[-1][-1] += data


@pytest.mark.slow
def test_everything_shown_is_what_the_files_hold(measuring: Any) -> None:
    for name, kind in METHODS.items():
        text = measuring.method(name).read_text()
        measuring.write(f"specs/methods/{name}.yaml", text.replace("kind: fake", f"kind: {kind}"))
    task = measuring.task("toy")
    for old, new in SOLVED.items():
        task.write_text(task.read_text().replace(old, new))
    for seeds in ((0,), (0, 1, 2)):
        check(ran(measuring, seeds))


def check(run: dict[str, list[Stored]]) -> None:
    expected = board(run)
    headings, rows = markdown_rows(shown_by("table", "trial", "--wide"))
    by_method = [dict(zip(headings, row, strict=True)) for row in rows]
    assert {one.pop("method"): one for one in by_method} == expected

    headings, rows = markdown_rows(shown_by("table", "trial"))
    for row in rows:
        narrow = dict(zip(headings, row, strict=True))
        wide = expected[narrow.pop("method")]
        for heading, text in narrow.items():
            if heading == "f≥.95 ↓":
                assert text == middle(wide["edges f≥.85/.95/.99 ↓"])
            elif heading != "cost":  # which is cut to fewer digits
                assert text == shorter(wide[heading]), heading

    shown_by("report", "trial", "-o", "page.html")
    page = FirstTable(Path("page.html").read_text(encoding="utf-8"))
    columns = page.rows[0]
    assert set(method_row_headings()) <= set(columns)
    for texts, numbers in zip(page.rows[1:], page.numbers[1:], strict=True):
        one = dict(zip(columns, texts, strict=True))
        name = one["method"]
        assert {heading: one[heading] for heading in expected[name]} == expected[name]
        if (method := name.removesuffix(" (control)")) in run:
            behind = dict(zip(columns, numbers, strict=True))
            for heading, column in HEADINGS.items():
                assert float(behind[heading]) == pytest.approx(
                    estimates(run[method])[column][0], rel=1e-14, abs=1e-15
                )

    check_csv(run, shown_by("table", "trial", "--format", "csv"))
    for a, b in (("eap", "chance"), ("chance", "flow"), ("flow", "eap")):
        check_comparison(run, a, b)


def shorter(text: str) -> str:
    """As narrow tables write it: four digits in all of numbers of one, no zero before a point."""
    value, sign, half = text.partition(" ±")
    if not sign:
        return text
    return f"{value} ±{half.removeprefix('0')}" if abs(float(value)) < 10 else text


def middle(text: str) -> str:
    """Of three sizes the second, with the sign that it is a bound."""
    sizes = text.removeprefix("≤ ").split(" / ")
    size = sizes[1] if len(sizes) > 1 else ""
    return size if size in ("", "–") or "≤" not in text else f"≤ {size}"


def check_csv(run: dict[str, list[Stored]], text: str) -> None:
    for row in csv.DictReader(io.StringIO(text)):
        if row["kind"] not in ("method", "control"):
            continue
        for name, (value, low, high) in estimates(run[row["method"]]).items():
            stated = [float(row[key]) for key in (name, f"{name}_low", f"{name}_high")]
            assert stated == pytest.approx([value, low, high], rel=1e-9, abs=1e-12)


def check_comparison(run: dict[str, list[Stored]], a: str, b: str) -> None:
    pairs = list(zip(run[a], run[b], strict=True))
    cmd = fmean(
        x.result["summary"]["cmd"]["value"] - y.result["summary"]["cmd"]["value"] for x, y in pairs
    )
    faithful = fmean(
        x.result["curve"][AT]["faithfulness"]["value"]
        - y.result["curve"][AT]["faithfulness"]["value"]
        for x, y in pairs
    )
    low, high = ends([area_draws(x, "cmd") - area_draws(y, "cmd") for x, y in pairs])
    between = ends(
        [point_draws(x, "faithfulness") - point_draws(y, "faithfulness") for x, y in pairs]
    )
    verdict = "A better" if high < 0 else "B better" if low > 0 else "tie"
    text = shown_by("compare", f"trial:{a}", f"trial:{b}")
    (row,) = markdown_rows(text)[1]
    assert row == [
        *("toy", str(len(pairs)), fixed(cmd), f"({fixed(low)}, {fixed(high)})"),
        *(fixed(faithful), f"({fixed(between[0])}, {fixed(between[1])})", verdict),
    ]
    wins = {"A better": (1, 0, 0), "tie": (0, 1, 0), "B better": (0, 0, 1)}[verdict]
    assert re.findall(r"(\d) wins, (\d) ties, (\d) losses", " ".join(text.split())) == [
        tuple(map(str, wins))
    ]
