"""The page in a real browser: it sorts, filters, resizes circuits, and fetches nothing.

From a file, and as `harness serve` shows it. Needs a Chromium, which `make browser` installs, and
is skipped where there is none.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from click.testing import CliRunner
from support.channels import gated, random_kept, thinned
from support.evil import EVIL, UNSAFE, write_results
from support.fake_cells import output
from support.served import serving
from support.slow_reference import small_model
from support.stored_cells import cell_of
from support.stored_pages import (
    PROVENANCE,
    circuit_of,
    nodes_of_circuit,
    stored_with_circuits,
    stored_with_nodes,
)

from harness.circuits.circuit import Circuit
from harness.circuits.gates.space import GatedSpace
from harness.circuits.gates.whiteboard import draw_circuit, ties_of
from harness.cli.main import main
from harness.reports.live.runs import LiveRuns
from harness.reports.page.document import page
from harness.runs.plan import Plan
from harness.runs.store import CellStore
from harness.runs.store.record import load_cells, record

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    done = [cell_of(method, task) for task in ("one", "two") for method in ("best", "worse")]
    stored_with_circuits(tmp_path / "run", done, [cell_of("same", "one")])
    return tmp_path / "run"


TAGS = {"one": ("brief", "both"), "two": ("both",)}


@pytest.fixture(params=["file", "served"])
def shown(request: Any, browser: Any, folder: Path, tmp_path: Path) -> Iterator[Any]:
    """The page with the network blocked; fails on errors, and on requests but for itself."""
    context = browser.new_context(offline=request.param == "file", accept_downloads=True)
    tab, errors, requests = context.new_page(), [], []
    tab.on("console", lambda message: errors.append(message.text))
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("request", lambda request: requests.append(request.url))
    if request.param == "file":
        file = tmp_path / "report.html"
        file.write_text(page(load_cells(folder), tags=TAGS), encoding="utf-8")
        tab.goto(file.as_uri())
        yield tab
        allowed = (file.as_uri(),)
    else:
        with serving(live(folder)) as server:
            tab.goto(server.url)
            yield tab
            allowed = (server.url, f"{server.url}state")
            tab.goto("about:blank")  # it asks no more before the server ends
        allowed = (*allowed, "about:blank")
    assert errors == []
    left = [url for url in requests if url.partition("#")[0] not in allowed]
    assert [url for url in left if not url.startswith("data:")] == []
    context.close()


def live(folder: Path) -> LiveRuns:
    return LiveRuns(lambda: [folder], 0.1, lambda names: TAGS)


def test_tables_are_sorted_and_filtered(shown: Any) -> None:
    methods = "#board-1 tbody tr.method td:nth-child(2)"
    assert shown.locator(methods).all_inner_texts()[:2] == ["best", "worse"]
    heading = shown.locator("#board-1 th:nth-child(3)")
    for direction in ("ascending", "descending"):
        heading.get_by_role("button").click()
        assert heading.get_attribute("aria-sort") == direction
        values = [
            float(one.get_attribute("data-value"))
            for one in shown.locator("#board-1 tbody td:nth-child(3)").all()
            if one.get_attribute("data-value")
        ]
        assert values == sorted(values, reverse=direction == "descending")
        assert len(values) == 2
    shown.get_by_label("task").select_option("two")
    assert not shown.locator("#board-1").is_visible()
    assert shown.locator("#board-2").is_visible()
    shown.locator("[data-filter=method]").fill("WORS")
    assert shown.locator("#board-2 tbody tr:visible").count() == 1
    assert shown.locator("#counted").inner_text() == "1 rows"


def test_tables_are_filtered_by_the_tags_of_their_task(shown: Any) -> None:
    boards = shown.locator(".board:visible")
    assert shown.locator("[data-filter=tag] option").all_inner_texts() == ["all", "both", "brief"]
    for tag, seen in (("brief", 1), ("both", 2), ("", 2)):
        shown.get_by_label("tag").select_option(tag)
        assert boards.count() == seen


def test_columns_unfold(shown: Any) -> None:
    heading = shown.locator("#board-1 th", has_text="CPR ↑")
    assert not heading.is_visible()
    shown.get_by_label("All columns").check()
    assert heading.is_visible()


def test_the_slider_says_how_many_edges_are_drawn(shown: Any) -> None:
    circuit = shown.locator("figure.circuit").first
    edges = circuit.locator("path.edge:not(.off)")
    stored = edges.count()
    for number in (0, 3, 7):
        circuit.get_by_role("slider").fill(str(number))
        assert edges.count() == number
    circuit.get_by_role("button", name="As stored").click()
    assert edges.count() == stored > 0


def test_a_node_tells_its_edges(shown: Any) -> None:
    circuit = shown.locator("figure.circuit").first
    node = circuit.locator("[data-node='logits']")
    node.focus()
    shown.keyboard.press("Enter")
    drawn = circuit.locator("path.edge:not(.off)[data-target='logits']")
    names = [one.get_attribute("data-name") for one in drawn.all()]
    said = circuit.locator(".chosen").inner_text()
    assert said.startswith("logits: reads ")
    assert all(str(name) in said for name in names)
    away = circuit.locator("path.edge.away:not(.off)").count()
    assert away + len(names) == circuit.locator("path.edge:not(.off)").count()


@contextmanager
def opened(browser: Any, cells: Any, tmp_path: Path) -> Iterator[Any]:
    """A page of these cells from its file, with no error."""
    file, errors = tmp_path / "own.html", []
    file.write_text(page(cells), encoding="utf-8")
    context = browser.new_context(offline=True)
    tab = context.new_page()
    tab.on("console", lambda message: errors.append(message.text))
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.goto(file.as_uri())
    yield tab
    assert errors == []
    context.close()


def accessible(tab: Any) -> None:
    for one in tab.locator("details").all():
        one.evaluate("one => { one.open = true; }")
    rules = ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]
    checked = Axe().run(tab, options={"runOnly": {"type": "tag", "values": rules}})
    assert checked.response["violations"] == [], checked.generate_report()


def test_a_head_tells_what_it_does(browser: Any, tmp_path: Path) -> None:
    circuit = circuit_of()
    nodes = nodes_of_circuit(circuit)
    cells = stored_with_nodes(tmp_path / "run", cell_of("best"), circuit, nodes)
    with opened(browser, cells, tmp_path) as tab:
        node = tab.locator("[data-node='a1.h0']")
        node.focus()
        tab.keyboard.press("Enter")
        assert node.get_attribute("aria-pressed") == "true"
        panel = tab.locator("figure.circuit .panel")
        facts = dict(
            zip(
                panel.locator("dt").all_inner_texts(),
                panel.locator("dd").all_inner_texts(),
                strict=True,
            )
        )
        (stored,) = (one for one in nodes["nodes"] if one["name"] == "a1.h0")
        assert float(facts["circuit without it"]) == pytest.approx(stored["without"] - 1.5)
        assert float(facts["model without it"]) == pytest.approx(1.0 - 2.0)
        assert float(facts["writes"]) == pytest.approx(stored["writes"])
        assert facts["looks at"] == "<b> 40%, a 30%"
        squares = panel.locator(".pattern rect")
        shares = [float(str(one.get_attribute("fill-opacity"))) for one in squares.all()]
        assert shares == [1.0, 0.5, 0.5, 0.2, 0.4, 0.4]
        accessible(tab)
        tab.keyboard.press("Enter")
        assert not panel.is_visible()


def test_true_edges_are_told_from_others_at_every_size(browser: Any, tmp_path: Path) -> None:
    circuit = circuit_of()
    nodes = nodes_of_circuit(circuit)
    true = set(nodes["true"])
    cells = stored_with_nodes(tmp_path / "run", cell_of("best"), circuit, nodes)
    with opened(browser, cells, tmp_path) as tab:
        figure = tab.locator("figure.circuit")
        kept = set(circuit.elements())
        counts = [len(true & kept), len(kept - true), len(true - kept)]
        keys = [figure.locator(f".key.{one}").inner_text() for one in ("hit", "extra", "missed")]
        assert [int(key.split()[0]) for key in keys] == counts

        def styled() -> list[int]:
            style = (
                "one => getComputedStyle(one).display + '|' + getComputedStyle(one).strokeDasharray"
            )
            looks = [one.evaluate(style) for one in figure.locator("path.edge").all()]
            return [looks.count(f"inline|{one}") for one in ("none", "2px, 4px", "8px, 5px")]

        assert styled() == counts
        figure.get_by_role("slider").fill("4")
        assert sum(styled()) == 4 + styled()[2]
        assert styled()[0] + styled()[2] == len(true)


def test_channels_go_with_their_weights(browser: Any, tmp_path: Path) -> None:
    model = thinned(small_model("gpt2-like"), 0.3)
    space = gated(model).space
    assert isinstance(space, GatedSpace)
    scores = torch.randn(len(space), generator=torch.Generator().manual_seed(0)).double()
    circuit = Circuit(space, random_kept(space, 0.2), scores, 8)
    ties = ties_of(draw_circuit(model, space, circuit.kept))
    carrying = circuit.strongest(1)[0][0]
    nodes = nodes_of_circuit(circuit_of()) | {
        "nodes": [],
        "patterns": {},
        "true": None,
        "ties": [[*ends, weight] for ends, weight in ties.items()],
        "carried": [{"name": carrying, "clean": [0, 1, -2], "corrupted": [0, 0.5, 4]}],
    }
    cells = stored_with_nodes(tmp_path / "run", cell_of("best"), circuit, nodes)
    with opened(browser, cells, tmp_path) as tab:
        figure = tab.locator("figure.circuit")
        lines, boxes = figure.locator(".tie:not(.off)"), figure.locator("g.element:not(.off)")
        assert boxes.count() == circuit.size
        assert lines.count() == len(ties)
        ranked = [name for name, _ in circuit.strongest(circuit.size)]
        figure.get_by_role("slider").fill("9")
        assert boxes.count() == 9
        inside = set(ranked[:9])
        assert lines.count() == sum(inside.issuperset(ends) for ends in ties)
        figure.locator(f"[data-node='{carrying}']").press("Enter")
        panel = figure.locator(".panel")
        strips = panel.locator(".strip")
        assert strips.locator(".twin").all_inner_texts() == ["clean", "corrupted", "difference"]
        titles = [[float(str(word.get_attribute("title"))) for word in strip.locator(".word").all()]
                  for strip in strips.all()]  # fmt: skip
        wanted = [[0, 1, -2], [0, 0.5, 4], [0, 0.5, -6]]
        for one, other in zip(titles, wanted, strict=True):
            assert one == pytest.approx(other, abs=0.05)
        below = strips.nth(2).locator(".word.below")
        assert below.all_inner_texts() == ["<b>"]
        accessible(tab)


def test_features_show_boards_and_the_trace_that_they_are_part_of(
    browser: Any, tmp_path: Path
) -> None:
    circuit = circuit_of()
    told = {
        "tokens": 9,
        "board_size": 2,
        "families": [
            {"name": "mine", "concepts": ["a1", "a2", "b1"], "cells": [0, 1, 2], "board": True}
        ],
        "base": [50, 50, 90],
        "features": [
            {
                "name": "m0.out.3",
                "active": 0.25,
                "strongest": [{"words": ["a", "<b>"], "strength": 2.5}],
                "share": [100, 50, 40],
            }
        ],
    }
    part = {"writer": "m0", "token": 1, "in_circuit": True, "influence": 1.0}
    trace = {
        "value": 2.0,
        "kept": 0.75,
        "nodes": [
            part | {"name": "embed@0", "writer": "embed", "token": 0, "feature": None},
            part | {"name": "m0.3@1", "feature": "m0.out.3"},
        ],
        "edges": [[0, 1, 0.5], [1, None, -2.0]],
    }
    nodes = nodes_of_circuit(circuit) | {"features": told, "trace": trace}
    cells = stored_with_nodes(tmp_path / "run", cell_of("best"), circuit, nodes)
    with opened(browser, cells, tmp_path) as tab:
        accessible(tab)
        figure = tab.locator(".traced figure.circuit")
        lines = {
            str(line.get_attribute("data-name")): float(str(line.get_attribute("data-score")))
            for line in figure.locator("path.edge").all()
        }
        assert lines == {"embed@0->m0.out.3@1": 0.5, "m0.out.3@1->logit difference": -2.0}
        figure.locator("[data-node='m0.out.3@1']").press("Enter")
        panel = figure.locator(".panel")
        assert "a1 100 % (of all 50 %)" in panel.inner_text()
        shades = [
            (one.get_attribute("class"), one.get_attribute("d"), one.get_attribute("fill-opacity"))
            for one in panel.locator(".boards path").all()
        ]
        assert shades == [
            ("less", "M0 10h9v9h-9z", "0.67"),
            ("more", "M0 0h9v9h-9z", "0.67"),
        ]


def test_two_circuits_are_seen_in_one(browser: Any, tmp_path: Path) -> None:
    done = [cell_of(method, "one", seed) for seed, method in enumerate(("best", "worse", "same"))]
    cells = stored_with_circuits(tmp_path / "run", done)
    circuits = [circuit_of(seed) for seed in range(3)]
    with opened(browser, cells, tmp_path) as tab:
        place = tab.locator("#differences-board-1")
        pairs = place.get_by_label("compare").locator("option").all_inner_texts()
        assert len(pairs) == 3
        for number, pair in enumerate(pairs):
            place.get_by_label("compare").select_option(pair)
            assert place.locator("details:visible summary").all_inner_texts() == [pair]
            one, other = ((("best", "worse", "same").index(name)) for name in pair.split(" and "))
            a, b = (set(circuits[at].elements()) for at in (one, other))
            edges = place.locator(f"[data-difference='{number}'] path.edge")
            classes = [str(edge.get_attribute("class")).split()[-1] for edge in edges.all()]
            counts = [classes.count(f"of-{side}") for side in ("both", "one", "other")]
            assert counts == [len(a & b), len(a - b), len(b - a)]
        accessible(tab)


def test_deep_links_lead_to_their_place(shown: Any) -> None:
    shown.goto(f"{shown.url.partition('#')[0]}#circuits-board-2")
    place = shown.locator("#circuits-board-2")
    assert place.is_visible()
    assert -1 <= place.bounding_box()["y"] < shown.viewport_size["height"]


def test_links_lead_into_the_page(shown: Any) -> None:
    shown.get_by_role("navigation").get_by_role("link", name="Circuits").click()
    assert shown.url.endswith("#circuits")
    assert shown.evaluate("window.scrollY") > 0


def test_what_is_downloaded_is_the_table(shown: Any, folder: Path) -> None:
    with shown.expect_download() as started:
        shown.get_by_role("link", name="leaderboard.csv").click()
    text = Path(started.value.path()).read_text(encoding="utf-8")
    table = CliRunner().invoke(main, ["table", str(folder), "--format", "csv"])
    assert text == table.stdout
    assert len(list(csv.DictReader(io.StringIO(text)))) == 9


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_passes_an_accessibility_check(shown: Any, scheme: str, width: int) -> None:
    shown.emulate_media(color_scheme=scheme)
    shown.set_viewport_size({"width": width, "height": 800})
    for one in shown.locator("details").all():
        one.evaluate("one => { one.open = true; }")
    rules = ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]
    checked = Axe().run(shown, options={"runOnly": {"type": "tag", "values": rules}})
    assert checked.response["violations"] == [], checked.generate_report()
    assert len(checked.response["passes"]) > 15


def test_a_served_page_shows_cells_as_they_finish(browser: Any, tmp_path: Path) -> None:
    first, second = cell_of("best"), cell_of("worse")
    store = CellStore(tmp_path / "run")
    record(store.folder, Plan("run", (first, second)))
    store.publish(first.id, output(first), PROVENANCE)
    with serving(live(store.folder)) as server:
        context = browser.new_context()
        tab = context.new_page()
        tab.goto(server.url)
        tab.get_by_text("run: 1 done, 1 left").wait_for()
        tab.get_by_label("All columns").check()
        tab.locator("[data-filter=method]").fill("wors")
        assert tab.locator("#counted").inner_text() == "1 rows"  # which has no numbers yet
        store.publish(second.id, output(second), PROVENANCE)
        tab.get_by_text("run: 2 done").wait_for()
        assert tab.locator("[data-filter=method]").input_value() == "wors"
        assert tab.get_by_label("All columns").is_checked()
        assert tab.locator("#board-1 tbody tr:visible").count() == 1
        assert tab.locator("#board-1 tbody tr:visible td[data-value]").nth(2).inner_text()
        server.shutdown()
        server.server_close()
        tab.get_by_text("The server has ended").wait_for()
        context.close()


def test_it_can_be_read_without_scripts(browser: Any, folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(page(load_cells(folder)), encoding="utf-8")
    context = browser.new_context(offline=True, java_script_enabled=False)
    tab = context.new_page()
    tab.goto(file.as_uri())
    assert tab.locator("#board-1 tbody tr:visible").count() == 5
    assert tab.locator("path.edge:visible").count() > 0
    assert not tab.get_by_label("task").is_visible()
    context.close()


def test_names_do_nothing_in_the_page(browser: Any, folder: Path, tmp_path: Path) -> None:
    """Not those of tasks, models, methods, machines, runs, nor what a failed cell said."""
    write_results(tmp_path / "evil")
    pages = {"plain": load_cells(folder), "evil": load_cells(tmp_path / "evil" / EVIL)}
    elements = {}
    for name, cells in pages.items():
        context = browser.new_context(offline=True)
        tab, said = context.new_page(), []
        for event in ("console", "dialog", "pageerror"):
            tab.on(event, lambda what, said=said: said.append(str(what)))
        file = tmp_path / f"{name}.html"
        file.write_text(page(cells), encoding="utf-8")
        tab.goto(file.as_uri())
        for one in tab.locator("details").all():
            one.evaluate("one => { one.open = true; }")
        tab.locator("[data-filter=method]").fill("x")
        every = "[...document.querySelectorAll('*')]"
        elements[name] = set(tab.evaluate(f"{every}.map(one => one.localName)"))
        assert tab.locator("script").count() == 1
        assert tab.evaluate("typeof hit") == "undefined"
        assert not tab.evaluate(f"{every}.some(one => one.onload)")
        isolated = tab.evaluate(
            "[...document.querySelectorAll('td, th, option, a, text')]"
            ".every(one => getComputedStyle(one).unicodeBidi.startsWith('isolate'))"
        )
        assert isolated
        assert not UNSAFE.search(tab.locator("body").text_content().replace("\t", ""))
        assert said == []
        context.close()
    assert "svg onload" in file.read_text(encoding="utf-8")
    assert elements["evil"] <= elements["plain"]
