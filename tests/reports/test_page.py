"""The page of a run: harmless whatever names hold, the same bytes, and the numbers of the table."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import itertools
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.channels import gated, random_kept
from support.checkout import ROOT
from support.fake_cells import a_cell, a_method, a_task, output
from support.slow_reference import small_model
from support.stored_cells import cell_of
from support.stored_pages import PROVENANCE, circuit_of, stored_with_circuits

from harness.circuits.circuit import Circuit
from harness.circuits.drawing.layout import MOST, drawing, location_of, row_of
from harness.reports.figures.pareto import front
from harness.reports.leaderboard import leaderboard
from harness.reports.page.axes import Axis, log_axis
from harness.reports.page.charts import Series, chart
from harness.reports.page.document import page
from harness.reports.page.trainings import trainings
from harness.reports.table import render
from harness.runs.plan import Plan
from harness.runs.store import CellStore
from harness.runs.store.models import ModelStore
from harness.runs.store.record import StoredCell, load_cells, record

VOID = {"meta", "input", "br", "img", "link"}
EVIL = "<script>alert(1)</script>\"'><img src=x>\x1b[31m\u202e{{ 7 * 7 }}"


class Parsed(HTMLParser):
    """Tags, attributes and text; refuses tags that are not closed in their order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.text, self.downloads, self.open = "", {}, []  # type: ignore[var-annotated]
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        found = dict(attrs)
        if "download" in found:
            content = str(found["href"]).partition("base64,")[2]
            self.downloads[found["download"]] = base64.b64decode(content).decode()
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def cells(tmp_path: Path) -> list[StoredCell]:
    done = [cell_of(name, seed=seed) for name in ("best", "worse", "control") for seed in (0, 1)]
    return stored_with_circuits(tmp_path / "run", done, [cell_of("same")])


