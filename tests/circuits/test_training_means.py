"""Edges that carry means over the training: against prompts run one by one, and from files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.slow_reference import ARCHITECTURES, SlowModel, small_model
from support.toy_task import CHOICES
from torch import Tensor

from harness.circuits.baseline import Baseline
from harness.circuits.circuit import Circuit
from harness.circuits.edges.counterfactuals import Constants
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.patchable import EdgeModel
from harness.circuits.patchable import baseline_of, make_patchable, self_check
from harness.errors import HarnessError
from harness.models.transformer import Transformer

every_architecture = pytest.mark.parametrize("name", ARCHITECTURES)
TRAINING = replace(CHOICES, ablation="mean_training")


class Trained:
    """A background: prompts of one to seven tokens, padded with tokens that mean nothing."""

    def __init__(self, seed: int = 5) -> None:
        rng = np.random.default_rng(seed)
        self.batches = [
            (rng.integers(11, size=(3, 7)), np.array([7, 2, 3])),
            (rng.integers(11, size=(2, 5)), np.array([1, 5])),
        ]

    def prompts(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return iter(self.batches)

    def described(self) -> dict[str, str]:
        return {"sha256": "ab"}

    def one_by_one(self) -> Iterator[Tensor]:
        """Each prompt without padding."""
        for tokens, lengths in self.batches:
            for row, length in zip(tokens, lengths, strict=True):
                yield torch.tensor(row[None, :length])


def slow_means(slow: SlowModel, graph: Graph, background: Trained) -> list[Tensor]:
    """What every writer writes on average: [D] each."""
    everything = torch.ones(graph.allowed.shape, dtype=torch.float64)
    runs = [slow.writers(tokens, everything, None)[0] for tokens in background.one_by_one()]
    return [torch.cat([run[row][0] for run in runs]).mean(0) for row in range(graph.n_writers)]


def with_means(model: Transformer, inputs: str = "token", background=None) -> EdgeModel:
    choices = replace(TRAINING, inputs=inputs)
    edges = make_patchable(model, choices, (), background or Trained())
    assert isinstance(edges, EdgeModel)
    return edges


@every_architecture
def test_dropped_edges_carry_the_mean_over_the_training(name, random_batch):
    model, batch, background = small_model(name), random_batch(), Trained()
    edges = with_means(model)
    graph, slow = edges.graph, SlowModel(model)
    counterfactual = edges.counterfactuals(TRAINING, [batch], 0).of(batch)
    draw = torch.Generator().manual_seed(3)
    masks = torch.rand(3, len(edges.space), generator=draw, dtype=torch.float64)
    masks[1] = (masks[1] < 0.6).double()
    masks[2] = 0
    means = slow_means(slow, graph, background)
    replaced = [mean.expand(*batch.clean.shape, -1) for mean in means]
    for found in (
        edges.logits(batch, masks, counterfactual),
        edges.masked_logits(batch, masks, counterfactual),
    ):
        for mask, logits in zip(masks, found, strict=True):
            wanted = slow.writers(batch.clean, edges.space.matrix(mask), replaced)[1]
            torch.testing.assert_close(logits, batch.at_positions(wanted), rtol=1e-10, atol=1e-10)
    assert self_check(edges, batch, counterfactual) < 1e-12


@pytest.mark.parametrize("inputs", ["token", "summed", "split", "none"])
@pytest.mark.parametrize("name", ["gpt2-like", "attention-alone", "grouped"])
def test_the_row_of_a_file_gives_every_writer_its_numbers(name, inputs, random_batch):
    model, batch = small_model(name, dtype=torch.float32), random_batch()
    first = with_means(model, inputs)
    here = first.counterfactuals(TRAINING, [], 0)
    baseline = baseline_of(here)
    assert baseline is not None
    assert dict(baseline.over) == {"sha256": "ab"}
    e, c = first.graph.n_inputs, model.config
    mlps = c.d_model if c.d_mlp else 0
    width = e * c.d_model + c.n_layers * (c.n_heads * c.d_head + mlps)
    assert tuple(baseline.values.shape) == (1, width)
    assert first.space.fits_constants(width, c.d_model)
    again = Constants.of_baseline(model, first.graph, baseline)
    assert torch.equal(again.flat(first.graph), baseline.values)
    # From the row alone, and nothing is known of the training.
    second = with_means(model, inputs, Baseline("mean_training", baseline.values, {}))
    there = second.counterfactuals(TRAINING, [], 0)
    one, two = here.of(batch), there.of(batch)
    for a, b in zip((one.inputs, *one.streams), (two.inputs, *two.streams), strict=True):
        assert torch.equal(a, b)


def test_means_that_are_not_known_or_of_another_model_are_refused():
    model = small_model("gpt2-like")
    for background in (None, Baseline("mean", torch.zeros(1, 84), {})):
        edges = make_patchable(model, TRAINING, (), background)
        with pytest.raises(HarnessError, match=r"mean_training.*is not known.*circuit file"):
            edges.counterfactuals(TRAINING, [], 0)
    other = Baseline("mean_training", torch.zeros(1, 85), {})
    edges = make_patchable(model, TRAINING, (), other)
    with pytest.raises(HarnessError, match=r"85 constants .* need 60: .* other `inputs`"):
        edges.counterfactuals(TRAINING, [], 0)
    # What is known of the training changes no other ablation.
    for ablation in ("mean", "zero", "interchange"):
        choices = replace(CHOICES, ablation=ablation)
        assert make_patchable(model, choices, (), Trained()).graph == edges.graph


@pytest.mark.parametrize("form", ["safetensors", "json", "json.gz"])
def test_files_of_edges_keep_the_means(tmp_path, form):
    model = small_model("gpt2-like", dtype=torch.float32)
    edges = with_means(model)
    baseline = baseline_of(edges.counterfactuals(TRAINING, [], 0))
    kept = torch.rand(len(edges.space), generator=torch.Generator().manual_seed(0)) < 0.3
    circuit = Circuit(edges.space, kept, None, 12, {"task": "t"}, baseline, {"kl": 0.1})
    circuit.save(tmp_path / f"c.{form}")
    again = Circuit.load(tmp_path / f"c.{form}")
    assert torch.equal(again.baseline.values, baseline.values)
    assert dict(again.baseline.over) == {"sha256": "ab"}
    assert dict(again.measured) == {"kl": 0.1}
    assert torch.equal(again.kept, kept)


@pytest.mark.parametrize("change", [{"d_model": 13}, {"d_model": 40}, {"values": [[]]}])
def test_files_whose_constants_fit_no_width_of_heads_are_refused(tmp_path, change):
    edges = with_means(small_model("gpt2-like", dtype=torch.float32))
    baseline = baseline_of(edges.counterfactuals(TRAINING, [], 0))
    path = tmp_path / "c.json"
    kept = torch.ones(len(edges.space), dtype=torch.bool)
    Circuit(edges.space, kept, None, 12, {}, baseline, {}).save(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(HarnessError, match=r"c\.json: baseline has shape .* those of 9 writers"):
        Circuit.load(path)
