"""The README's picture: small, self-contained, with the numbers of the README's table."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest
from support.stored_cells import cell_of, save

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MOST_BYTES = 150_000
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("picture", ROOT / "tools" / "picture.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shown() -> tuple[str, ElementTree.Element]:
    (path,) = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README)
    text = (ROOT / path).read_text(encoding="utf-8")
    return text, ElementTree.fromstring(text)


def test_the_picture_stands_alone_and_is_small() -> None:
    text, _ = shown()
    assert len(text.encode()) < MOST_BYTES
    links = re.findall(r"(?:href|src|url|@import)[^>]*", text)
    assert links == []
    assert re.findall(r"https?://[^\"]*", text) == ["http://www.w3.org/2000/svg"]


def test_its_table_is_that_of_the_readme() -> None:
    _, root = shown()
    texts = [one.text or "" for one in root.iter(f"{SVG}text")]
    table = README.partition("<!-- leaderboard:start -->")[2].partition("<!-- leaderboard:end")[0]
    rows = [[field.strip() for field in row.split("|")[1:-1]] for row in table.strip().splitlines()]
    assert len(rows) > 5
    for rank, method, cmd, _, faithful, _ in rows[2:]:
        at = texts.index(method)
        if rank:
            assert texts[at - 1] == rank
        for value in filter(None, (cmd, faithful)):
            assert value.replace("±0.", "±.") in texts[at : at + 6], "run `make picture`"


def test_every_colour_of_the_light_picture_has_a_dark_one(tool: ModuleType) -> None:
    text, _ = shown()
    drawn = set(re.findall(r'(?:fill|stroke)="(#[0-9a-f]{6})"', text.partition("</style>")[2]))
    assert drawn <= set(tool.DARK)


def test_a_run_without_the_task_is_refused(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "quickstart", [cell_of("best")])
    path = tmp_path / "p.svg"
    assert tool.main(["--results", str(tmp_path), "-o", str(path)]) == 2
    assert "no ranked circuits of ioi" in capsys.readouterr().err
    assert not path.exists()
