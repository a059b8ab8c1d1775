"""The published frontiers: whole grids, ratios computed again from the CSV, tables of the docs."""

from __future__ import annotations

import csv
import math
import re
from pathlib import Path

import pytest
from scipy import stats

from harness.runs.plan import expand
from harness.spec.load import Library

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "harness" / "docs" / "sparse-models.md"

LEARNED = ("heaviside_masks_sparse", "heaviside_masks_range")
JOINED = " + ".join(LEARNED)

Sizes = dict[tuple[str, str], int]
"""Weights by task and the last letter of the model's name, its training seed."""


def rows_of(name: str) -> list[dict[str, str]]:
    with (ROOT / "results" / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def text_of(name: str) -> str:
    return (ROOT / "results" / f"{name}.md").read_text()


def sizes_of(name: str, arm: str, *methods: str) -> Sizes:
    """The smallest circuit of each cell that reaches its own target, and 0.15 on the test pairs."""
    best: dict[tuple[str, str], tuple[int, int]] = {}
    for row in rows_of(name):
        if row["model"][:-2] != arm or row["method"] not in methods:
            continue
        if row["reached"] != "no" and float(row["task_loss"]) <= 0.15:
            pair, size = (row["task"], row["model"][-1]), (int(row["weights"]), int(row["size"]))
            best[pair] = min(size, best.get(pair, size))
    return {pair: size[0] for pair, size in best.items()}


def ratio(above: Sizes, below: Sizes) -> str:
    """As the tables print it: `72.1 (17.5–297), n = 7`."""
    logs = [math.log(above[pair] / below[pair]) for pair in above.keys() & below.keys()]
    n, mean = len(logs), math.fsum(logs) / len(logs)
    spread = math.sqrt(math.fsum((x - mean) ** 2 for x in logs) / (n - 1) / n)
    half = float(stats.t.ppf(0.975, n - 1)) * spread
    value, low, high = (
        f"{x:.0f}" if x >= 100 else f"{x:.3g}"
        for x in map(math.exp, (mean, mean - half, mean + half))
    )
    return f"{value} ({low}–{high}), n = {n}"


def printed(text: str, title: str, row: str) -> dict[str, str]:
    """A row of the table below the line that begins with a title, by column."""
    lines = text[text.index(title) :].splitlines()
    header = next(line for line in lines if line.startswith("|"))
    chosen = next(line for line in lines if line.startswith(f"| {row} "))
    columns, cells = ([x.strip() for x in one.strip("|").split("|")] for one in (header, chosen))
    return dict(zip(columns, cells, strict=True))


@pytest.mark.parametrize("name", ["weight_sparse"])
def test_a_published_grid_is_whole(name: str) -> None:
    library = Library()
    planned = {
        (cell.task.spec.name, cell.model.name, cell.method.name)
        for cell in expand(library.suite(name), library).cells
    }
    measured = {
        (row["task"], row["model"], row["method"]) for row in rows_of(name) if row["status"] == "ok"
    }
    assert measured == planned


@pytest.mark.parametrize(
    "arm", ["idioms-dense", "idioms-dense-abstopk", "idioms-sparse-no-abstopk"]
)
def test_ratios_of_arms_follow_from_the_rows(arm: str) -> None:
    sparse = sizes_of("weight_sparse", "idioms-sparse", *LEARNED)
    expected = ratio(sizes_of("weight_sparse", arm, *LEARNED), sparse)
    assert printed(text_of("weight_sparse"), f"{JOINED}: weights", "ratio to")[arm] == expected


@pytest.mark.parametrize("name", ["weight_sparse"])
def test_ratios_of_methods_follow_from_the_rows(name: str) -> None:
    learned = LEARNED if name == "weight_sparse" else ("heaviside_masks_cleaned",)
    other = "eap" if name == "weight_sparse" else "eap_cleaned"
    expected = ratio(
        sizes_of(name, "idioms-sparse", other), sizes_of(name, "idioms-sparse", *learned)
    )
    assert printed(text_of(name), "Weights of others' circuits", other)["idioms-sparse"] == expected


def test_models_of_equal_seed_are_matched() -> None:
    """Within 0.005 nats of excess; how far their task losses are apart is printed beside it."""
    apart = re.search(r"at most (\d\.\d+) nats of excess apart", text_of("weight_sparse"))
    assert apart is not None
    assert float(apart[1]) <= 0.005


def test_the_docs_show_the_published_tables() -> None:
    docs = DOCS.read_text()
    *parts, capability = (
        part for part in text_of("weight_sparse").split("\n\n") if part.startswith("|")
    )
    assert len(parts) == 4
    assert "| arm " in capability
    assert all(part in docs for part in parts)
