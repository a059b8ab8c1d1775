"""What the model needs of a circuit, against runs made by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.slow_reference import small_model
from support.toy_task import CHOICES

from harness.circuits.edges.counterfactuals import EdgeCounterfactuals
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.patchable import EdgeModel
from harness.circuits.patchable import plain_logits
from harness.evaluation.controls.random_sets import RandomSets
from harness.evaluation.necessity import interchange, necessity
from harness.evaluation.setup import Setup
from harness.metrics.logits import logit_diff, task_loss


@pytest.fixture
def setup(random_batch) -> Setup:
    """Under zero ablation, so that interchange has to bring its own counterfactual."""
    model = small_model("gpt2-like")
    graph = Graph.of(model.config)
    counterfactuals = EdgeCounterfactuals(model, graph, "zero")
    choices = replace(CHOICES, ablation="zero")
    return Setup(EdgeModel(model, graph), [random_batch(n=12)], counterfactuals, choices)


def some(setup: Setup, size: int, seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return RandomSets.of(setup).draw(size, 1, draw)[0]


def test_necessity_is_the_loss_of_the_model_without_the_circuit(setup):
    kept, others = some(setup, 20), [some(setup, 20, seed) for seed in (1, 2, 3)]
    found = necessity(setup, setup, kept, others)
    assert found is not None
    (batch,) = setup.batches

    def without(one: torch.Tensor) -> float:
        counterfactual = setup.counterfactuals.of(batch)
        logits = setup.patchable.logits(batch, ~one[None], counterfactual)[0]
        return float(task_loss(logits, batch).mean())

    losses = [without(one) for one in others]
    assert found["task_loss"]["without_circuit"]["value"] == pytest.approx(without(kept))
    assert found["task_loss"]["random_mean"] == pytest.approx(np.mean(losses))
    assert found["task_loss"]["random_largest"] == pytest.approx(max(losses))
    whole = task_loss(plain_logits(setup.model, batch), batch).mean()
    assert found["whole"]["value"] == pytest.approx(float(whole))
    assert not found["calibrated_with_shift"]  # prompts answer in many pairs of tokens
    # Calibrated on the very pairs that it is measured on, it is at most a coin's loss.
    assert found["calibrated"]["without_circuit"]["value"] <= np.log(2) + 1e-3


def test_a_shift_is_fitted_on_the_choice_that_it_is_used_for(setup):
    (batch,) = setup.batches

    def between(one: int, other: int) -> Setup:
        """Half of the prompts are answered by the one, half by the other."""
        good = torch.tensor([one, other] * 6)[:, None, None]
        return replace(setup, batches=[replace(batch, good=good, bad=one + other - good)])

    kept, test = some(setup, 20), between(3, 5)
    same, another = (necessity(test, search, kept, []) for search in (test, between(2, 7)))
    assert same is not None
    assert another is not None
    assert same["calibrated_with_shift"]
    assert not another["calibrated_with_shift"]  # for 2 against 7 says nothing of 3 against 5
    losses = (one["calibrated"]["without_circuit"]["value"] for one in (same, another))
    assert next(losses) < next(losses)


def test_prompts_without_bad_answers_have_no_task_loss(setup):
    (batch,) = setup.batches
    batch = replace(batch, bad=torch.full_like(batch.bad, -1))
    assert necessity(replace(setup, batches=[batch]), setup, some(setup, 5), []) is None


def test_the_whole_model_carries_all_and_nothing_carries_none(setup):
    everything = torch.ones(len(setup.space), dtype=torch.bool)
    found = interchange(setup, everything, [], seed=0)
    assert found is not None
    assert found["share"]["value"] == pytest.approx(1, abs=1e-5)
    assert found["rest"]["value"] == pytest.approx(0, abs=1e-5)
    assert found["random_mean"] is None


def test_interchange_is_the_share_of_the_way_to_the_corrupted_run(setup):
    kept, other = some(setup, 60), some(setup, 60, seed=9)
    found = interchange(setup, kept, [other], seed=0)
    assert found is not None
    (batch,) = setup.batches
    counterfactuals = EdgeCounterfactuals(setup.model, setup.patchable.space.graph, "interchange")
    clean = logit_diff(plain_logits(setup.model, batch), batch).mean()
    corrupted = logit_diff(plain_logits(setup.model, batch, corrupted=True), batch).mean()

    def share(one: torch.Tensor) -> float:
        logits = setup.patchable.logits(batch, ~one[None], counterfactuals.of(batch))[0]
        patched = logit_diff(logits, batch).mean()
        return float((clean - patched) / (clean - corrupted))

    assert found["share"]["value"] == pytest.approx(share(kept), abs=1e-5)
    assert found["rest"]["value"] == pytest.approx(share(~kept), abs=1e-5)
    assert found["random_mean"] == pytest.approx(share(other), abs=1e-5)


def test_a_distance_to_the_model_has_no_share(setup):
    squared = replace(setup, choices=replace(setup.choices, metric="squared_error"))
    assert interchange(squared, some(setup, 5), [], seed=0) is None
