"""Methods on channels: gradients as scores, learned masks, and who is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support.channels import PAIRS, by_hand, gated
from support.slow_reference import small_model
from support.toy_task import CHOICES

from harness.circuits.patchable import make_patchable
from harness.datasets.batch import Batches
from harness.discovery.problem import Discovery, Problem
from harness.discovery.refusals import method_problem
from harness.discovery.registry import built_in, make_method
from harness.discovery.sizing import checked
from harness.metrics import LOSSES

LEARNED = {
    "edge_pruning": {"steps": 3, "batch_size": 4, "start": 0.0},
    "subnetwork_probing": {"steps": 3, "batch_size": 4},
    "uniform_gradient_sampling": {"steps": 3, "batch_size": 4},
}


def problem_of(ablation: str, **changes) -> Problem:
    choices = replace(CHOICES, granularity="channel", component="channels", ablation=ablation)
    patchable = make_patchable(small_model("gpt2-like", d_vocab=6), choices, [PAIRS])
    batches = Batches(PAIRS, 4)
    counterfactuals = patchable.counterfactuals(choices, batches, 0)
    draw = torch.Generator().manual_seed(0)
    sizes = (20, len(patchable.space) // 2)
    problem = Problem(patchable, batches, counterfactuals, "logit_diff", draw, sizes)
    return replace(problem, **changes)


def discovered(kind: str, params: dict, ablation: str = "mean") -> Discovery:
    problem = problem_of(ablation)
    return checked(make_method(kind, params).discover(problem), problem.space, kind)


@pytest.mark.parametrize("kind", LEARNED)
def test_masks_are_learned_on_channels(kind):
    one, other = (discovered(kind, LEARNED[kind]) for _ in range(2))
    assert torch.equal(one.scores, other.scores)
    assert one.scores.unique().numel() > 10


def test_eap_is_the_loss_of_dropping_each_channel_alone_to_first_order():
    """Central differences of each mask at 1, which the gradient there is."""
    problem = problem_of("mean")
    scores = discovered("eap", {}).scores
    total = torch.zeros_like(scores)
    step = 1e-5
    for batch in problem.batches:
        counterfactual = problem.counterfactuals.of(batch)
        ones = torch.ones(1, len(problem.space), dtype=torch.float64)
        for element in range(0, len(scores), 17):
            shift = torch.zeros_like(ones)
            shift[0, element] = step
            ends = torch.cat([ones + shift, ones - shift])
            logits = problem.patchable.logits(batch, ends, counterfactual)
            more, less = LOSSES["logit_diff"](logits, None, batch).sum(-1)
            total[element] -= float(more - less) / (2 * step)
    picked = slice(0, None, 17)
    torch.testing.assert_close(scores[picked], total[picked] / len(PAIRS), rtol=1e-4, atol=1e-8)
    assert scores.abs().max() > 1e-3


def test_channels_that_no_weight_leads_out_of_have_no_score():
    model, space = by_hand(
        mlp_in0=[(0, 2), (1, 3)], mlp_out0=[(0, 0)], qkv_map1=[(8 + 2, 0)], out_map1=[(2, 2)]
    )
    patchable, batches = gated(model), Batches(PAIRS, 4)
    choices = replace(CHOICES, granularity="channel", ablation="zero")
    counterfactuals = patchable.counterfactuals(choices, batches, 0)
    draw = torch.Generator().manual_seed(0)
    problem = Problem(patchable, batches, counterfactuals, "logit_diff", draw)
    everything = torch.ones(len(space), dtype=torch.bool)
    dead = everything & ~space.prune(everything, "zero")
    assert {"m0.hidden.1", "a1.v.3", "a0.q.0"} <= {space.name(e) for e in dead.nonzero().flatten()}
    for kind, params in (("eap", {}), ("mask_gradient_ig", {"steps": 2})):
        scores = make_method(kind, params).discover(problem).scores
        assert not scores[dead].any()
        assert scores[space.index("m0.hidden.0")] != 0


def test_only_methods_that_must_know_what_an_edge_is_are_refused():
    choices = replace(CHOICES, granularity="channel", component="channels", ablation="zero")
    able = {
        kind
        for kind, info in built_in().items()
        if method_problem(kind, info.defaults, choices, False) is None
    }
    assert able >= {"eap", "mask_gradient_ig", "random", "random_paths", *LEARNED}
    for kind in set(built_in()) - able:
        problem = method_problem(kind, built_in()[kind].defaults, choices, False)
        assert problem.startswith(f"{kind} cannot find circuits of granularity 'channel'")
