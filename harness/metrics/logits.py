"""Measures that are read from logits at the answer positions.

Logits are [..., B, P, V] at the P read positions of a batch (`Answers`); every function returns one
number per prompt [..., B], the mean over the positions that the prompt uses. Leading axes
(several circuits at once) pass through. Logits in half precision are measured in float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.metrics.measure import Answers, Measure

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def over_positions(values: Tensor, batch: Answers) -> Tensor:
    """Mean of [..., B, P] over the positions in use."""
    return values.where(batch.read, 0).sum(-1) / batch.read.sum(-1)


def _single(x: Tensor) -> Tensor:
    """x in float32 if it is in half precision, else x itself."""
    return x.float() if x.element_size() < 4 else x


def _share_dtype(logits: Tensor) -> torch.dtype:
    """Precision in which shares of positions are counted."""
    return _single(logits[..., :0]).dtype


def _set_weights(batch: Answers) -> tuple[Tensor, Tensor]:
    """Membership of `good` not in `bad`, and of `bad` not in `good`; bool [B, P, ·]."""
    same = batch.good[..., :, None] == batch.bad[..., None, :]
    good = (batch.good >= 0) & ~same.any(-1)
    bad = (batch.bad >= 0) & ~same.any(-2)
    return good, bad


def _gather(values: Tensor, ids: Tensor) -> Tensor:
    """Entries of values [..., B, P, V] at ids [B, P, ·] (negative ids give entry 0)."""
    index = ids.clamp(min=0).expand(*values.shape[:-1], ids.shape[-1])
    return values.gather(-1, index)


def _mean_over(values: Tensor, members: Tensor, batch: Answers) -> Tensor:
    """Mean of the members of values [..., B, P, ·]; not a number where there are none.

    Positions that a prompt does not use have none either. What they give is left out later, but
    must not be 0/0 there, whose gradient would spoil the others'.
    """
    weights = members.to(values.dtype)
    return (values * weights).sum(-1) / weights.sum(-1).where(batch.read, 1)


def logit_diff(logits: Tensor, batch: Answers) -> Tensor:
    """Mean logit of the good answers minus mean logit of the bad ones, in nats.

    Answers in both sets are left out: for one good and one bad answer this is the usual
    logit difference (Wang et al. 2023); for sets (Othello) it contrasts what tells the clean
    prompt from the corrupted one.
    """
    good, bad = _set_weights(batch)
    return over_positions(
        _mean_over(_single(_gather(logits, batch.good)), good, batch)
        - _mean_over(_single(_gather(logits, batch.bad)), bad, batch),
        batch,
    )


def _odds(logits: Tensor, batch: Answers) -> Tensor:
    """Log odds of the good answers against the bad ones at each position: [..., B, P]."""
    good, bad = _set_weights(batch)
    return _log_sum_exp(logits, batch.good, good, batch) - _log_sum_exp(
        logits, batch.bad, bad, batch
    )


def _log_sum_exp(logits: Tensor, ids: Tensor, members: Tensor, batch: Answers) -> Tensor:
    """log Σ exp over the members of ids [B, P, ·]; not a number where there are none.

    Positions that a prompt does not use give 0, so that their gradient is 0 too.
    """
    values = _single(_gather(logits, ids))
    counted = members | ~batch.read[..., None]
    total = values.masked_fill(~counted, float("-inf")).logsumexp(-1)
    return total.where(members.any(-1), float("nan")).where(batch.read, 0)


def log_odds(logits: Tensor, batch: Answers) -> Tensor:
    """log p(good) - log p(bad) of the sets of answers, in nats: logsumexp over each.

    Answers in both sets are left out. With one answer in each it is `logit_diff`.
    """
    return over_positions(_odds(logits, batch), batch)


def task_loss(logits: Tensor, batch: Answers) -> Tensor:
    """-log p(good | good or bad answers), in nats; ln 2 is chance (Gao et al. 2025).

    The cross-entropy of a choice between the two sets alone, softplus(-log odds). A mean over
    prompts is per sequence: half of what is summed over both prompts of a pair.
    """
    from torch.nn.functional import softplus

    return over_positions(softplus(-_odds(logits, batch)), batch)


def p_correct(logits: Tensor, batch: Answers) -> Tensor:
    """p(good | good or bad answers) = sigmoid(log odds); ½ is chance (Gao et al. 2025)."""
    return over_positions(_odds(logits, batch).sigmoid(), batch)


def choice_accuracy(logits: Tensor, batch: Answers) -> Tensor:
    """Share of read positions where good answers are likelier than bad ones; ½ is chance.

    A tie counts half. Other tokens may be likelier than either: that is `accuracy`.
    """
    odds = _odds(logits, batch)
    return over_positions(0.5 * (1 + odds.sign()), batch)


def prob_diff(logits: Tensor, batch: Answers) -> Tensor:
    """Probability of the good answers minus that of the bad, in [-1, 1] (Hanna et al. 2023).

    Over the whole vocabulary; answers in both sets are left out. `prob_diff_10` of ordered answers
    (`harness.metrics.ordered_answers`) is another measure, not this one on fewer of them.
    """
    probabilities = _single(logits).softmax(-1)
    good, bad = _set_weights(batch)
    difference = (_gather(probabilities, batch.good) * good).sum(-1) - (
        _gather(probabilities, batch.bad) * bad
    ).sum(-1)
    return over_positions(difference, batch)


def accuracy(logits: Tensor, batch: Answers) -> Tensor:
    """Share of read positions whose largest logit is a correct answer (top-1 legal rate)."""
    top = logits.argmax(-1, keepdim=True)
    return over_positions((top == batch.good).any(-1).to(_share_dtype(logits)), batch)


def good_mass(logits: Tensor, batch: Answers) -> Tensor:
    """Probability of all correct answers together (for Othello: legal probability mass)."""
    probabilities = _single(logits).softmax(-1)
    members = (batch.good >= 0).to(probabilities.dtype)
    return over_positions((_gather(probabilities, batch.good) * members).sum(-1), batch)


def agreement(logits: Tensor, model_logits: Tensor, batch: Answers) -> Tensor:
    """Share of read positions where circuit and model have the same largest logit."""
    same = logits.argmax(-1) == model_logits.argmax(-1)
    return over_positions(same.to(_share_dtype(logits)), batch)


def kl(logits: Tensor, model_logits: Tensor, batch: Answers) -> Tensor:
    """KL(model ‖ circuit) = Σ_v p_model(v)·(log p_model(v) - log p_circuit(v)), in nats.

    Over the whole vocabulary, in double precision: a faithful circuit's KL is a small difference
    of large sums. Rounding below zero is cut off, since KL is never negative.
    """
    p, q = model_logits.double().log_softmax(-1), logits.double().log_softmax(-1)
    return over_positions((p.exp() * (p - q)).sum(-1).clamp(min=0), batch)


def cross_entropy(logits: Tensor, batch: Answers) -> Tensor:
    """Cross-entropy to the uniform distribution over the correct answers, in nats."""
    members = batch.good >= 0
    return over_positions(
        -_mean_over(_gather(_single(logits).log_softmax(-1), batch.good), members, batch), batch
    )


def squared_error(logits: Tensor, model_logits: Tensor, batch: Answers) -> Tensor:
    """Σ_v (logit - the whole model's logit)², for outputs that are numbers, not log-odds.

    Compiled programs write one-hot vectors or a share into their logits; their softmax is nearly
    flat, so that KL hardly sees a wrong answer (Conmy et al. 2023 use squared error there).
    """
    return over_positions((_single(logits) - _single(model_logits)).square().sum(-1), batch)


MEASURES = (
    Measure(
        "logit_diff",
        "logit difference",
        "up",
        "mean logit of good answers minus mean logit of bad ones (answers in both left out)",
        "Wang et al. 2023",
        "logits",
        logit_diff,
        unit="nats",
        roles=frozenset({"metric", "objective", "recorded"}),
    ),
    Measure(
        "prob_diff",
        "probability difference",
        "up",
        "probability of good answers minus probability of bad ones, over the whole vocabulary",
        "Hanna et al. 2023",
        "logits",
        prob_diff,
        roles=frozenset({"metric", "objective", "recorded", "extra"}),
    ),
    Measure(
        "cross_entropy",
        "cross-entropy",
        "down",
        "-mean log probability of the correct answers: cross-entropy to their uniform distribution",
        "standard",
        "logits",
        cross_entropy,
        unit="nats",
        roles=frozenset({"objective"}),
    ),
    Measure(
        "task_loss",
        "task loss",
        "down",
        "-log p(good answers | good or bad ones): a choice between two sets; ln 2 is chance",
        "Gao et al. 2025",
        "logits",
        task_loss,
        unit="nats",
        roles=frozenset({"objective", "extra"}),
    ),
    Measure(
        "p_correct",
        "p(correct)",
        "up",
        "p(good answers | good or bad ones), ½ is chance",
        "Gao et al. 2025",
        "logits",
        p_correct,
        roles=frozenset({"extra"}),
    ),
    Measure(
        "choice_accuracy",
        "choice accuracy",
        "up",
        "share of read positions where p(good answers | good or bad ones) is above ½; ½ is chance",
        "Gao et al. 2025",
        "logits",
        choice_accuracy,
        roles=frozenset({"extra"}),
    ),
    Measure(
        "log_odds",
        "log odds",
        "up",
        "log of the probability of all good answers over that of all bad ones (answers in both "
        "left out)",
        "standard",
        "logits",
        log_odds,
        unit="nats",
        roles=frozenset({"extra"}),
    ),
    Measure(
        "kl",
        "KL",
        "down",
        "KL(model ‖ circuit) over the whole vocabulary at the read positions, in nats",
        "ACDC (Conmy et al. 2023)",
        "logits of circuit and model",
        kl,
        unit="nats",
        roles=frozenset({"objective", "recorded"}),
        distance=True,
    ),
    Measure(
        "squared_error",
        "squared error",
        "down",
        "Σ (logit of the circuit - logit of the model)² over the vocabulary: for outputs that are "
        "numbers, not log-odds",
        "ACDC (Conmy et al. 2023)",
        "logits of circuit and model",
        squared_error,
        unit="logit²",
        roles=frozenset({"metric", "objective", "recorded"}),
        distance=True,
    ),
    Measure(
        "accuracy",
        "accuracy",
        "up",
        "share of read positions whose largest logit is a correct answer "
        "(Othello: top-1 legal rate)",
        "standard",
        "logits",
        accuracy,
        roles=frozenset({"recorded"}),
    ),
    Measure(
        "agreement",
        "agreement",
        "up",
        "share of read positions where circuit and model have the same largest logit",
        "Edge Pruning (Bhaskar et al. 2024), exact match",
        "logits of circuit and model",
        agreement,
        roles=frozenset({"recorded", "extra"}),
    ),
    Measure(
        "good_mass",
        "correct mass",
        "up",
        "probability of all correct answers together (Othello: legal probability mass)",
        "standard",
        "logits",
        good_mass,
        roles=frozenset({"recorded", "extra"}),
    ),
)
