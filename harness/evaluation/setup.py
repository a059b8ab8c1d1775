"""The set-up that circuits are run in: a model, prompt pairs, counterfactuals and choices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.circuits.circuit import Circuit
from harness.circuits.patchable import Counterfactuals, PatchableModel
from harness.circuits.space import Space
from harness.datasets.batch import Batch
from harness.errors import HarnessError
from harness.models.transformer import Transformer
from harness.spec.types import Evaluation


@dataclass(frozen=True)
class Setup:
    """The same model and counterfactuals may stand in several set-ups with other `batches`.

    `classes`: names of the classes that the task answers in; none where it answers in tokens.
    """

    patchable: PatchableModel
    batches: Sequence[Batch]
    counterfactuals: Counterfactuals
    choices: Evaluation
    classes: tuple[str, ...] = ()

    @property
    def model(self) -> Transformer:
        """The frozen model."""
        return self.patchable.model

    @property
    def space(self) -> Space:
        """The space of elements."""
        return self.patchable.space

    @property
    def n(self) -> int:
        """Prompt pairs."""
        return sum(len(batch) for batch in self.batches)

    def check(self, circuit: Circuit) -> None:
        """Refuse a circuit of another space than the model's (`HarnessError`)."""
        if circuit.space != self.space:
            raise HarnessError(
                f"the circuit's space is {circuit.space}, the model's is {self.space}: it is a "
                "circuit of another model, or was found with another `granularity`, `inputs`, "
                "`positions` or `key_value_edges`, or prompts of another length"
            )
        width = self.model.config.d_model
        if circuit.d_model not in (0, width):
            raise HarnessError(
                f"the circuit was found in a model with d_model {circuit.d_model}, this one has "
                f"{width}"
            )
        if not circuit.kept.any():
            raise HarnessError("the circuit keeps nothing: there is nothing to judge")
