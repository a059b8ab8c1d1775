"""What is read from logits at the answer positions. Each measure is defined here, once.

Logits are [..., B, P, V] at the P read positions of a `Batch`; every function returns one
number per prompt [..., B], the mean over the positions that the prompt uses. Leading axes
(several circuits at once) pass through. Logits in half precision are measured in float32.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from harness.datasets.batch import Batch
from harness.models.precision import at_least_single, single


def over_positions(values: Tensor, batch: Batch) -> Tensor:
    """Mean of [..., B, P] over the positions in use."""
    return values.where(batch.read, 0).sum(-1) / batch.read.sum(-1)


def _set_weights(batch: Batch) -> tuple[Tensor, Tensor]:
    """Membership of `good` not in `bad`, and of `bad` not in `good`; bool [B, P, ·]."""
    same = batch.good[..., :, None] == batch.bad[..., None, :]
    good = (batch.good >= 0) & ~same.any(-1)
    bad = (batch.bad >= 0) & ~same.any(-2)
    return good, bad


def _gather(values: Tensor, ids: Tensor) -> Tensor:
    """Entries of values [..., B, P, V] at ids [B, P, ·] (negative ids give entry 0)."""
    index = ids.clamp(min=0).expand(*values.shape[:-1], ids.shape[-1])
    return values.gather(-1, index)


def _mean_over(values: Tensor, members: Tensor, batch: Batch) -> Tensor:
    """Mean of the members of values [..., B, P, ·]; not a number where there are none.

    Positions that a prompt does not use have none either. What they give is left out later, but
    must not be 0/0 there, whose gradient would spoil the others'.
    """
    weights = members.to(values.dtype)
    return (values * weights).sum(-1) / weights.sum(-1).where(batch.read, 1)


def logit_diff(logits: Tensor, batch: Batch) -> Tensor:
    """Mean logit of the good answers minus mean logit of the bad ones, in nats.

    Answers in both sets are left out: for one good and one bad answer this is the usual
    logit difference (Wang et al. 2023); for sets (Othello) it contrasts what tells the clean
    prompt from the corrupted one.
    """
    good, bad = _set_weights(batch)
    return over_positions(
        _mean_over(single(_gather(logits, batch.good)), good, batch)
        - _mean_over(single(_gather(logits, batch.bad)), bad, batch),
        batch,
    )


def prob_diff(logits: Tensor, batch: Batch) -> Tensor:
    """Probability of the good answers minus that of the bad, in [-1, 1] (Hanna et al. 2023).

    Over the whole vocabulary; answers in both sets are left out. `prob_diff_10` of ordered answers
    (`harness.evaluation.answer_measures`) is another measure, not this one on fewer of them.
    """
    probabilities = single(logits).softmax(-1)
    good, bad = _set_weights(batch)
    difference = (_gather(probabilities, batch.good) * good).sum(-1) - (
        _gather(probabilities, batch.bad) * bad
    ).sum(-1)
    return over_positions(difference, batch)


def accuracy(logits: Tensor, batch: Batch) -> Tensor:
    """Share of read positions whose largest logit is a correct answer (top-1 legal rate)."""
    top = logits.argmax(-1, keepdim=True)
    return over_positions((top == batch.good).any(-1).to(at_least_single(logits.dtype)), batch)


def good_mass(logits: Tensor, batch: Batch) -> Tensor:
    """Probability of all correct answers together (for Othello: legal probability mass)."""
    probabilities = single(logits).softmax(-1)
    members = (batch.good >= 0).to(probabilities.dtype)
    return over_positions((_gather(probabilities, batch.good) * members).sum(-1), batch)


def agreement(logits: Tensor, model_logits: Tensor, batch: Batch) -> Tensor:
    """Share of read positions where circuit and model have the same largest logit."""
    same = logits.argmax(-1) == model_logits.argmax(-1)
    return over_positions(same.to(at_least_single(logits.dtype)), batch)


def kl(logits: Tensor, model_logits: Tensor, batch: Batch) -> Tensor:
    """KL(model ‖ circuit) = Σ_v p_model(v)·(log p_model(v) - log p_circuit(v)), in nats.

    Over the whole vocabulary, in double precision: a faithful circuit's KL is a small difference
    of large sums. Rounding below zero is cut off, since KL is never negative.
    """
    p, q = model_logits.double().log_softmax(-1), logits.double().log_softmax(-1)
    return over_positions((p.exp() * (p - q)).sum(-1).clamp(min=0), batch)


def answer_loss(logits: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy to the uniform distribution over the correct answers, in nats."""
    members = batch.good >= 0
    return over_positions(
        -_mean_over(_gather(single(logits).log_softmax(-1), batch.good), members, batch), batch
    )


def squared_error(logits: Tensor, model_logits: Tensor, batch: Batch) -> Tensor:
    """Σ_v (logit - the whole model's logit)², for outputs that are numbers, not log-odds.

    Compiled programs write one-hot vectors or a share into their logits; their softmax is nearly
    flat, so that KL hardly sees a wrong answer (Conmy et al. 2023 use squared error there).
    """
    return over_positions((single(logits) - single(model_logits)).square().sum(-1), batch)


Measured = Callable[[Tensor, Tensor, Batch], Tensor]
"""(logits [..., B, P, V], the whole model's logits [B, P, V], batch) to one number per prompt."""

METRICS: dict[str, Measured] = {
    "logit_diff": lambda logits, _, batch: logit_diff(logits, batch),
    "prob_diff": lambda logits, _, batch: prob_diff(logits, batch),
    "squared_error": squared_error,
}
"""What a task can be scored by: the number that faithfulness is a ratio of."""

LOSSES: dict[str, Measured] = {
    "logit_diff": lambda logits, _, batch: -logit_diff(logits, batch),
    "prob_diff": lambda logits, _, batch: -prob_diff(logits, batch),
    "cross_entropy": lambda logits, _, batch: answer_loss(logits, batch),
    "kl": kl,
    "squared_error": squared_error,
}
"""What a method can attribute or optimise, smaller being better."""

NEGATED = frozenset({"logit_diff", "prob_diff"})
"""Losses that are the negative of the measure of their name, which is the larger the better."""
