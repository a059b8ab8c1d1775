"""Axes of charts: where a value is drawn, and which values have a tick with a label."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

TICKS = 5
"""About how many a linear axis has."""
STEPS = (1, 2, 5, 10)


@dataclass(frozen=True)
class Tick:
    """A value that is named on an axis, and its place in pixels."""

    at: float
    label: str


@dataclass(frozen=True)
class Axis:
    """Values `low` … `high`, linear or logarithmic, drawn from pixel `start` to pixel `end`."""

    name: str
    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def place(self, value: float) -> float:
        """The pixel of a value; values beyond the ends stay at them."""
        low, high, x = self.low, self.high, min(max(value, self.low), self.high)
        if self.log:
            low, high, x = math.log10(low), math.log10(high), math.log10(x)
        share = (x - low) / (high - low)
        return round(self.start + share * (self.end - self.start), 1)

    @property
    def ticks(self) -> list[Tick]:
        """Powers of ten (all of 1, 2, 5 where they are few), or about five round numbers."""
        values = log_ticks(self.low, self.high) if self.log else linear_ticks(self.low, self.high)
        return [Tick(self.place(value), f"{value:.10g}") for value in values]


def log_axis(name: str, values: Sequence[float], start: float, end: float) -> Axis:
    """An axis that holds positive values, with some room where they are all one."""
    low, high = min(values), max(values)
    if high / low < 1.5:
        low, high = low / 2, high * 2
    return Axis(name, low, high, start, end, log=True)


def linear_ticks(low: float, high: float) -> list[float]:
    """Round numbers from low to high."""
    rough = (high - low) / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * one for one in STEPS if power * one >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(place * step, 12) for place in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten between low and high, with 2 and 5 times these where there are few.

    Where even these are fewer than two, round numbers as on a linear axis.
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    few = math.log10(high / low) < 2
    values = [10.0**power * times for power in powers for times in ((1, 2, 5) if few else (1,))]
    inside = [value for value in values if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]
    return inside if len(inside) > 1 else linear_ticks(low, high)
