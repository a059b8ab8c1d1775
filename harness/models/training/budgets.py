"""How many entries of every tensor a sparse model may have at a step. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod, sqrt
from typing import Literal

from harness.errors import HarnessError
from harness.models.config import TransformerConfig
from harness.models.shapes import Shape, parameter_shapes
from harness.spec.types import Sparsity

Kind = Literal["block", "embedding", "bias", "dense"]

_NEURONS: Mapping[str, int] = {
    "qkv_map.weight": 0,
    "mlp_in.weight": 0,
    "out_map.weight": 1,
    "mlp_out.weight": 1,
}
"""The axis of a block's matrix [out, in] along which there are channels and neurons: what is read
of the stream for each, then what each writes."""

_WHOLE: Mapping[str, Kind] = {
    "embedding": "embedding",
    "unembedding": "embedding",
    "position_embedding": "block",
    "unembedding_bias": "bias",
    "bigram_table": "dense",
}
_NEVER = ("norm.weight", "norm.bias", "sink_logit")


def kind_of_tensor(name: str) -> Kind:
    """What decides a tensor's budget, by the name of the parameter."""
    if name in _WHOLE:
        return _WHOLE[name]
    if name.endswith(_NEVER):
        return "dense"
    if name.endswith(tuple(_NEURONS)):
        return "block"
    if name.endswith(".bias"):
        return "bias"
    raise AssertionError(f"no budget is defined for tensor {name}")


@dataclass(frozen=True)
class Budget:
    """What one tensor is left with: a fraction of its `entries`, annealed to `fraction`.

    Each of the `neurons` along `axis` keeps `least` entries at least, as part of it.
    """

    entries: int
    fraction: float
    axis: int = 0
    neurons: int = 0
    least: int = 0

    def at(self, sparsity: Sparsity, progress: float) -> int:
        """Most nonzero entries, at least one, when `progress` of all steps are done."""
        return max(1, int(annealed(sparsity, self.fraction, progress) * self.entries))

    @property
    def reserved(self) -> float:
        """Share of the final budget that neurons keep whatever is largest."""
        return self.least * self.neurons / max(1, int(self.fraction * self.entries))


def budgets(config: TransformerConfig, sparsity: Sparsity) -> dict[str, Budget]:
    """The budget of every tensor that has one, by name.

    Raises `HarnessError` where the fewest entries of neurons are more than a budget, and for an
    anneal that ends before it starts.
    """
    if sparsity.anneal.end < sparsity.anneal.start:
        raise HarnessError("sparsity.anneal ends before it starts")
    fractions = {
        "block": sparsity.nonzero_fraction,
        "embedding": sparsity.embedding_fraction or sparsity.nonzero_fraction,
        "bias": sparsity.nonzero_fraction if sparsity.biases == "sparse" else None,
        "dense": None,
    }
    result = {}
    for name, shape in parameter_shapes(config).items():
        fraction = fractions[kind_of_tensor(name)]
        if fraction is not None and fraction < 1:
            result[name] = _budget(name, shape, fraction, sparsity.min_per_neuron)
    return result


def _budget(name: str, shape: Shape, fraction: float, least: int) -> Budget:
    entries, axis = prod(shape), _NEURONS.get(name.split(".", 2)[-1])
    if axis is None or not least:
        return Budget(entries, fraction)
    budget = Budget(entries, fraction, axis, shape[axis], least)
    most = max(1, int(fraction * entries)) // budget.neurons
    if least > most:
        raise HarnessError(
            f"sparsity.min_per_neuron is {least}, and nonzero_fraction leaves {name} "
            f"{int(fraction * entries)} entries for {budget.neurons} neurons, at most {most} each; "
            "lower the one or raise the other"
        )
    return budget


def annealed(sparsity: Sparsity, final: float, progress: float) -> float:
    """The fraction of nonzero entries on the way from 1 to `final`, after `progress` of the steps.

    The paper's script lets all kinds of tensors become sparse together, as here.
    """
    start, end = sparsity.anneal.start, sparsity.anneal.end
    if progress >= end:
        return final
    way = max(0.0, progress - start) / max(end - start, 1e-12)
    if sparsity.anneal.shape == "log_linear":
        return float(final**way)
    return 1 + (final - 1) * way


def rate_factor(sparsity: Sparsity, progress: float) -> float:
    """What the learning rate is multiplied by: √(final / present fraction) of the blocks."""
    if not sparsity.rate_follows_sparsity:
        return 1.0
    final = sparsity.nonzero_fraction
    return sqrt(final / annealed(sparsity, final, progress))
