"""What notebooks show: the same texts as the terminal, differences marked, every name escaped."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from support.stored_cells import cell_of, save, stored

import harness
from harness.datasets.pairs import PromptPairs
from harness.datasets.tokenizers import Vocabulary
from harness.reports.compare import compare, find_side
from harness.reports.leaderboard import leaderboard
from harness.reports.notebook.prompts import SHOWN, pairs_html, pairs_text
from harness.runs.prompts.words import Outputs

EVIL = "<script>alert(1)</script>\"'&\x1b[31m\u202e"
VOID = {"br", "meta", "img"}


class Fragment(HTMLParser):
    """Reads HTML: every element with its class and text, in order; refuses what is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[tuple[str, str, list[str]]] = []
        self.elements: list[tuple[str, str, str]] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in VOID | {"script"}
        assert not [name for name, _ in attrs if name.startswith("on")]
        self.open.append((tag, dict(attrs).get("class") or "", []))

    def handle_endtag(self, tag: str) -> None:
        name, kind, text = self.open.pop()
        assert name == tag
        self.elements.append((name, kind, "".join(text)))

    def handle_data(self, data: str) -> None:
        for _, _, text in self.open:
            text.append(data)

    def texts(self, tag: str, kind: str | None = None) -> list[str]:
        return [text for name, of, text in self.elements if name == tag and kind in (None, of)]


def drawn(n: int = 3, seed: int = 0) -> tuple[PromptPairs, Outputs]:
    """Random pairs of 4 to 7 tokens; two positions are read in every other one."""
    rng = np.random.default_rng(seed)
    clean, corrupted = rng.integers(0, 5, (2, n, 7))
    lengths = rng.integers(4, 8, n)
    positions = np.stack([lengths - 1, np.where(np.arange(n) % 2, 0, -1)], axis=1)
    good, bad = rng.integers(0, 5, (2, n, 2, 1))
    pairs = PromptPairs(clean, corrupted, lengths, positions, good, bad)
    return pairs, Outputs(Vocabulary("words", ("a", "b", "c", " d "), True), None)


# ---------------------------------------------------------------- prompt pairs
def test_what_differs_is_marked_and_what_is_read_is_boxed() -> None:
    pairs, outputs = drawn()
    page = Fragment(pairs_html(pairs, outputs, numbers=False))
    lengths = pairs.lengths.tolist()
    words = page.texts("code")[: 2 * sum(lengths)]
    named = {token: name.strip() for token, name in enumerate(outputs.tokenizer.tokens)}
    expected, marked, boxed = [], [], []
    for row, length in enumerate(lengths):
        read = {int(at) for at in pairs.positions[row] if at >= 0}
        for twin, other in ((pairs.clean, pairs.corrupted), (pairs.corrupted, pairs.clean)):
            for at in range(length):
                name = named[int(twin[row, at])]
                expected.append(name)
                marked += [name] if twin[row, at] != other[row, at] else []
                boxed += [name] if at in read else []
    assert [word.strip("␣") for word in words] == expected
    assert [word.strip("␣") for word in page.texts("mark")[:-1]] == marked
    assert [word.strip("␣") for word in page.texts("code", "read")[:-1]] == boxed
    assert 0 < len(marked) < len(expected)


def test_answers_of_each_position_are_named() -> None:
    pairs, outputs = drawn()
    (zero, one, _) = [
        text
        for text in Fragment(pairs_html(pairs, outputs, numbers=False)).texts("td", "tokens")
        if text.startswith(("right", "0", "1", "2", "3", "4", "5", "6"))
    ]
    tokens = outputs.tokenizer.tokens

    def said(row: int, slot: int) -> str:
        good, bad = tokens[pairs.good[row, slot, 0]], tokens[pairs.bad[row, slot, 0]]
        return f"right {good}   wrong {bad}".replace(" d ", "␣d␣")

    assert zero == said(0, 0)
    assert one == f"{pairs.positions[1, 0]}: {said(1, 0)}; 0: {said(1, 1)}"


