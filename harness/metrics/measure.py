"""What a measure is: what tables, specs and the documentation say of it, and its function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from torch import Tensor

Direction = Literal["up", "down", "none"]

Inputs = Literal[
    "logits",  # (logits [..., B, P, V], batch) -> [..., B]
    "logits of circuit and model",  # (logits, the model's logits [B, P, V], batch) -> [..., B]
    "logits of sequences",  # (logits [..., V], allowed [..., W], following [...]) -> [...]
    "probabilities of ordered answers",  # (circuit's [S, n, A], model's [n, A], place [n])
    "correct answers by class",  # (correct [..., n, P], class ids [n, P]) -> [..., n]
    "runs without the circuit",  # see `harness.evaluation.validation.needed`
    "log odds of two answers",  # (of the good ones [n], 1 or -1 [n], scale, shift) -> [n]
    "mean metric",  # (of the circuit, of the empty circuit, of the whole model)
    "faithfulness by size",  # (sizes [K], faithfulness [..., K]) -> [...]
    "faithfulness by elements",  # (threshold, elements [K], faithfulness [K]) -> int or None
    "size",  # (elements kept, elements of the space)
    "scores and true circuit",  # (scores [E], truth bool [E])
    "circuit and true circuit",  # (kept bool [E], truth bool [E])
    "sizes of two circuits",  # (elements of both, of one, of the other)
    "sizes and space",  # (elements of one circuit, of the other, of the space)
]
"""What a measure is computed from: the arguments of its function."""

Role = Literal["metric", "objective", "recorded", "extra"]
"""`metric`: a task can be scored by it. `objective`: a method can attribute or optimise it.
`recorded`: measured for every circuit. `extra`: a task can add it with `evaluation.measures`."""


class Answers(Protocol):
    """B prompts that are read at P positions, and their answers: what a batch has."""

    @property
    def good(self) -> Tensor:
        """Good answers as token ids [B, P, ·], -1 where a set is shorter."""

    @property
    def bad(self) -> Tensor:
        """Bad answers, likewise."""

    @property
    def read(self) -> Tensor:
        """Which of the P positions are used, bool [B, P]."""


@dataclass(frozen=True)
class Measure:
    """One measure; `better` is the direction in which it improves."""

    name: str
    title: str
    better: Direction
    formula: str
    source: str
    computed_from: Inputs
    compute: Callable[..., Any] = field(repr=False)
    unit: str = ""
    """Empty for numbers without one: shares, correlations."""
    roles: frozenset[Role] = frozenset()
    distance: bool = False
    """Compares with the whole model, where it and its gradient are 0."""

    @property
    def arrow(self) -> str:
        """↑, ↓ or nothing."""
        return {"up": "↑", "down": "↓", "none": ""}[self.better]

    def heading(self, at: str = "") -> str:
        """Heading of its column; `at` names the size that the numbers belong to."""
        return f"{self.title}{at} {self.arrow}".rstrip()

    def record(self) -> dict[str, Any]:
        """Everything but the function, as plain JSON data."""
        shown = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "compute"}
        return {**shown, "roles": sorted(self.roles), "arrow": self.arrow}
