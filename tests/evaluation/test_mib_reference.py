"""Scores, circuits, faithfulness, CPR and CMD of another implementation on given weights."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest
import torch
from toy_task import CHOICES

from harness.circuits.edges.counterfactuals import EdgeCounterfactuals
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.patched.forward import PatchedModel, plain_logits
from harness.circuits.edges.select import prune, sizes_to_counts, top_n
from harness.datasets.batch import Batch
from harness.discovery.problem import Problem
from harness.discovery.registry import make_method
from harness.evaluation.curve import evaluate_circuits
from harness.evaluation.measures import cmd, cpr, faithfulness
from harness.models.loading.fields import Fields
from harness.models.loading.tensors import TensorFiles
from harness.models.loading.transformer_lens import transformer_lens
from harness.models.loading.translation import build_model
from harness.spec.types import MIB_SIZES

# The library divides by the batch size of 16 once more than a mean over examples.
LIBRARY_FACTOR = 16


class Reference:
    def __init__(self, folder, dtype):
        self.arrays = np.load(folder / "reference.npz", allow_pickle=False)
        self.numbers = json.loads((folder / "reference.json").read_text())
        data = np.load(folder / "dataset.npz", allow_pickle=False)
        self.data = {name: torch.from_numpy(data[name]) for name in data.files}
        weights = TensorFiles([folder / "weights.safetensors"])
        fields = Fields(self.numbers["config"], folder / "reference.json")
        self.model = build_model(transformer_lens(fields, weights), weights, dtype)
        self.graph = Graph.of(self.model.config)
        self._scores = {}

    def batch(self, rows=slice(None)):
        answers = self.data["answer_ids"].long()[rows]
        clean = self.data["clean"].long()[rows]
        return Batch(
            clean,
            self.data["corrupted"].long()[rows],
            torch.full((len(clean), 1), clean.shape[1] - 1),
            answers[:, :1, None],
            answers[:, 1:, None],
            torch.arange(len(clean)),
        )

    def attribution(self, theirs):
        """Scores on the library's scale; some take seconds, so they are made once."""
        if theirs not in self._scores:
            kind, params, ablation = ATTRIBUTIONS[theirs]
            self._scores[theirs] = self.scores(kind, ablation, **params) / LIBRARY_FACTOR
        return self._scores[theirs]

    def scores(self, kind, ablation="interchange", rows=slice(None), **params):
        problem = Problem(
            PatchedModel(self.model, self.graph),
            (self.batch(rows),),
            EdgeCounterfactuals(self.model, self.graph, ablation, mean_over=[self.batch()]),
            "logit_diff",
            torch.Generator(),
        )
        return make_method(kind, params).discover(problem).scores


@cache
def loaded(folder, dtype):
    return Reference(folder, dtype)


@pytest.fixture
def reference(reference_file):
    return loaded(reference_file("mib_ref"), torch.float32)


@pytest.fixture
def double(reference_file):
    return loaded(reference_file("mib_ref"), torch.float64)


def assert_scores(found, wanted, tolerance):
    wanted = torch.from_numpy(wanted).double()
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() <= tolerance * wanted.abs().max()


def test_logits(reference):
    for name, corrupted in (("clean", False), ("corrupted", True)):
        found = plain_logits(reference.model, reference.batch(), corrupted=corrupted)[:, 0]
        torch.testing.assert_close(found, reference.data[f"{name}_logits_last"], rtol=0, atol=5e-5)


ATTRIBUTIONS = {
    "EAP": ("eap", {}, "interchange"),
    "EAP_zero": ("eap", {}, "zero"),
    "EAP_mean-positional": ("eap", {}, "mean_positional"),  # over the clean prompts themselves
    "EAP-IG-inputs": ("eap_ig", {"steps": 5}, "interchange"),
    "EAP-IG-activations": ("eap_ig", {"steps": 5, "variant": "activations"}, "interchange"),
    "clean-corrupted": ("eap_ig", {"variant": "clean_corrupted"}, "interchange"),
}
every_attribution = pytest.mark.parametrize("theirs", ATTRIBUTIONS)


@every_attribution
def test_scores_of_all_edges(reference, theirs):
    # Under zero ablation both sides round by up to 1e-5 of the largest score.
    tolerance = 2e-5 if theirs == "EAP_zero" else 1e-5
    assert_scores(reference.attribution(theirs), reference.arrays[f"scores/{theirs}"], tolerance)


@every_attribution
def test_scores_in_double_precision_edge_by_edge(double, theirs):
    found = double.attribution(theirs)
    wanted = torch.from_numpy(double.arrays[f"scores64_second/{theirs}"])
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-14)
    # Their single precision is itself off by up to this much.
    assert_scores(found, double.arrays[f"scores/{theirs}"], 1e-5)


def test_information_flow_routes(reference, double):
    theirs = "information-flow-routes"
    found = reference.scores("information_flow_routes")
    assert_scores(found, reference.arrays[f"scores/{theirs}"], 1e-5)
    wanted = torch.from_numpy(double.arrays[f"scores64_second/{theirs}"])
    found = double.scores("information_flow_routes")
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-14)


def test_exact_patching_of_every_edge(reference):
    found = reference.scores("activation_patching", rows=slice(0, 16))
    # Theirs is LD(replaced) - LD(whole); ours is what is lost.
    assert_scores(-found, reference.arrays["scores/exact_first16"], 1e-5)


@pytest.mark.parametrize(
    ("theirs", "order"),
    [
        ("EAP", "absolute"),
        ("EAP", "signed"),
        ("EAP-IG-inputs", "absolute"),
        ("EAP-IG-activations", "absolute"),
    ],
)
def test_circuits_faithfulness_cpr_and_cmd(reference, theirs, order):
    key = {"absolute": "abs", "signed": "signed"}[order]
    graph, arrays = reference.graph, reference.arrays
    scores = reference.attribution(theirs)
    counts = sizes_to_counts(MIB_SIZES, graph.n_edges)
    circuits = [prune(top_n(scores, graph, n, order), graph, "interchange") for n in counts]
    for share, kept in zip(MIB_SIZES, circuits, strict=True):
        assert np.array_equal(kept.numpy(), arrays[f"in_graph/{theirs}/{key}/{share:g}"]), share
    examples = evaluate_circuits(
        PatchedModel(reference.model, graph),
        [reference.batch()],
        EdgeCounterfactuals(reference.model, reference.graph, "interchange"),
        [*circuits, torch.zeros_like(graph.allowed), graph.allowed],
        CHOICES,
    )
    metric = examples.values["metric"]
    for share, found in zip(MIB_SIZES, metric, strict=False):
        wanted = arrays[f"circuit_ld/{theirs}/{key}/{share:g}"]
        np.testing.assert_allclose(found, wanted, atol=5e-5)
    np.testing.assert_allclose(metric[-2], arrays["corrupt_ld"], atol=5e-5)
    np.testing.assert_allclose(metric[-1], arrays["baseline_ld"], atol=5e-5)
    means = metric.mean(1)
    curve = faithfulness(means[:-2], means[-2], means[-1])
    wanted = reference.numbers["results"][theirs][f"ranked_by_{order}_score"]
    np.testing.assert_allclose(curve, wanted["faithfulness"], atol=1e-6)
    assert float(cpr(MIB_SIZES, curve)) == pytest.approx(wanted["cpr"], abs=1e-6)
    assert float(cmd(MIB_SIZES, curve)) == pytest.approx(wanted["cmd"], abs=1e-6)
