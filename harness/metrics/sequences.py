"""Measures of whole sequences whose right next tokens are all known: legal moves of a game.

Logits are [..., V] at any positions, `allowed` bool [..., W] says which of the first W ≤ V tokens
may come next (further ones, such as padding, may not), `following` [...] is the token that did.
Every function returns one number per position [...], in float64. Where nothing is allowed it is not
a number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.metrics.measure import Measure

if TYPE_CHECKING:
    from torch import Tensor


def _padded(allowed: Tensor, logits: Tensor) -> Tensor:
    """`allowed` over all outputs; those that the task has no token for are not allowed."""
    from torch.nn.functional import pad

    return pad(allowed, (0, logits.shape[-1] - allowed.shape[-1]))


def _where_any(values: Tensor, allowed: Tensor) -> Tensor:
    return values.where(allowed.any(-1), float("nan"))


def allowed_top1(logits: Tensor, allowed: Tensor, following: Tensor) -> Tensor:
    """1 where the largest logit is an allowed token, else 0 (1 - Li et al.'s error rate)."""
    allowed = _padded(allowed, logits)
    top = allowed.gather(-1, logits.argmax(-1, keepdim=True))[..., 0]
    return _where_any(top.double(), allowed)


def allowed_mass(logits: Tensor, allowed: Tensor, following: Tensor) -> Tensor:
    """Probability of all allowed tokens together."""
    allowed = _padded(allowed, logits)
    return _where_any((logits.double().softmax(-1) * allowed).sum(-1), allowed)


def allowed_kl(logits: Tensor, allowed: Tensor, following: Tensor) -> Tensor:
    """KL(uniform over the allowed tokens ‖ model), in nats; 0 for the best possible model."""
    allowed = _padded(allowed, logits)
    log_p, n = logits.double().log_softmax(-1), allowed.sum(-1)
    mean = log_p.where(allowed, 0).sum(-1) / n.clamp(min=1)
    return _where_any(-n.clamp(min=1).double().log() - mean, allowed)


def excess_loss(logits: Tensor, allowed: Tensor, following: Tensor) -> Tensor:
    """-log p(following) minus ln of how many tokens are allowed, in nats.

    Where all allowed tokens are equally likely, the mean of that logarithm is the least loss that
    any model can have. The mean of the excess is that of `allowed_kl`, but for the sampling.
    """
    allowed = _padded(allowed, logits)
    chosen = logits.double().log_softmax(-1).gather(-1, following.clamp(min=0)[..., None])[..., 0]
    return _where_any(-chosen - allowed.sum(-1).clamp(min=1).double().log(), allowed)


MEASURES = (
    Measure(
        "allowed_top1",
        "allowed top-1",
        "up",
        "share of positions of whole sequences whose largest logit is an allowed next token "
        "(Othello: legal top-1)",
        "Li et al. 2023",
        "logits of sequences",
        allowed_top1,
    ),
    Measure(
        "allowed_mass",
        "allowed mass",
        "up",
        "probability of all allowed next tokens together (Othello: legal mass)",
        "standard",
        "logits of sequences",
        allowed_mass,
    ),
    Measure(
        "allowed_kl",
        "KL to uniform",
        "down",
        "KL(uniform over the allowed next tokens ‖ model), in nats",
        "standard",
        "logits of sequences",
        allowed_kl,
        unit="nats",
    ),
    Measure(
        "excess_loss",
        "excess loss",
        "down",
        "cross-entropy of the next token minus the mean of ln (number of allowed tokens), the "
        "least there can be",
        "standard",
        "logits of sequences",
        excess_loss,
        unit="nats",
    ),
)
