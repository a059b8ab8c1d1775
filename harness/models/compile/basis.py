"""The dimensions of the residual stream: every variable has its own, written once.

A category has a dimension per value (one-hot, all zero for no value), a number has one. Beside the
program's values there are `one`, which is 1 at every token, and `bos`, which is 1 at BOS; they
never overlap, so that whatever needs `one` is silent at BOS.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from harness.datasets.program import INDICES, TOKENS, Domain, Program, SelectorWidth
from harness.datasets.program.expression import Value

# No step's name has a colon, so these cannot collide with any.
ONE, BOS = ":one", ":bos"


@dataclass(frozen=True)
class Basis:
    """The first dimension and the domain of every variable, and the width D of the stream."""

    starts: Mapping[str, int]
    domains: Mapping[str, Domain]
    width: int

    @classmethod
    def of(cls, program: Program) -> Basis:
        """Dimensions for everything that a program reads or computes."""
        number = Domain(None, numerical=True)
        domains: dict[str, Domain] = {ONE: number, BOS: number}
        read = {name for step in program.steps.values() for name in step.inputs} | {program.output}
        domains |= {name: program.domains[name] for name in (TOKENS, INDICES) if name in read}
        for name, step in program.steps.items():
            if isinstance(step, SelectorWidth):
                domains[share_of(name)] = number
            domains[name] = program.domains[name]
        starts, width = {}, 0
        for name, domain in domains.items():
            starts[name] = width
            width += 1 if domain.numerical else len(_values(domain))
        return cls(starts, domains, width)

    @property
    def one(self) -> int:
        """The dimension that is 1 at every token and 0 at BOS."""
        return self.starts[ONE]

    @property
    def bos(self) -> int:
        """The dimension that is 1 at BOS and 0 elsewhere."""
        return self.starts[BOS]

    def has(self, name: str) -> bool:
        """Whether a variable has dimensions; `tokens` and `indices` need a step that reads them."""
        return name in self.starts

    def dimension(self, name: str, value: Value | None = None) -> int:
        """The dimension of a number, or of one value of a category."""
        domain = self.domains[name]
        if domain.numerical:
            return self.starts[name]
        return self.starts[name] + _values(domain).index(cast(Value, value))

    def dimensions(self, name: str) -> range:
        """All dimensions of a variable, in the order of its values."""
        domain = self.domains[name]
        count = 1 if domain.numerical else len(_values(domain))
        return range(self.starts[name], self.starts[name] + count)

    def written(self, name: str, value: Value | None) -> dict[int, float]:
        """What a variable with this value adds to the stream: amount by dimension."""
        if value is None:
            return {}
        if self.domains[name].numerical:
            return {self.starts[name]: float(cast("int", value))}
        return {self.dimension(name, value): 1.0}


def share_of(name: str) -> str:
    """The variable in which a selector width is gathered: 1 / (1 + width)."""
    return f"{name}:share"


def _values(domain: Domain) -> tuple[Value, ...]:
    assert domain.values is not None
    return domain.values
