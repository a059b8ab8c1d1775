"""What a search has spent, so that a resumed one can say what it cost before the stop."""

from __future__ import annotations

import time
from typing import NamedTuple


class Spent(NamedTuple):
    """Seconds by the clock, and of all processors that worked in this process."""

    wall: float = 0.0
    processor: float = 0.0

    @classmethod
    def now(cls) -> Spent:
        """Both clocks, to take differences of."""
        return cls(time.monotonic(), time.process_time())

    def plus(self, other: Spent) -> Spent:
        """Both together."""
        return Spent(self.wall + other.wall, self.processor + other.processor)

    def since(self, began: Spent) -> Spent:
        """From then until this moment."""
        return Spent(self.wall - began.wall, self.processor - began.processor)

    def note(self) -> dict[str, float]:
        """As a checkpoint keeps it."""
        return {"seconds": self.wall, "processor_seconds": self.processor}

    @classmethod
    def of(cls, note: dict[str, float]) -> Spent:
        """What a checkpoint kept."""
        return cls(float(note["seconds"]), float(note["processor_seconds"]))
