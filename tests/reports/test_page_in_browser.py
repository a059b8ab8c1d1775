"""The page in a real browser: it sorts, filters, resizes circuits, and fetches nothing.

From a file, and as `harness serve` shows it. Needs a Chromium, which `make browser` installs, and
is skipped where there is none.
"""

from __future__ import annotations

import csv
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from click.testing import CliRunner
from support.evil import EVIL, UNSAFE, write_results
from support.fake_cells import output
from support.stored_cells import cell_of
from support.stored_pages import PROVENANCE, stored_with_circuits

from harness.cli.main import main
from harness.reports.live.runs import LiveRuns
from harness.reports.live.server import Server
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
        file.write_text(page(load_cells(folder)), encoding="utf-8")
        tab.goto(file.as_uri())
        yield tab
        allowed = (file.as_uri(),)
    else:
        with serving(folder) as server:
            tab.goto(server.url)
            yield tab
            allowed = (server.url, f"{server.url}state")
            tab.goto("about:blank")  # it asks no more before the server ends
        allowed = (*allowed, "about:blank")
    assert errors == []
    left = [url for url in requests if url.partition("#")[0] not in allowed]
    assert [url for url in left if not url.startswith("data:")] == []
    context.close()


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    with Server(LiveRuns(lambda: [folder], 0.1), 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


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
    with serving(store.folder) as server:
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
