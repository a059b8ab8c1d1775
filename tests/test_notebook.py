"""The shipped notebook: made of its source, small, and run again as a reader would run it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "harness" / "docs" / "notebooks" / "first_circuit.py"
SHIPPED = SOURCE.with_suffix(".ipynb")
MOST_BYTES = 300_000


def tool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, ROOT / "tools" / "notebook.py", *arguments]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def outputs(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Each output's kind and its data by format."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return [
        (one.output_type, dict(one.get("data", {})))
        for cell in notebook.cells
        for one in cell.get("outputs", [])
    ]


def test_the_shipped_notebook_is_that_of_its_source(tmp_path: Path) -> None:
    assert tool("--check").returncode == 0
    text = SOURCE.read_text(encoding="utf-8")
    assert text.count("size=0.1") > 1
    other = tmp_path / "other.py"
    other.write_text(text.replace("size=0.1", "size=0.2", 1), encoding="utf-8")
    said = tool(other, "-o", SHIPPED, "--check")
    assert said.returncode == 1
    assert "cell-7 differ: run `make notebook`" in said.stderr


def test_the_shipped_notebook_can_be_read_where_it_cannot_be_run() -> None:
    assert SHIPPED.stat().st_size < MOST_BYTES
    shown = [data for _, data in outputs(SHIPPED)]
    pictures = [data for data in shown if "image/svg+xml" in data]
    assert len(pictures) == 2
    assert not [data for data in pictures if "text/html" in data]  # stripped by some pages
    assert len([data for data in shown if "circuit-harness" in data.get("text/html", "")]) == 4
    assert not re.findall(r"/(?:tmp|home|work|root)/", SHIPPED.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_the_notebook_runs_and_shows_the_same(tmp_path: Path) -> None:
    """Numbers may differ from machine to machine; kinds of outputs and drawn nodes do not."""
    path = tmp_path / "anew.ipynb"
    said = tool(SOURCE, "-o", path)
    assert said.returncode == 0, said.stderr
    anew, shipped = outputs(path), outputs(SHIPPED)
    assert [(kind, set(data)) for kind, data in anew] == [
        (kind, set(data)) for kind, data in shipped
    ]
    prompts, again = shipped[0][1]["text/html"], anew[0][1]["text/html"]
    assert prompts == again
    for (_, one), (_, other) in zip(anew, shipped, strict=True):
        if "image/svg+xml" in one:
            boxes = [re.findall(r"<rect .*</rect>", data["image/svg+xml"]) for data in (one, other)]
            assert len(boxes[0]) == len(boxes[1]) > 20


@pytest.mark.slow
def test_a_cell_that_fails_fails_the_whole(tmp_path: Path) -> None:
    source, path = tmp_path / "broken.py", tmp_path / "broken.ipynb"
    source.write_text("# %%\n1 + 1\n\n# %%\nraise ValueError('no')\n", encoding="utf-8")
    said = tool(source, "-o", path)
    assert said.returncode != 0
    assert "ValueError: no" in said.stderr
    assert not path.exists()
