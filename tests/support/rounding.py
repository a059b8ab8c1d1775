"""How far rounding of logits may move a divergence."""

from __future__ import annotations

import math


def kl_bound(kl: float, error: float) -> float:
    """Largest change of KL(p ‖ q) in nats when each logit of q is off by at most `error`, about.

    To first order Σ (q - p)·error ≤ error·‖p - q‖₁ ≤ error·√(2·KL) by Pinsker's inequality; the
    second order is at most error².
    """
    return error * math.sqrt(2 * kl) + error**2
