"""What every channel and every weight of a drawn circuit is worth: its loss without one of them.

A channel is ablated like all that the circuit does not have; a weight is set to zero, while the
channels at both its ends stay (Gao et al. 2025 draw such differences as strengths).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from harness.circuits.gates.space import GatedSpace
from harness.circuits.gates.wiring import Matrix, matrices
from harness.errors import HarnessError
from harness.evaluation.curve import evaluate_circuits
from harness.evaluation.necessity import TASK_LOSS, has_both
from harness.evaluation.setup import Setup
from harness.progress import through


@dataclass(frozen=True)
class Deltas:
    """Task loss of a circuit (nats), and by how much it grows without each part.

    `channels` by name; `weights` by the names of source and target.
    """

    loss: float
    channels: Mapping[str, float]
    weights: Mapping[tuple[str, str], float]

    def added_to(self, board: dict[str, Any]) -> dict[str, Any]:
        """A drawing (`harness.evaluation.whiteboard`) with the deltas beside its parts."""
        channels = []
        for one in board["channels"]:
            name = one["name"]
            reads = [
                {**tie, "delta": self.weights.get((tie["channel"], name))} for tie in one["reads"]
            ]
            channels.append({**one, "delta": self.channels[name], "reads": reads})
        return {**board, "task_loss": self.loss, "channels": channels}


def deltas(setup: Setup, kept: Tensor) -> Deltas:
    """Of a circuit of channels (bool [E]) with weights between them, on the set-up's pairs.

    Cost: a run of the circuit for every channel and weight. Raises `HarnessError` where prompts
    have no bad answers, and for heads that share values.
    """
    space, config = setup.space, setup.model.config
    assert isinstance(space, GatedSpace)
    if not all(has_both(batch) for batch in setup.batches):
        raise HarnessError("deltas are of task loss, which needs good and bad answers")
    if config.n_groups != config.n_heads:
        raise HarnessError("deltas: heads that share values have several weights to one channel")
    setup = replace(setup, choices=replace(setup.choices, measures=(TASK_LOSS,)), classes=())
    elements = kept.nonzero().flatten().tolist()
    without = kept.repeat(len(elements), 1)
    without[range(len(elements)), elements] = False
    values = evaluate_circuits(setup, [kept, *without]).values[TASK_LOSS].mean(1)
    names = [space.name(element) for element in elements]
    loss = float(values[0])
    weights = {}
    for one, target, source in through(list(_weights(setup, names)), "deltas", "weight"):
        with _zero(one.weight, target, source):
            value = evaluate_circuits(setup, [kept]).values[TASK_LOSS].mean()
        weights[f"{one.source}.{source}", f"{one.target}.{target}"] = float(value) - loss
    channels = {name: float(value) - loss for name, value in zip(names, values[1:], strict=True)}
    return Deltas(loss, channels, weights)


def _weights(setup: Setup, names: list[str]) -> Iterator[tuple[Matrix, int, int]]:
    """Every weight that is not zero between channels of these names: matrix, target, source."""
    inside: dict[str, list[int]] = {}
    for name in names:
        site, channel = name.rsplit(".", 1)
        inside.setdefault(site, []).append(int(channel))
    for block in setup.model.layers():
        for one in matrices(block):
            for target in inside.get(one.target, []):
                for source in inside.get(one.source, []):
                    if float(one.weight[target, source]):
                        yield one, target, source


@contextmanager
def _zero(weight: Tensor, target: int, source: int) -> Iterator[None]:
    """The entry is zero inside the block; `weight` is a view of the model's own."""
    with torch.no_grad():
        before = weight[target, source].clone()
        weight[target, source] = 0
        try:
            yield
        finally:
            weight[target, source] = before
