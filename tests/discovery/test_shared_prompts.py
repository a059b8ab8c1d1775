"""Methods whose prompts several processes share give the scores of one process.

Also where a process has none of a batch's rows.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support.feature_sets import CONFIG, dictionaries
from support.threads_as_processes import in_processes
from support.toy_task import CHOICES, FirstToken

from harness.circuits.patchable import make_patchable
from harness.datasets.batch import Batches
from harness.discovery.problem import Problem
from harness.discovery.registry import built_in, make_method
from harness.models.transformer import random_model

PAIRS = FirstToken().pairs("train", 9, 0)
COMPONENTS = {"edge": "heads_qkv_mlps", "channel": "channels", "feature": "features_and_errors"}
ABLATIONS = ("interchange", "resample", "mean", "mean_positional", "zero")
PARAMS = {
    "edge_pruning": {"sparsities": [0.5], "steps": 3, "batch_size": 4, "draws": 2},
    "subnetwork_probing": {"prices": [0.01], "steps": 3, "batch_size": 4},
    "uniform_gradient_sampling": {"prices": [0.01], "steps": 3, "batch_size": 4},
    "heaviside_masks": {"steps": 3, "batch_size": 4},
    "eap_ig": {"steps": 3},
    "mask_gradient_ig": {"steps": 3},
    "node_attribution": {"steps": 2},
}
ABLE = [kind for kind, info in built_in().items() if info.processes]


def problem(granularity: str, ablation: str, size: int = 4) -> Problem:
    choices = replace(
        CHOICES, granularity=granularity, component=COMPONENTS[granularity], ablation=ablation
    )
    model = random_model(CONFIG, 0, dtype=torch.float64).requires_grad_(False).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.5)
    sets = dictionaries() if granularity == "feature" else None
    patchable = make_patchable(model, choices, [PAIRS], dictionaries=sets)
    batches = Batches(PAIRS, size)
    return Problem(
        patchable,
        batches,
        patchable.counterfactuals(choices, batches, 0),
        "logit_diff",
        torch.Generator().manual_seed(0),
        (10,),
    )


def scores(kind: str, granularity: str, ablation: str, size: int = 4) -> torch.Tensor:
    one = problem(granularity, ablation, size)
    found = make_method(kind, PARAMS.get(kind, {})).discover(one)
    return torch.stack([found.scores, *found.rankings.values()])


def cases() -> list[tuple[str, str, str]]:
    return [
        (kind, granularity, ablation)
        for kind in ABLE
        for granularity in COMPONENTS
        for ablation in ABLATIONS
        if granularity == "edge" or built_in()[kind].needs is None
        if kind != "random_paths"
    ]


@pytest.mark.matrix
@pytest.mark.parametrize(("kind", "granularity", "ablation"), cases())
def test_processes_share_prompts_and_get_the_scores_of_one(kind, granularity, ablation):
    """9 pairs in batches of 4, 4 and 1: of the last one two processes have no row."""
    alone = scores(kind, granularity, ablation)
    shared = in_processes(3, lambda: scores(kind, granularity, ablation))
    assert all(torch.equal(one, shared[0]) for one in shared)
    assert float((shared[0] - alone).abs().max()) <= 1e-10 * float(alone.abs().max())
