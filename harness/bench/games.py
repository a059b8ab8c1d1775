"""How many random games of Othello are played in a second, with and without their boards."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from harness.datasets.generators.othello.boards import OthelloBoard
from harness.datasets.generators.othello.games import labelled_games, random_games

SIZES = (6, 8)
_WARM_UP = 1024


def bench_games(n: int, repeats: int) -> dict[str, Any]:
    """Play n games of each size, `repeats` times, on one thread; the fastest counts.

    `games_per_second` is of wall time, `games_per_cpu_second` of the process's own.
    """
    rows = []
    for size in SIZES:
        for name, play in (("games", random_games), ("games and boards", labelled_games)):
            rows.append({"board": f"{size}×{size}", "row": name, **_speed(play, size, n, repeats)})
    return {"games": n, "repeats": repeats, "rows": rows}


def _speed(play: Callable[..., object], size: int, n: int, repeats: int) -> dict[str, float]:
    board = OthelloBoard(size)
    play(board, np.random.default_rng(0), _WARM_UP)
    wall, own = [], []
    for repeat in range(repeats):
        rng = np.random.default_rng(repeat)
        began, began_own = time.perf_counter(), time.process_time()
        play(board, rng, n)
        wall.append(time.perf_counter() - began)
        own.append(time.process_time() - began_own)
    return {"games_per_second": n / min(wall), "games_per_cpu_second": n / min(own)}
