"""What tables say of the model without a circuit is what `judge` says of it."""

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
from harness.errors import HarnessError
from harness.evaluation.controls.random_sets import RandomSets
from harness.evaluation.necessity import interchange, necessity
from harness.evaluation.setup import Setup
from harness.evaluation.validation.needed import RANDOM_SETS, Needed
from harness.metrics.necessity import moved_share

ALL = ("necessity", "calibrated_necessity", "random_necessity", "interchange_share")


@pytest.fixture
def setup(random_batch) -> Setup:
    model = small_model("gpt2-like")
    graph = Graph.of(model.config)
    choices = replace(CHOICES, ablation="zero", measures=("kl", *ALL))
    return Setup(
        EdgeModel(model, graph),
        [random_batch(n=12)],
        EdgeCounterfactuals(model, graph, "zero"),
        choices,
    )


def test_columns_are_what_judge_measures(setup):
    needed = Needed(setup, setup, seed=3)
    assert needed.chosen == ALL
    draw = torch.Generator().manual_seed(1)
    circuits = [RandomSets.of(setup).draw(size, 1, draw)[0] for size in (10, 40)]
    values = needed.measure(circuits)
    assert {name: x.shape for name, x in values.items()} == dict.fromkeys(ALL, (2, setup.n))
    for row, kept in enumerate(circuits):
        draws = torch.Generator().manual_seed(3)
        sets = RandomSets.of(setup).draw(int(kept.sum()), RANDOM_SETS, draws)
        losses, moved = necessity(setup, setup, kept, sets), interchange(setup, kept, [], 3)
        assert losses is not None
        assert moved is not None
        wanted = {
            "necessity": losses["task_loss"]["without_circuit"]["value"],
            "calibrated_necessity": losses["calibrated"]["without_circuit"]["value"],
            "random_necessity": losses["task_loss"]["random_mean"],
            "interchange_share": moved["share"]["value"],
        }
        for name, value in wanted.items():
            assert values[name][row].mean() == pytest.approx(value, rel=1e-5), name


def test_the_mean_of_shares_is_the_share_of_means():
    rng = np.random.default_rng(0)
    clean, patched, corrupted = rng.normal(size=(3, 50))
    shares = moved_share(clean, patched, corrupted)
    assert shares.mean() == pytest.approx((clean - patched).mean() / (clean - corrupted).mean())
    assert np.isnan(moved_share(clean, clean, clean)).all()


def test_what_cannot_be_measured_is_refused_before_the_search(setup):
    (batch,) = setup.batches
    one_sided = replace(setup, batches=[replace(batch, bad=torch.full_like(batch.bad, -1))])
    with pytest.raises(HarnessError, match="necessity is a task loss, which needs good and bad"):
        Needed(one_sided, setup, 0)
    squared = replace(setup, choices=replace(setup.choices, metric="squared_error"))
    with pytest.raises(HarnessError, match="interchange_share is a share of what the corruption"):
        Needed(squared, squared, 0)
    nothing = replace(setup, choices=replace(setup.choices, measures=()))
    assert Needed(replace(nothing, batches=one_sided.batches), nothing, 0).chosen == ()
