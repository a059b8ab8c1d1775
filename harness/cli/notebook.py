"""Make the shipped notebook from its source: `make notebook`.

The source is a script of cells (`# %%`), as editors and Jupytext know them: changes of it can be
read, it is linted like other code, and it has no outputs. This runs it in an empty folder and
writes cells and outputs as `.ipynb`, so that it can be read where it cannot be run.
"""

from __future__ import annotations

import argparse
import ast
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from traitlets.config import Config

from harness.cli.say import say

SOURCE = Path(__file__).resolve().parents[1] / "docs/notebooks/first_circuit.py"
SECONDS = 300
"""For one cell."""

_CELL = re.compile(r"^# %%( \[markdown\])?$", re.MULTILINE)


def cells_of(script: str) -> Iterator[NotebookNode]:
    """The cells of a script, numbered. Raises `ValueError` for text before the first one."""
    before, *parts = _CELL.split(script)
    if before.strip():
        raise ValueError("a notebook's script begins with a cell")
    for number, (kind, text) in enumerate(zip(parts[::2], parts[1::2], strict=True)):
        if kind:
            lines = [re.sub(r"^# ?", "", line) for line in text.strip().splitlines()]
            yield new_markdown_cell("\n".join(lines), id=f"cell-{number}")
        else:
            ast.parse(text)
            yield new_code_cell(text.strip(), id=f"cell-{number}")


def notebook_of(script: str) -> NotebookNode:
    """A notebook without outputs."""
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    notebook: NotebookNode = new_notebook(cells=list(cells_of(script)), metadata=metadata)
    return notebook


def execute(notebook: NotebookNode) -> None:
    """Run all cells in an empty folder; what they print as progress is not kept.

    Raises `CellExecutionError` if a cell fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        # Sockets in that folder, rather than ports that others could connect to.
        sockets = {"transport": "ipc", "ip": str(Path(folder) / "kernel")}
        NotebookClient(
            notebook,
            config=Config({"KernelManager": sockets}),
            startup_timeout=SECONDS,
            timeout=SECONDS,
            record_timing=False,
            resources={"metadata": {"path": folder}},
        ).execute()
    notebook.metadata.language_info = {"name": "python"}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]


def differing(script: str, shipped: NotebookNode) -> list[str]:
    """Ids of cells that a notebook has otherwise than a script."""
    wanted, present = (
        {cell.id: (cell.cell_type, cell.source) for cell in cells}
        for cells in (cells_of(script), shipped.cells)
    )
    names = dict.fromkeys([*wanted, *present])
    return [name for name in names if wanted.get(name) != present.get(name)]


def main(arguments: list[str] | None = None) -> int:
    """Exit code 1 if a cell fails, or `--check` sees a notebook that is not of its source."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", nargs="?", type=Path, default=SOURCE)
    parser.add_argument("-o", "--output", type=Path, help="default: beside the source")
    parser.add_argument("--check", action="store_true", help="only compare the cells")
    chosen = parser.parse_args(arguments)
    path = chosen.output or chosen.source.with_suffix(".ipynb")
    script = chosen.source.read_text(encoding="utf-8")
    if chosen.check:
        different = differing(script, nbformat.read(path, as_version=4))
        if different:
            say(f"{path}: {', '.join(different)} differ: run `make notebook`", err=True)
        return int(bool(different))
    notebook = notebook_of(script)
    try:
        execute(notebook)
    except CellExecutionError as error:
        say(re.sub(r"\x1b\[[0-9;]*m", "", str(error)), err=True)
        return 1
    nbformat.validate(notebook)
    path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
    say(f"wrote {path}", err=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
