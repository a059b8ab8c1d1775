"""Granularity `channel`: the channels of the sites that weight-sparse models are pruned at.

channels   what every attention and MLP reads, computes and writes, and the final read
           (Gao et al. 2025, A.5)
neurons    MLPs' hidden layers and heads' outputs alone; no weights lie between these
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.circuits.background import Background
from harness.circuits.baseline import Baseline
from harness.circuits.gates.codes import Channels
from harness.circuits.gates.info import INFO
from harness.circuits.gates.model import GatedModel
from harness.circuits.gates.space import GatedSpace, Gates
from harness.circuits.gates.wiring import Wiring
from harness.datasets.pairs import PromptPairs
from harness.models.sites import sites
from harness.models.transformer import Transformer
from harness.spec.types import Evaluation

GATED = {
    "channels": ("a.in", "a.q", "a.k", "a.v", "a.out", "m.in", "m.hidden", "m.out", "final"),
    "neurons": ("a.z", "m.hidden"),
}


def patchable(
    model: Transformer,
    choices: Evaluation,
    pairs: Sequence[PromptPairs],
    background: Background | Baseline | None = None,
) -> GatedModel:
    """The channels of a model under a task's choices; all positions share a channel's mask."""
    gated = [site for site in sites(model.config) if site.kind in GATED[choices.component]]
    gates = [
        Gates(site.name, site.width, site.heads, site.heads not in (None, model.config.n_heads))
        for site in gated
    ]
    wiring = Wiring.of(model) if choices.component == "channels" else None
    space = GatedSpace.of(INFO.name, INFO.unit, gates, wiring)
    return GatedModel(model, space, {site.name: Channels() for site in gated}, background)
