"""What the smallest circuit is searched for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from harness.spec.key import About, Key, exactly_one


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class CircuitTarget:
    """What a circuit has to reach: a faithfulness, or a loss that it may not exceed.

    Exactly one of its fields is not None.
    """

    ABOUT: ClassVar = About(
        "Target",
        "What the smallest circuit is searched for: a faithfulness, or a loss not to exceed.",
        name="circuit_target",
        rules=(exactly_one("faithfulness", "kl", "cross_entropy", "squared_error", "task_loss"),),
    )

    faithfulness: Annotated[
        float | None,
        Key("Faithfulness", "Least faithfulness; 1 is the model.", [0.95], above=0, maximum=1),
    ] = None
    kl: Annotated[
        float | None,
        Key("KL", "Largest mean KL(model ‖ circuit), in nats.", [0.1], minimum=0),
    ] = None
    cross_entropy: Annotated[
        float | None,
        Key("Cross-entropy", "Largest mean loss of correct answers, in nats.", [0.2], minimum=0),
    ] = None
    squared_error: Annotated[
        float | None,
        Key("Squared error", "Largest mean squared distance of the logits.", [0.01], minimum=0),
    ] = None
    task_loss: Annotated[
        float | None,
        Key(
            "Task loss",
            "Largest mean loss of the choice between good and bad answers, in nats.",
            [0.15],
            younger=True,
            minimum=0,
        ),
    ] = None

    def __repr__(self) -> str:
        """As titles of cells and tables show it: `kl 0.1`."""
        return f"{self.measure} {self.value:g}"

    @property
    def measure(self) -> str:
        """The measure that is to reach `value`."""
        return self._said[0]

    @property
    def value(self) -> float:
        """What it has to reach."""
        return self._said[1]

    @property
    def _said(self) -> tuple[str, float]:
        names = ("faithfulness", "kl", "cross_entropy", "squared_error", "task_loss")
        return next((n, x) for n in names if (x := getattr(self, n)) is not None)