def test_the_page_is_sound_and_self_contained(cells: list[StoredCell]) -> None:
    text = page(cells)
    parsed = Parsed(text)
    assert len(text) < 2_000_000
    links = [value for _, name, value in parsed.attributes if name in ("src", "href", "action")]
    assert links
    assert all(str(link).startswith(("#", "data:")) for link in links)
    assert "http:" not in text.replace("http-equiv", "")
    ids = [value for _, name, value in parsed.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {str(link)[1:] for link in links if str(link).startswith("#")} <= set(ids)
    assert {"leaderboard", "curves", "circuits", "provenance", "board-1"} <= set(ids)
    assert not [name for _, name, _ in parsed.attributes if name.startswith("on")]


def test_the_command_that_made_a_run_is_set_as_code(cells: list[StoredCell]) -> None:
    text = page(cells)
    assert "Made by <code>harness run run</code>, 6 cells" in text
    assert "Made by `" not in text


def test_there_is_a_choice_of_tags_where_tasks_have_any(cells: list[StoredCell]) -> None:
    task = cells[0].entry.task
    assert 'data-filter="tag"' not in page(cells)
    text = page(cells, tags={task: ("language", "code")})
    assert 'data-tags="language,code"' in text
    (chosen,) = re.findall(r'<select data-filter="tag">(.*?)</select>', text)
    assert re.findall(r"<option>(\w+)", chosen) == ["code", "language"]


def test_only_its_own_script_may_run(cells: list[StoredCell]) -> None:
    text = page(cells)
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text
    assert "default-src 'none'" in text


def test_equal_results_give_equal_bytes(tmp_path: Path) -> None:
    done = [cell_of("best"), cell_of("worse")]
    one, other = (stored_with_circuits(tmp_path / name / "run", done) for name in ("a", "b"))
    assert page(one) == page(other)


def test_numbers_are_those_of_the_table(cells: list[StoredCell]) -> None:
    parsed = Parsed(page(cells, 0.5))
    board = leaderboard(cells, 0.5)
    assert parsed.downloads["leaderboard.csv"] == render(board, "csv")
    assert parsed.downloads["leaderboard.json"] == render(board, "json")
    shown = re.findall(
        r'<tr class="(\w+)(?: partial)?" data-method="([^"]*)">(.*?)</tr>', page(cells, 0.5)
    )
    records = list(csv.DictReader(io.StringIO(parsed.downloads["leaderboard.csv"])))
    assert [(kind, method) for kind, method, _ in shown] == [
        (one["kind"], one["method"]) for one in records
    ]
    for (_, _, fields), one in zip(shown, records, strict=True):
        values = re.findall(r'data-value="([^"]*)"', fields)
        for name in ("cmd", "cpr", "faithfulness", "kl", "bits", "cost_fb", "size_at_0.95"):
            assert one[name] in values, name


def test_a_rounded_number_is_that_of_the_results(cells: list[StoredCell]) -> None:
    """The mean over seeds of what `result.json` says, to the last digit shown."""
    results = [c.result for c in cells if c.entry.method == "best" and c.result is not None]
    cmd = sum(result["summary"]["cmd"]["value"] for result in results) / len(results)
    row = re.search(r'data-method="best">(.*?)</tr>', page(cells))
    assert row is not None
    assert f">{cmd:.3f} ±" in row[1]


def test_names_are_text_whatever_they_hold(tmp_path: Path) -> None:
    task = a_task(EVIL)
    done = [a_cell(task, a_method(name, good=0.9)) for name in (EVIL, "x\u2066y")]
    failed = [a_cell(task, a_method("killed"))]
    text = page(stored_with_circuits(tmp_path / "run", done, failed))
    parsed = Parsed(text)
    assert parsed.tags.count("script") == 1
    assert not {"img", "b"} & set(parsed.tags)
    assert "<script>alert(1)</script>" in parsed.text
    assert "{{ 7 * 7 }}" in parsed.text
    assert "it was <b>killed</b>\\x1b[2J" in parsed.text
    for unsafe in ("\x1b", "\u202e", "\u2066"):
        assert unsafe not in text


def test_what_is_not_complete_is_seen(cells: list[StoredCell]) -> None:
    text = page(cells)
    assert "6 ok, 1 failed" in " ".join(Parsed(text).text.split())
    assert re.search(r'<tr class="method partial" data-method="same">', text)


def test_a_circuit_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    folder, cell = tmp_path / "run", cell_of("best")
    record(folder, Plan("run", (cell,)))
    CellStore(folder).publish(cell.id, output(cell), PROVENANCE)
    assert re.search("<p>Not drawn: .*circuit.safetensors", page(load_cells(folder)))


def test_a_page_without_results(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    record(folder, Plan("run", (cell_of("best"),)))
    text = page(load_cells(folder))
    assert "No cell of this task has a result" in text
    assert Parsed(text).tags.count("svg") == 0


# ---------------------------------------------------------------- shapes
VALUES = st.floats(1e-6, 1e6)


@given(st.lists(VALUES, min_size=1, max_size=8), st.booleans())
def test_axes_keep_order_and_their_ticks_are_inside(values: list[float], log: bool) -> None:
    axis = log_axis("x", values, 0, 1000)
    if not log:
        axis = Axis("x", min(values), max(values) + 1, 0, 1000)
    places = [axis.place(value) for value in sorted(values)]
    assert places == sorted(places)
    assert places[0] >= 0
    assert places[-1] <= 1000
    ticks = axis.ticks
    assert ticks
    for tick in ticks:
        assert tick.at == pytest.approx(axis.place(float(tick.label)), abs=0.2)


@given(st.integers(1, 30), st.integers(0, 5))
def test_labels_of_a_chart_do_not_lie_on_each_other(number: int, at: int) -> None:
    series = [Series(f"m{i}", 0, False, [0.1, 1], [0.2, at / 5], [None] * 2, [None] * 2)
              for i in range(number)]  # fmt: skip
    drawn = chart("t", "x", "y", series, (), (0.0, 1.0))
    assert drawn is not None
    labels = [line.label_y for line in drawn.lines]
    assert labels == sorted(labels)
    assert labels[-1] <= drawn.height
    assert all(b - a >= 9 for a, b in itertools.pairwise(labels))


def test_a_logarithmic_chart_leaves_out_what_it_cannot_hold() -> None:
    one = Series("m", 0, False, [0.0, 0.1, 1.0], [1.0, 0.0, 0.5], [None] * 3, [None] * 3)
    drawn = chart("t", "x", "kl", [one])
    assert drawn is not None
    assert len(drawn.lines[0].marks) == 1
    assert chart("t", "x", "kl", [replace(one, y=[None, None, None])]) is None


@pytest.mark.parametrize("scored", [True, False])
def test_edges_go_upwards_between_their_nodes(scored: bool) -> None:
    circuit = circuit_of(scored=scored)
    found = drawing(circuit)
    kept = {one.name for one in found.elements if one.kept}
    assert kept == set(circuit.elements())
    assert len(found.elements) == (min(MOST, len(circuit.space)) if scored else circuit.size)
    nodes = {node.name: node for node in found.nodes}
    for one in found.elements:
        assert one.name.startswith(f"{one.source}->{one.target}")
        source, target = nodes[one.source], nodes[one.target]
        assert source.y > target.y
        x, y, to_x, to_y = (float(n) for n in re.findall(r"[\d.]+", one.path)[:2]
                            + re.findall(r"[\d.]+", one.path)[-2:])  # fmt: skip
        assert source.x <= x <= source.x + source.width
        assert y == source.y
        assert target.x <= to_x <= target.x + target.width
        assert to_y == target.y + 22
    if scored:
        strengths = [abs(one.score) for one in found.elements if one.score is not None]
        assert strengths == sorted(strengths, reverse=True)
        assert [one.rank for one in found.elements] == list(range(len(found.elements)))


def test_channels_stand_at_their_locations_the_last_layer_first() -> None:
    space = replace(gated(small_model("gpt2-like")).space, wiring=None)
    scores = torch.randn(len(space), generator=torch.Generator().manual_seed(0)).double()
    found = drawing(Circuit(space, random_kept(space, 0.1), scores))
    assert found.nodes == ()
    placed = [one for place in found.places for one in place.elements]
    assert sorted(placed, key=lambda one: one.rank) == list(found.elements)
    for place in found.places:
        assert {location_of(one.name) for one in place.elements} == {place.name}
        assert [one.rank for one in place.elements] == sorted(one.rank for one in place.elements)
    layers = [int(place.name[1]) for place in found.places if place.name[0] in "am"]
    assert layers == sorted(layers, reverse=True)
    assert set(layers) == {0, 1}


def test_rows_follow_the_layers() -> None:
    names = ["input", "a0.h1", "m0@3", "a1.h0", "m1", "logits"]
    rows = [row_of(name)[0] for name in names]
    assert rows == sorted(set(rows))


# ---------------------------------------------------------------- examples, models, cost
def test_the_worst_prompts_show_as_text(tmp_path: Path) -> None:
    guess = {"top": [{"token": EVIL, "probability": 0.25, "answer": "wrong"}], "probability": 0.125}
    read = {"at": 1, "good": [" b"], "bad": [EVIL], "n_good": 3, "n_bad": 1, "kl": 0.5}
    pair = {"row": 7, "kl": 0.5, "clean": ["a", EVIL], "corrupted": ["a", "x"], "differ": [1],
            "reads": [read | {"model": guess, "circuit": guess}], "n_reads": 2}  # fmt: skip
    prompts = {"schema_version": 1, "size": 3, "n": 40, "answers_are_numbers": False,
               "pairs": [pair]}  # fmt: skip
    folder, cell = tmp_path / "run", cell_of("best")
    made = output(cell)
    record(folder, Plan("run", (cell,)))
    tensors = {**made.tensors, "prompts.json": json.dumps(prompts).encode()}
    CellStore(folder).publish(cell.id, replace(made, tensors=tensors), PROVENANCE)
    parsed = Parsed(page(load_cells(folder)))
    said = " ".join(parsed.text.split())
    assert parsed.tags.count("script") == 1
    assert "\x1b" not in parsed.text
    assert "the worst 1 of 40 pairs" in said
    assert "Pair 7, KL 0.5 nats; 1 more positions are read" in said
    assert "b and 2 more" in said
    assert "12.5 %" in said
    assert [v for tag, _, v in parsed.attributes if tag == "span"].count("word differs read") == 2


def test_older_cells_say_that_they_have_no_prompts(cells: list[StoredCell]) -> None:
    assert "Computed before prompts were stored with cells" in page(cells)


def test_a_training_log_is_drawn(cells: list[StoredCell]) -> None:
    store = ModelStore(cells[0].store.folder.parent / "models")
    own = cells[0].entry.model_id
    history = [{"step": n, "loss": 3 / n, "training_loss": 2 / n, "nonzeros": 90 - n,
                "tensors": {"w": 90 - n}} for n in (10, 20)]  # fmt: skip
    draft = store.draft(own)
    log = {"history": history, "budgets": {"w": {"entries": 100, "nonzeros": 70}}}
    (draft / "training.json").write_text(json.dumps(log))
    assert "No training log lies beside the results" in page(cells)
    store.publish(own, draft)
    (one,) = trainings(cells)
    assert ("held-out loss (nats)", "0.15") in one.facts
    assert ("of weights that may be", "100") in one.facts
    assert one.tensors == [("w", 70, 100)]
    assert [chart.title for chart in one.charts] == ["Loss", "Sparsity"]
    assert "No training log lies beside the results" not in page(cells)


@pytest.mark.parametrize(
    ("place", "charts"),
    [
        ("models/quotes-sparse-2l-64", ["Loss", "Accuracy", "Sparsity"]),
        ("dictionaries/othello6-k32", ["Loss", "Codes spliced in"]),
    ],
)
def test_the_log_of_shipped_weights_is_drawn(
    cells: list[StoredCell], place: str, charts: list[str]
) -> None:
    """Of those whose digests a cell's identity holds; of no others."""
    manifest = json.loads((ROOT / "specs" / place / "manifest.json").read_text())
    (weights,) = ({name: own} for name, own in manifest.items() if name.endswith(".safetensors"))
    part = {"model": {"weights": weights}} if "models" in place else {
        "dictionary": {"files": weights}
    }  # fmt: skip
    cell = replace(cells[0], entry=replace(cells[0].entry, identity=part))
    (*_, one) = trainings([cell])
    assert [chart.title for chart in one.charts] == charts
    assert dict(one.facts).keys() >= {"training loss", "steps"}
    other = {name: own[::-1] for name, own in weights.items()}
    changed = json.loads(json.dumps(part).replace(json.dumps(weights), json.dumps(other)))
    (*_, none) = trainings([replace(cell, entry=replace(cell.entry, identity=changed))])
    assert "No training log" in none.problem


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=1))
def test_nothing_dominates_the_front(points: list[tuple[int, int]]) -> None:
    best = front(points)
    assert set(best) <= set(points)
    for cost, value in points:
        beaten = [b for b in best if b[0] <= cost and b[1] >= value]
        assert beaten, "every point is dominated by, or is, one of the front"
    for (cost, value), (dearer, better) in itertools.pairwise(best):
        assert cost < dearer
        assert value < better
