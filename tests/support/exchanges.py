"""What processes say to each other, each case of it; run under torchrun by `tests/test_ranks.py`.

Every process writes what it saw to its own file in the folder of the first argument.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from harness import ranks
from harness.errors import HarnessError


def error_of(function: Callable[[], Any]) -> str:
    try:
        return f"no error: {ranks.agreed('the case', function)}"
    except (HarnessError, RuntimeError, ZeroDivisionError) as error:
        return f"{type(error).__name__}: {error}"


def fail_in(place: int, error: Exception, sums: int) -> Callable[[], float]:
    """Sums that process `place` leaves with an error before the last one."""

    def run() -> float:
        total = 0.0
        for number in range(sums):
            if ranks.rank() == place and number == sums - 1:
                raise error
            total += float(ranks.summed(torch.ones(number + 1)).sum())
        return total

    return run


def late(place: int) -> Callable[[], int]:
    """An error in one process after everything was said."""

    def run() -> int:
        return 1 // int(ranks.rank() != place)

    return run


def diverging() -> Any:
    if ranks.is_first():
        return ranks.summed(torch.ones(3)).tolist()
    return ranks.summed(torch.ones(4)).tolist()


def unlike() -> None:
    ranks.require_equal("masks", [torch.tensor([0.0, float(ranks.rank())])])


def talk_in_turn() -> None:
    with ranks.turns("a turn"):
        ranks.summed(torch.ones(1))


def in_turn(folder: Path) -> str:
    """What each process finds that it makes only where it is not there."""
    path = folder / "kept"
    with ranks.turns("keeping"):
        if path.exists():
            return path.read_text()
        path.write_text(f"by process {ranks.rank()}")
        return "made"


def main(folder: Path) -> None:
    with ranks.joined():
        rank, world = ranks.rank(), ranks.world()
        values = torch.arange(5, dtype=torch.float64)[ranks.share(5).start : ranks.share(5).stop]
        seen = {
            "world": world,
            "rank": rank,
            "sum": ranks.summed(torch.tensor([1.0, float(rank)])).tolist(),
            "own": ranks.summed(values.sum()).tolist(),
            "broadcast": ranks.broadcast({"from": rank}),
            "gathered": ranks.gathered(f"process {rank}"),
            "in turn": in_turn(folder),
            "error in the last": error_of(fail_in(world - 1, ZeroDivisionError("by zero"), 3)),
            "error in the first": error_of(fail_in(0, HarnessError("no such file"), 2)),
            "error at the end": error_of(late(world - 1)),
            "diverging": error_of(diverging),
            "unlike": error_of(unlike),
            "talking in turn": error_of(talk_in_turn),
            "after errors": error_of(lambda: ranks.summed(torch.ones(2)).tolist()),
        }
    assert (ranks.world(), ranks.rank()) == (1, 0)
    (folder / f"{rank}.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
