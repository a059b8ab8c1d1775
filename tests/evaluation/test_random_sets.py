"""Random sets are drawn from what can matter, and what they say has an interval."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from support.slow_reference import small_model
from support.toy_task import CHOICES, FirstToken

from harness.circuits.edges.counterfactuals import EdgeCounterfactuals
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.patchable import EdgeModel
from harness.circuits.patchable import make_patchable
from harness.datasets.batch import Batches
from harness.dictionaries.dictionary import DictionarySet, random_dictionary
from harness.evaluation.controls.random_sets import RandomSets, of_sets
from harness.evaluation.setup import Setup
from harness.models.config import TransformerConfig
from harness.models.transformer import random_model

CONFIG = TransformerConfig(n_layers=2, n_heads=2, d_model=8, d_head=4, d_mlp=12, d_vocab=6, n_ctx=4)


def of_features(ablation: str, component: str) -> Setup:
    """Two sites of ten features each; four of the first are never active."""
    model = random_model(CONFIG, 0, dtype=torch.float64).requires_grad_(False)
    sets = {}
    for index, site in enumerate(("a0.out", "m1.out")):
        sets[site] = random_dictionary(8, 10, "relu_l1", seed=index)
        with torch.no_grad():
            sets[site].encoder_bias.add_(0.01)
            if index == 0:
                sets[site].encoder_bias[3:7] = -1e6
    choices = replace(CHOICES, granularity="feature", component=component, ablation=ablation)
    pairs = FirstToken().pairs("train", 12, 0)
    batches = Batches(pairs, 12, "cpu", 0)
    frozen = DictionarySet(sets).to(dtype=torch.float64).frozen()
    patchable = make_patchable(model, choices, [pairs], dictionaries=frozen)
    return Setup(patchable, batches, patchable.counterfactuals(choices, batches, 0), choices)


@pytest.mark.parametrize(
    "component", ["features", "features_and_errors", "features_without_errors"]
)
@pytest.mark.parametrize("ablation", ["zero", "interchange", "mean"])
def test_what_is_not_among_them_changes_nothing(ablation: str, component: str) -> None:
    setup = of_features(ablation, component)
    among = RandomSets.of(setup).among
    assert not among[3:7].any()
    assert among.any()
    for batch in setup.batches:
        counterfactual = setup.counterfactuals.of(batch)
        masks = torch.stack([torch.ones_like(among), among])
        whole, without = setup.patchable.logits(batch, masks, counterfactual)
        torch.testing.assert_close(without, whole, rtol=0, atol=0)
        # And each of the first site's does something by itself where all else is kept. Of the
        # last site's some are active only at tokens that are not read.
        for one in among[:10].nonzero().flatten().tolist():
            mask = torch.ones_like(among)
            mask[one] = False
            assert not torch.equal(
                setup.patchable.logits(batch, mask[None], counterfactual)[0], whole
            )


def test_sets_have_the_size_and_take_what_matters_first() -> None:
    setup = of_features("zero", "features")
    sets, draws = RandomSets.of(setup), torch.Generator().manual_seed(1)
    can = int(sets.among.sum())
    few = sets.draw(4, 20, draws)
    assert [int(one.sum()) for one in few] == [4] * 20
    assert not any((one & ~sets.among).any() for one in few)
    assert len({one.numpy().tobytes() for one in few}) > 10
    for one in sets.draw(can + 2, 5, draws):
        assert int(one.sum()) == can + 2
        assert one[sets.among].all()


def test_all_elements_count_where_none_can_be_told_apart(random_batch: Any) -> None:
    model = small_model("gpt2-like")
    graph = Graph.of(model.config)
    counterfactuals = EdgeCounterfactuals(model, graph, "zero")
    setup = Setup(EdgeModel(model, graph), [random_batch(n=4)], counterfactuals, CHOICES)
    sets = RandomSets.of(setup)
    assert sets.among.all()
    drawn = sets.draw(7, 400, torch.Generator().manual_seed(0))
    often = torch.stack(drawn).double().mean(0)
    assert (often - 7 / len(sets.space)).abs().max() < 5 * (7 / len(sets.space) / 400) ** 0.5


def test_the_interval_over_sets_is_students() -> None:
    values = np.array([0.2, 0.5, 0.1, 0.4])
    shown = of_sets(values)
    low, high = stats.t.interval(0.95, 3, values.mean(), stats.sem(values))
    assert (shown["random_low"], shown["random_high"]) == pytest.approx((low, high))
    assert (shown["random_mean"], shown["random_largest"]) == pytest.approx((0.3, 0.5))
    assert of_sets(values[:1])["random_low"] is None
    assert set(of_sets(values[:0]).values()) == {None}
