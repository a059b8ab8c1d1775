"""The page in a real browser: it sorts, filters, resizes circuits, and fetches nothing.

Needs Playwright (the extra `browser`) and a Chromium of the system, and is skipped without them.
"""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.stored_cells import cell_of
from support.stored_pages import stored_with_circuits

from harness.reports.leaderboard import leaderboard
from harness.reports.page.document import page
from harness.reports.table import render

pytestmark = pytest.mark.slow

CHROMIUM = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    reason = "needs Playwright: pip install 'circuit-harness[browser]'"
    playwright = pytest.importorskip("playwright.sync_api", reason=reason)
    found = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if found is None:
        pytest.skip(f"needs a browser of the system: none of {', '.join(CHROMIUM)} is installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found)
        yield browser
        browser.close()


@pytest.fixture
def cells(tmp_path: Path) -> Any:
    done = [cell_of(method, task) for task in ("one", "two") for method in ("best", "worse")]
    return stored_with_circuits(tmp_path / "run", done, [cell_of("same", "one")])


@pytest.fixture
def shown(browser: Any, cells: Any, tmp_path: Path) -> Iterator[Any]:
    """The page from `file://` with the network blocked; fails on errors and requests."""
    file = tmp_path / "report.html"
    file.write_text(page(cells), encoding="utf-8")
    context = browser.new_context(offline=True, accept_downloads=True)
    tab, errors, requests = context.new_page(), [], []
    tab.on("console", lambda message: errors.append(message.text))
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("request", lambda request: requests.append(request.url))
    tab.goto(file.as_uri())
    yield tab
    assert errors == []
    left = [url for url in requests if not url.startswith((file.as_uri(), "data:"))]
    assert left == []
    context.close()


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


def test_links_lead_into_the_page(shown: Any) -> None:
    shown.get_by_role("navigation").get_by_role("link", name="Circuits").click()
    assert shown.url.endswith("#circuits")
    assert shown.evaluate("window.scrollY") > 0


def test_what_is_downloaded_is_the_table(shown: Any, cells: Any) -> None:
    with shown.expect_download() as started:
        shown.get_by_role("link", name="leaderboard.csv").click()
    text = Path(started.value.path()).read_text(encoding="utf-8")
    assert text == render(leaderboard(cells), "csv")
    assert len(list(csv.DictReader(io.StringIO(text)))) == 9


def test_it_can_be_read_without_scripts(browser: Any, cells: Any, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(page(cells), encoding="utf-8")
    context = browser.new_context(offline=True, java_script_enabled=False)
    tab = context.new_page()
    tab.goto(file.as_uri())
    assert tab.locator("#board-1 tbody tr:visible").count() == 5
    assert tab.locator("path.edge:visible").count() > 0
    assert not tab.get_by_label("task").is_visible()
    context.close()