def test_many_pairs_are_counted_in_text_and_in_html() -> None:
    pairs, outputs = drawn(SHOWN + 1200)
    for text in (
        pairs_html(pairs, outputs, numbers=False),
        pairs_text(pairs, outputs, numbers=False),
    ):
        assert "and 1,200 more pairs" in text
    assert "more pairs" not in pairs_html(*drawn(SHOWN), numbers=False)


def test_tokens_are_text() -> None:
    pairs, _ = drawn()
    outputs = Outputs(Vocabulary("words", (EVIL, *"abc"), True), None)
    text = pairs_html(pairs, outputs, numbers=False)
    assert "<script>alert(1)\\x1b" not in text
    assert not {"\x1b", "\u202e"} & set(text)
    assert any(one.startswith("<script>") for one in Fragment(text).texts("code"))


def test_the_interface_shows_its_pairs_whatever_is_taken_of_them() -> None:
    task = harness.load_task("known/reverse")
    pairs = harness.prompt_pairs(task, n=5)
    assert Fragment(pairs._repr_html_()).texts("th").count("corrupted") == 5
    first = pairs.take(slice(1))
    assert Fragment(first._repr_html_()).texts("th").count("corrupted") == 1
    assert "pair 0" in repr(first)
    assert first.digest() == task.data.pairs("test", 5, 0).take(slice(1)).digest()


# ---------------------------------------------------------------- tables
def cells_of_markdown(text: str) -> list[list[str]]:
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ")]
    return [[field.strip() for field in row] for row in rows]


def test_leaderboards_say_what_the_terminal_says(tmp_path: Path) -> None:
    board = leaderboard(stored(tmp_path / "run", [cell_of(m) for m in ("best", "worse")]))
    page = Fragment(board._repr_html_())
    rows = cells_of_markdown(repr(board))
    assert [text for row in rows[1:] for text in row] == page.texts("td")
    assert rows[0] == page.texts("th")
    assert "--columns" not in "".join(page.texts("p"))
    assert "No results yet" in leaderboard([])._repr_html_()


def test_comparisons_say_what_the_terminal_says(tmp_path: Path) -> None:
    save(tmp_path / "run", [cell_of(m, seed=s) for m in ("best", "worse") for s in (0, 1)])
    comparison = compare(*(find_side(tmp_path, one) for one in ("best", "worse")))
    page = Fragment(comparison._repr_html_())
    rows = cells_of_markdown(repr(comparison))
    assert [text for row in rows[1:] for text in row] == page.texts("td")
    assert "A better" in page.texts("td")
    assert page.texts("p")[0].startswith("A = best, B = worse.")


def test_names_in_tables_are_text(tmp_path: Path) -> None:
    cells = [cell_of("best", task=EVIL), cell_of("worse", task=EVIL)]
    cells = [replace(cell, model_name=EVIL) for cell in cells]
    save(tmp_path / "run", cells)
    comparison = compare(*(find_side(tmp_path, one) for one in ("best", "worse")))
    board = harness.leaderboard("run", results=tmp_path)
    for text in (comparison._repr_html_(), board._repr_html_()):
        Fragment(text)
        assert not {"\x1b", "\u202e"} & set(text)
        assert "&lt;script&gt;alert(1)" in text


def test_runs_are_compared_and_tabled_by_name(tmp_path: Path) -> None:
    save(tmp_path / "run", [cell_of(m) for m in ("best", "worse")])
    assert harness.compare("best", "worse", results=tmp_path).count("A better") == 1
    (board,) = harness.leaderboard("run", results=tmp_path).boards
    assert [line.method for line in board.lines if line.kind == "method"] == ["best", "worse"]
    with pytest.raises(harness.HarnessError, match="runs: run"):
        harness.compare("best", "missing", results=tmp_path)


def test_measures_of_a_circuit_are_a_table() -> None:
    task = harness.load_task("known/reverse")
    model = harness.load_model(task)
    measured = harness.evaluate(harness.discover(task, model, "random", size=0.5), task, model)
    fields = Fragment(measured._repr_html_()).texts("td")
    assert fields[::3] == list(measured)
    shown = [
        f"{value} {ends}".strip() for value, ends in zip(fields[1::3], fields[2::3], strict=True)
    ]
    assert shown == list(map(repr, measured.values()))
