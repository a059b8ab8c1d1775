"""`harness serve`: the page of runs, kept up to date while cells finish."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click

from harness.cli import options

PORT = 8642


@click.command("serve")
@click.argument("runs", nargs=-1, metavar="[RUN]...")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=PORT,
    show_default=True,
    help="Port of this machine; 0 takes one that is free.",
)
@options.size
@options.results()
@options.include
def command(
    runs: tuple[str, ...], port: int, size: float, results: Path, include: tuple[Path, ...]
) -> int:
    """Serve the page of RUN that `harness report` writes, to this machine alone.

    Without RUN, of all runs. The page says how far the runs are and shows cells as they finish.
    Nothing is written. Ends with Ctrl-C.
    """
    from harness.cli.choose import log, run_folders
    from harness.reports.live.runs import LiveRuns
    from harness.reports.live.server import Server
    from harness.spec.load import Library

    live = LiveRuns(lambda: run_folders(runs, results), size, Library(include).tags)
    names = ", ".join(folder.name for folder in run_folders(runs, results))
    with Server(live, port) as server, _ended_by_sigterm():
        log(f"{names} at {server.url} (Ctrl-C ends)")
        try:
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            log("ended")
    return 0


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Within it, SIGTERM ends the server as Ctrl-C does."""

    def end(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
