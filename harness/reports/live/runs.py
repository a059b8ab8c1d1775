"""Run folders that change while they are looked at: a mark of their state, and their page.

Nothing is written, and no claim of a cell is tried: a run does not notice that it is watched.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.reports.page.document import page
from harness.runs.store import CellStore
from harness.runs.store.record import PLAN, RUN_LOG, entries_of, load_cells, status_of
from harness.spec.printable import printable

LOG_END = 4096
"""Bytes at the end of a log in which its last line is looked for."""

LOOK_SECONDS = 1.0
"""How long a mark of the folders stands, however many pages ask for it."""

SHARE = 0.1
"""Of the time, at most this share goes into building the page anew."""


class LiveRuns:
    """The runs in some folders. `folders` is called anew each time: runs may be added.

    `tags`: those of the tasks with some names (`Library.tags`). Methods may be called from several
    threads.
    """

    def __init__(
        self,
        folders: Callable[[], Sequence[Path]],
        size: float,
        tags: Callable[[Collection[str]], Mapping[str, tuple[str, ...]]] = lambda names: {},
    ) -> None:
        self.folders, self.tags = folders, tags
        self.size = size
        self.builds = 0
        self._building, self._looking = threading.Lock(), threading.Lock()
        self._page: tuple[str, bytes] | None = None  # with the mark of what it shows
        self._state: tuple[float, dict[str, Any]] | None = None  # with the moment of the look
        self._seconds = 0.0  # what the last page took

    def page(self) -> bytes:
        """The page of what is stored now; built only if something changed since the last one.

        Raises `HarnessError` where a run cannot be read.
        """
        with self._building:
            folders = self.folders()
            mark = mark_of(folders)  # before the cells are read: what comes later is another mark
            if self._page is None or self._page[0] != mark:
                began = time.monotonic()
                cells = [cell for folder in folders for cell in load_cells(folder)]
                tags = self.tags({cell.entry.task for cell in cells})
                content = page(cells, self.size, live=mark, tags=tags).encode()
                self._seconds = time.monotonic() - began
                self.builds += 1
                # What changed while it was read may be half of the one and half of the other.
                self._page = (mark, content) if mark_of(folders) == mark else None
                return content
            return self._page[1]

    def state(self) -> dict[str, Any]:
        """The folders' `mark`, each run's `counts` and last `line`, and `seconds` until to ask.

        Raises `HarnessError` where a run cannot be read.
        """
        with self._looking:
            now = time.monotonic()
            if self._state is None or now - self._state[0] >= LOOK_SECONDS:
                folders = self.folders()
                runs = [_run(folder) for folder in folders]
                self._state = now, {"mark": mark_of(folders), "runs": runs}
            seconds = max(2 * LOOK_SECONDS, self._seconds / SHARE)
            return {**self._state[1], "seconds": round(seconds, 1)}


def mark_of(folders: Sequence[Path]) -> str:
    """Changes with the record of a run and with each cell that finishes, fails or goes.

    Of names, sizes and times of files; nothing is opened.
    """
    marks = hashlib.sha256()
    for folder in folders:
        store = CellStore(folder)
        marks.update(f"{folder}\0".encode(errors="surrogateescape"))
        for entry in sorted((*_status(folder / PLAN), *_inside(store.cells))):
            marks.update(f"{entry}\0".encode(errors="surrogateescape"))
        for entry in sorted(_inside(store.failures)):
            marks.update(f"{entry}\0".encode(errors="surrogateescape"))
    return marks.hexdigest()


def _inside(folder: Path) -> Iterator[str]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                yield from _status(Path(entry.path))
    except FileNotFoundError:
        return


def _status(path: Path) -> Iterator[str]:
    try:
        stat = path.stat()
    except FileNotFoundError:  # it went while we looked
        return
    yield f"{path.name} {stat.st_ino} {stat.st_size} {stat.st_mtime_ns}"


def _run(folder: Path) -> dict[str, Any]:
    store = CellStore(folder)
    states = [status_of(entry, store) for entry in entries_of(folder)]
    return {
        "name": printable(folder.name),
        "done": states.count("ok") + states.count("smoke"),
        "failed": states.count("failed"),
        "left": states.count("missing"),
        "line": _last_line(folder / RUN_LOG),
    }


def _last_line(log: Path) -> str:
    """What a run said last, without its time; nothing where there is no log."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_END))
            lines = file.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    return printable(lines[-1].partition(" ")[2]) if lines else ""
