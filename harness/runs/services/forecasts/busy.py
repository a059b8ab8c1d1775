"""Whether other processes leave this one the cores that it wants."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

SECONDS = 0.1
"""How long other processes are watched at least."""

NOTICED = 1.2
"""A slow-down below this is not worth a line."""


@dataclass(frozen=True)
class Load:
    """Cores of this machine, and how many of them other processes use."""

    cores: int
    others: float

    def slower(self, wanted: int) -> float:
        """How many times as long `wanted` busy threads take as on an idle machine.

        They get the cores that are free, but no less than their fair share of all.
        """
        wanted = min(wanted, self.cores)
        fair = self.cores * wanted / (wanted + self.others)
        return wanted / min(wanted, max(self.cores - self.others, fair))

    def warning(self, wanted: int) -> str | None:
        """One line where `wanted` threads are slowed down; None where they are not."""
        if (times := self.slower(wanted)) < NOTICED:
            return None
        return (
            f"this machine is busy: other processes use {self.others:.1f} of its {self.cores} "
            f"cores, so that work on {wanted} takes about {times:.1f} times as long; numbers do "
            "not change, but seconds do"
        )


class Watch:
    """Watches the cores of this process from now on; its own work does not count."""

    def __init__(self) -> None:
        self._before, self._began = _spent(), time.monotonic()

    def load(self, seconds: float = SECONDS) -> Load:
        """The mean since the start, which lies `seconds` back at least."""
        time.sleep(max(0.0, self._began + seconds - time.monotonic()))
        others = (_spent() - self._before) / (time.monotonic() - self._began)
        cores = len(_cores())
        return Load(cores, max(0.0, min(others, float(cores))))


def _cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _spent() -> float:
    """Seconds that these cores have worked for others than this process, since some moment."""
    import psutil

    every, own = psutil.cpu_times(percpu=True), psutil.Process().cpu_times()
    used = 0.0
    for core in _cores():
        times = every[core]
        idle = times.idle + getattr(times, "iowait", 0.0)
        # The time of guests is in that of users too.
        guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
        used += sum(times) - guests - idle
    return float(used - own.user - own.system)
