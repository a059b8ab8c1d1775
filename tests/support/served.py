"""A server of runs in a thread, for tests that ask it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from harness.reports.live.runs import LiveRuns
from harness.reports.live.server import Server


@contextmanager
def serving(runs: LiveRuns) -> Iterator[Server]:
    """Serve at a free port until the end of the block."""
    with Server(runs, 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
