"""A model whose elements can be kept or replaced: what methods and evaluation run circuits on.

An element that a mask keeps (1) does what it does in the model; one that it drops (0) is replaced
by its counterfactual, which an ablation defines. Between the two it is mixed linearly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from harness.circuits.background import Background
from harness.circuits.baseline import Baseline
from harness.circuits.space import Space
from harness.datasets.batch import Batch
from harness.datasets.pairs import PromptPairs
from harness.dictionaries.dictionary import DictionarySet
from harness.errors import HarnessError
from harness.models.precision import single
from harness.models.transformer import Transformer
from harness.spec.granularity import DICTIONARIES, granularity, named
from harness.spec.types import Ablation, Evaluation

OF_A_RUN: frozenset[Ablation] = frozenset({"interchange", "resample"})
"""Ablations whose counterfactual is one run of the model on other prompts, so that a part of the
model which sees nothing but the counterfactual computes the counterfactual."""


TRAINING_MEANS: Ablation = "mean_training"
"""Means over what the model was trained on, which prompts alone do not tell."""


class Counterfactual(Protocol):
    """What dropped elements are replaced by, for the prompts of one batch."""

    def take(self, rows: Tensor) -> Self:
        """The prompts `rows` [b] alone."""
        ...


class Counterfactuals(Protocol):
    """Makes the counterfactual of any batch under one ablation.

    `notes`: numbers about how it was found, for the record. Where the counterfactual is a constant
    that files should keep, it has a `baseline` too (`baseline_of`).
    """

    @property
    def ablation(self) -> Ablation:
        """The ablation."""
        ...

    @property
    def notes(self) -> Mapping[str, float]:
        """Numbers for the record."""
        ...

    def of(self, batch: Batch) -> Any:
        """The `Counterfactual` of a batch, as the patchable model that made this takes it."""
        ...


def baseline_of(counterfactuals: Counterfactuals) -> Baseline | None:
    """The constants that dropped elements carry, where these are such as a file can keep."""
    baseline: Baseline | None = getattr(counterfactuals, "baseline", None)
    return baseline


class PatchableModel(Protocol):
    """A frozen model and the space of its elements."""

    @property
    def model(self) -> Transformer:
        """The frozen model."""
        ...

    @property
    def space(self) -> Space:
        """Its elements."""
        ...

    def counterfactuals(
        self, choices: Evaluation, pairs: Sequence[Batch], seed: int
    ) -> Counterfactuals:
        """What dropped elements are replaced by under the choices.

        Means and learned constants are those of `pairs`; `seed` is all that is left to chance.
        """
        ...

    def logits(self, batch: Batch, masks: Tensor, counterfactual: Any) -> Tensor:
        """Logits [S, B, P, V] at the read positions of the clean prompts, for S masks [S, E].

        Masks are bool or float. With all ones this is the plain model (`self_check`).
        """
        ...

    def masked_logits(
        self, batch: Batch, masks: Tensor, counterfactual: Any, *, exact_zeros: bool = False
    ) -> Tensor:
        """The same, differentiable with respect to float masks [S, E].

        `exact_zeros`: gradients at masks that are exactly 0 may be left 0.
        """
        ...

    def numbers(self, tokens: int) -> int:
        """Size in numbers (floats) of the pass of one mask over this many tokens: linear in both.

        Everything that is run in chunks sizes them by this.
        """
        ...

    def counterfactual_numbers(self, tokens: int) -> int:
        """Size of the counterfactual of this many tokens, in numbers."""
        ...


@runtime_checkable
class Attributing(Protocol):
    """A patchable model that knows a cheaper way to the gradient of the full mask."""

    def attribute(self, batch: Batch, loss: Any, counterfactual: Any) -> Tensor:
        """Σ over the batch of ∂loss/∂mask at the full mask: [E], at least in single precision."""
        ...


@runtime_checkable
class Rebuilding(Protocol):
    """A patchable model that may not be the model even with all elements kept."""

    @property
    def rebuilt(self) -> bool:
        """Whether parts of the model that are no element are always replaced."""
        ...


@runtime_checkable
class Observing(Protocol):
    """A patchable model that knows what its elements carry, and so which can matter at all."""

    def differing(self, batch: Batch, counterfactual: Any) -> Tensor:
        """Elements that differ from their counterfactual where all are kept: bool [E]."""
        ...


class MakePatchable(Protocol):
    """What the `patchable` of a `GranularityInfo` names."""

    def __call__(
        self,
        model: Transformer,
        choices: Evaluation,
        pairs: Sequence[PromptPairs],
        *background: Any,
        **more: Any,
    ) -> PatchableModel:
        """The patchable model under a task's choices; `pairs` are all that it will be run on.

        Where the granularity has the ablation `mean_training`, a fourth argument is the
        `Background` that this takes means over, a `Baseline` that has them, or None. Where it has
        the capability `dictionaries`, they are given under that name.
        """
        ...


def make_patchable(
    model: Transformer,
    choices: Evaluation,
    pairs: Sequence[PromptPairs],
    background: Background | Baseline | None = None,
    dictionaries: DictionarySet | None = None,
) -> PatchableModel:
    """The patchable model of the granularity that the choices name.

    `background`: what the model was trained on, or means over it from a circuit's file.
    `dictionaries`: of the model, for granularities that are made of features. Raises `NotFound`
    for an unknown granularity.
    """
    info = granularity(choices.granularity)
    make: MakePatchable = named(info.patchable)
    extra = (background,) if TRAINING_MEANS in info.ablations else ()
    if DICTIONARIES in info.capabilities:
        return make(model, choices, pairs, *extra, dictionaries=dictionaries)
    return make(model, choices, pairs, *extra)


@torch.no_grad()
def plain_logits(model: Transformer, batch: Batch, *, corrupted: bool = False) -> Tensor:
    """Logits [B, P, V] of the whole model at the read positions."""
    tokens = batch.corrupted if corrupted else batch.clean
    return model.unembed(batch.at_positions(model.stream(tokens)), batch.read_tokens(tokens))


def mask_gradient(
    patchable: PatchableModel, batch: Batch, loss: Any, counterfactual: Any, mask: Tensor
) -> Tensor:
    """Σ over the batch of ∂loss/∂mask at a float mask [E]: [E]."""
    leaf = mask.detach().clone().requires_grad_()
    with torch.enable_grad():
        total = loss(patchable.masked_logits(batch, leaf[None], counterfactual)).sum()
        (gradient,) = torch.autograd.grad(total, leaf)
    return gradient


# ---------------------------------------------------------------- self-check
ROUNDINGS = 2**10
COARSEST = 0.5


def check_tolerance(dtype: torch.dtype) -> float:
    """How far two passes that round differently may be apart, in the logits' standard deviation.

        min(ROUNDINGS·ε, COARSEST),   ε = 2^-52, 2^-23, 2^-10, 2^-7 for float64, 32, 16, bfloat16

    that is 2e-13, 1e-4, ½ and ½. The largest difference of random models of 1 to 24 layers is 4 to
    50 ε, whatever their depth; where a few coordinates dwarf the rest of the stream it is up to
    1000 ε. In half precision COARSEST rules, which refuses only what is plainly another model: to
    be sure of a loaded model, run one cell of it in float32.
    """
    return min(ROUNDINGS * torch.finfo(dtype).eps, COARSEST)


def self_check(patchable: PatchableModel, batch: Batch, counterfactual: Any) -> float:
    """Refuse a model whose pass with all elements kept is not its plain pass.

    Returns the largest difference relative to the spread of the logits. Raises
    `HarnessError` beyond `check_tolerance` of the model's precision or if logits are not finite;
    where the model is `Rebuilding`, if they are not finite alone.
    """
    model = patchable.model
    dtype = model.embedding.dtype
    everything = torch.ones(
        1, len(patchable.space), dtype=torch.bool, device=model.embedding.device
    )
    plain = single(plain_logits(model, batch))
    patched = single(patchable.logits(batch, everything, counterfactual)[0])
    worst = float((patched - plain).abs().max() / plain.std().clamp(min=1e-6))
    tolerance = check_tolerance(dtype)
    if isinstance(patchable, Rebuilding) and patchable.rebuilt:
        tolerance = torch.finfo(torch.float64).max
    if not worst <= tolerance:
        overflow = dtype == torch.float16 and not torch.isfinite(patched + plain).all()
        raise HarnessError(
            f"self-check failed: with all {patchable.space.unit} kept the patched pass differs "
            f"from the model by {worst:.2e} of the logits' spread (allowed {tolerance:.0e}); the "
            "model is refused"
            + ("; its numbers leave float16's range: use bfloat16 or float32" if overflow else "")
        )
    return worst
