"""How good dictionaries are: sparse, alive, close to what they code, and enough for the model.

All is measured on held-out prompts. Explained variance does not predict what a splice costs, so
both are given; what counts for circuits is the splice of all sites at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from harness.datasets.batch import Batches
from harness.datasets.pairs import PromptPairs
from harness.dictionaries.dictionary import Dictionary, DictionarySet
from harness.dictionaries.sites import activations
from harness.dictionaries.splice import Replace, divergence, held_out, replaced_logits
from harness.metrics.logits import accuracy, cross_entropy, good_mass
from harness.models.sites import tapped_run
from harness.models.transformer import Transformer

OPPOSITE = -0.9
"""Cosine below which two features are a pair of opposites."""

DENSE = 0.5
FREQUENCIES = (0.0, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 0.5, 1.0)
"""Edges of the histogram of how often features are active; the first bin is that of dead ones."""

_BATCH = 64
_TASK = {"accuracy": accuracy, "good_mass": good_mass, "loss": cross_entropy}


@dataclass(frozen=True)
class SiteMeasures:
    """Of the dictionary of one site.

    `l0`: active features of a token; `l0_by_position`: of the tokens at each. `alive`: features
    that are ever active; `dense`: at more than half of the tokens. `ev`: explained variance,
    1 − Σ‖x − x̂‖² / Σ‖x − mean x‖²; `cosine`: mean of x and x̂; `error_share`: mean error norm over
    mean norm. `opposite`: alive features that have an opposite. `splice`: the model with this site
    alone replaced. `recovered`: (loss with the site zero − spliced) / (zero − model's loss).
    `frequencies`: features in each bin of `FREQUENCIES`.
    """

    site: str
    features: int
    l0: float
    l0_by_position: tuple[float, ...]
    alive: int
    dense: int
    opposite: int
    norm: float
    error_share: float
    ev: float
    cosine: float
    frequencies: tuple[int, ...]
    splice: Mapping[str, float] = field(default_factory=dict)
    recovered: float | None = None


@dataclass(frozen=True)
class DictionaryMeasures:
    """Of all dictionaries of a model: what the model does, plain and with all sites replaced."""

    prompts: int
    tokens: int
    model: Mapping[str, float]
    spliced: Mapping[str, float]
    sites: tuple[SiteMeasures, ...]

    @property
    def l0(self) -> float:
        """Mean over sites of the active features of a token."""
        return sum(one.l0 for one in self.sites) / len(self.sites)

    def record(self) -> dict[str, Any]:
        """Plain JSON data."""
        return asdict(self) | {"l0": self.l0}


@torch.no_grad()
def measure(
    model: Transformer, dictionaries: DictionarySet, pairs: PromptPairs
) -> DictionaryMeasures:
    """Measure dictionaries on the clean prompts of pairs; answers are scored where these are read.

    Costs one run of the model for the activations, and one more for each site, for each site at
    zero, and for all at once.
    """
    plain = behaviour(model, pairs, {})
    sites = []
    for site, dictionary in dictionaries.items():
        splice = behaviour(model, pairs, {site: dictionary})
        zero = behaviour(model, pairs, {site: torch.zeros_like})["loss"]
        gap = zero - plain["loss"]
        recovered = None if gap <= 0 else (zero - splice["loss"]) / gap
        own = code_measures(model, site, dictionary, pairs)
        sites.append(SiteMeasures(**own, splice=splice, recovered=recovered))
    return DictionaryMeasures(
        prompts=len(pairs),
        tokens=int(pairs.lengths.sum()),
        model=plain,
        spliced=behaviour(model, pairs, dictionaries),
        sites=tuple(sites),
    )


@torch.no_grad()
def behaviour(
    model: Transformer, pairs: PromptPairs, replace: Mapping[str, Replace]
) -> dict[str, float]:
    """What the model answers with some sites replaced, and how far it is from the plain one.

    `accuracy`, `good_mass` and `loss` (nats) where answers are read; `kl` (nats) over all tokens.
    """
    device = model.embedding.device
    sums = dict.fromkeys(_TASK, 0.0)
    for batch in Batches(pairs, _BATCH, device.type):

        def tap(site: str, value: Tensor) -> Tensor:
            return replace[site](value) if site in replace else value

        read = tapped_run(model, batch.clean, tap)
        logits = model.to_logits(batch.at_positions(read), batch.read_tokens(batch.clean))
        for name, score in _TASK.items():
            sums[name] += float(score(logits, batch).sum(dtype=torch.float64))
    kl, tokens = 0.0, 0
    for run in held_out(pairs, device):
        if replace:
            plain = model(run.tokens, run.lengths)
            other = replaced_logits(model, run.tokens, replace, run.lengths)
            kl += float(divergence(plain, other)[run.rows].sum(dtype=torch.float64))
        tokens += int(run.rows.sum())
    return {name: value / len(pairs) for name, value in sums.items()} | {"kl": kl / tokens}


@torch.no_grad()
def code_measures(
    model: Transformer, site: str, dictionary: Dictionary, pairs: PromptPairs
) -> dict[str, Any]:
    """All of `SiteMeasures` that needs no splice."""
    runs = list(held_out(pairs, model.embedding.device))
    longest = max(run.tokens.shape[1] for run in runs)
    zeros = model.embedding.new_zeros
    fired = zeros(dictionary.features, dtype=torch.float64)
    by_position, at_position = (zeros(longest, dtype=torch.float64) for _ in range(2))
    total, squares = zeros(dictionary.width, dtype=torch.float64), 0.0
    missing = norm = error = cosine = 0.0
    for run in runs:
        x = activations(model, run.tokens, [site], run.lengths)[site]
        code = dictionary.encode(x)
        decoded = dictionary.decode(code)
        active = (code > 0).double()
        fired += active.sum((0, 1))
        by_position[: x.shape[1]] += active.sum((0, 2))
        at_position[: x.shape[1]] += len(x)
        wide, off = x.double(), (x - decoded).double()
        total += wide.sum((0, 1))
        squares += float(wide.square().sum())
        missing += float(off.square().sum())
        norm += float(wide.norm(dim=-1).sum())
        error += float(off.norm(dim=-1).sum())
        cosine += float(torch.cosine_similarity(wide, decoded.double(), dim=-1).sum())
    count = float(at_position.sum())
    variance = squares - float(total.square().sum()) / count
    often = fired / count
    return {
        "site": site,
        "features": dictionary.features,
        "l0": float(fired.sum()) / count,
        "l0_by_position": tuple((by_position / at_position.clamp(min=1)).tolist()),
        "alive": int((fired > 0).sum()),
        "dense": int((often > DENSE).sum()),
        "opposite": opposites(dictionary.decoder[fired > 0]),
        "norm": norm / count,
        "error_share": error / norm if norm else 0.0,
        "ev": 1 - missing / variance if variance > 0 else 0.0,
        "cosine": cosine / count,
        "frequencies": _histogram(often),
    }


def opposites(rows: Tensor) -> int:
    """How many of some unit rows [F, D] have one that points the other way."""
    count = 0
    for part in rows.split(4096):
        count += int(((part @ rows.T).amin(1) < OPPOSITE).sum()) if len(rows) else 0
    return count


def _histogram(often: Tensor) -> tuple[int, ...]:
    bins = [((often > low) & (often <= high)).sum() for low, high in pairwise(FREQUENCIES)]
    return tuple(int(one) for one in ((often == 0).sum(), *bins))
