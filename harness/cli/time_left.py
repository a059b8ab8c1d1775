"""How long a run still takes, from what its cells were expected to take and what they took."""

from __future__ import annotations

import time
from collections.abc import Mapping

from harness.progress import duration


class TimeLeft:
    """`expected`: seconds of each cell that is to be computed, by id; empty if not known.

    What is left is scaled by how much longer than expected the finished cells took; before there
    are any, the forecast counts like one cell that took what was expected.
    """

    def __init__(self, expected: Mapping[str, float]) -> None:
        self.open = dict(expected)
        mean = sum(expected.values()) / len(expected) if expected else 0.0
        self._spent = self._foreseen = mean
        self._began: dict[str, float] = {}

    def start(self, cell_id: str) -> None:
        """A cell has begun."""
        self._began[cell_id] = time.monotonic()

    def over(self, cell_id: str, seconds: float | None) -> None:
        """A cell is over, after so many seconds; None: it was not computed here."""
        expected = self.open.pop(cell_id, None)
        began = self._began.pop(cell_id, None)
        if seconds is not None and expected is not None and began is not None:
            self._spent += seconds
            self._foreseen += expected

    @property
    def seconds(self) -> float | None:
        """Seconds left; None where nothing is known."""
        if not self.open or self._foreseen <= 0:
            return None
        now, pace = time.monotonic(), self._spent / self._foreseen
        left = 0.0
        for cell_id, expected in self.open.items():
            elapsed = now - self._began[cell_id] if cell_id in self._began else 0.0
            left += max(0.0, expected * pace - elapsed)
        return left / max(1, len(self._began))

    def text(self) -> str:
        """`about 12 min left`, or nothing."""
        return "" if self.seconds is None else f"about {duration(self.seconds)} left"
