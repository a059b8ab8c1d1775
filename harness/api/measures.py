"""What was measured of a circuit."""

from __future__ import annotations

from dataclasses import dataclass

from harness.reports.notebook.tables import measures_html


@dataclass(frozen=True)
class Measured:
    """An estimate over prompt pairs with its 95 % bootstrap interval; None where not defined."""

    value: float | None
    low: float | None
    high: float | None

    def __repr__(self) -> str:
        if self.value is None:
            return "undefined"
        interval = "" if self.low is None else f" [{self.low:.3f}, {self.high:.3f}]"
        return f"{self.value:.3f}{interval}"


class Measures(dict[str, Measured]):
    """Measures by name, which a notebook shows as a table."""

    def _repr_html_(self) -> str:
        return measures_html({name: repr(one).partition(" ") for name, one in self.items()})
