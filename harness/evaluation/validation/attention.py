"""Whether heads attend in a circuit as they do in the model.

A circuit can reach its loss with patterns that the model does not have: a head whose queries and
keys are ablated mixes values by the mean's pattern (Drori 2026).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.circuits.gates.model import GatedModel
from harness.evaluation.curve import Floats
from harness.evaluation.setup import Setup
from harness.metrics.statistics import estimate, shared_resamples

LEAST = 1e-9
"""Probabilities below it count as this much."""


def attention_match(setup: Setup, kept: Tensor) -> dict[str, Any] | None:
    """KL (nats) from the model's pattern of every kept head to the circuit's, and correlations.

    Each KL is over what one token attends to (a sink is one more place), its mean over tokens and
    prompts; beside it that of the empty circuit. Correlations are of all probabilities of a head,
    on all prompts. Heads are those with a kept element. None where elements are not gates at sites,
    or no head has any.
    """
    heads = _heads(setup, kept)
    if not isinstance(setup.patchable, GatedModel) or not heads:
        return None
    nothing = torch.zeros_like(kept)
    divergences = np.full((2, len(heads), setup.n), np.nan)
    pairs: list[list[tuple[Tensor, Tensor]]] = [[] for _ in heads]
    for batch in setup.batches:
        counterfactual, rows = setup.counterfactuals.of(batch), batch.rows.cpu().numpy()
        whole = setup.patchable.patterns(batch, ~nothing, counterfactual)
        for place, mask in enumerate((kept, nothing)):
            other = setup.patchable.patterns(batch, mask, counterfactual)
            for at, (layer, head) in enumerate(heads.values()):
                p, q = whole[layer][:, head], other[layer][:, head]
                divergences[place, at, rows] = _kl(p, q).cpu().numpy()
                if place == 0:
                    seen = _seen(p.shape[-2], setup.model.config.causal).to(p.device)
                    pairs[at].append((p[:, seen].flatten().cpu(), q[:, seen].flatten().cpu()))
    correlations = [_correlation(one) for one in pairs]
    defined = [one for one in correlations if one is not None]
    return {
        "kl": _mean(divergences[0].mean(0)),
        "empty_kl": _mean(divergences[1].mean(0)),
        "correlation": float(np.mean(defined)) if defined else None,
        "heads": [
            {
                "name": name,
                "kl": float(divergences[0, at].mean()),
                "empty_kl": float(divergences[1, at].mean()),
                "correlation": correlations[at],
            }
            for at, name in enumerate(heads)
        ],
    }


def _heads(setup: Setup, kept: Tensor) -> dict[str, tuple[int, int]]:
    """Layer and number of the kept heads by name; all of a group that shares keys and values."""
    config, space = setup.model.config, setup.space
    each = config.n_heads // config.n_groups
    heads: dict[str, tuple[int, int]] = {}
    touched = space.touched(kept).tolist()
    for name in (one for one, used in zip(space.components, touched, strict=True) if used):
        part, _, owner = name.partition(".")
        if part[:1] != "a" or owner[:1] not in ("h", "g"):
            continue
        layer, number = int(part[1:]), int(owner[1:])
        members = [number] if owner[0] == "h" else range(number * each, (number + 1) * each)
        heads |= {f"{part}.h{head}": (layer, head) for head in members}
    return heads


def _seen(length: int, causal: bool) -> Tensor:
    """Which places [T, T + 1] a token can attend to, the sink's among them."""
    places = torch.ones(length, length, dtype=torch.bool)
    sink = places[:, :1]
    return torch.cat([places.tril() if causal else places, sink], 1)


def _kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(p ‖ q) of patterns [B, T, T + 1], the mean over the tokens that attend: [B]."""
    p, q = p.double().clamp(min=LEAST), q.double().clamp(min=LEAST)
    return (p * (p / q).log()).sum(-1).mean(-1)


def _correlation(pairs: list[tuple[Tensor, Tensor]]) -> float | None:
    """Pearson's, None where one of the two never changes."""
    x, y = (torch.cat(one).double() for one in zip(*pairs, strict=True))
    x, y = x - x.mean(), y - y.mean()
    size = float(x.norm() * y.norm())
    return float(x @ y) / size if size > 0 else None


def _mean(values: Floats) -> dict[str, Any]:
    return estimate(
        float(values.mean()), shared_resamples(len(values)) @ values, len(values), "mean"
    )
