"""Scores, circuits, faithfulness, CPR and CMD of another implementation on given weights."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest
import torch
from support.toy_task import CHOICES

from harness.circuits.edges.counterfactuals import EdgeCounterfactuals
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.patchable import EdgeModel
from harness.circuits.patchable import plain_logits
from harness.circuits.select import select, sizes_to_counts
from harness.datasets.batch import Batch
from harness.discovery.problem import Problem
from harness.discovery.registry import make_method
from harness.evaluation.curve import evaluate_circuits
from harness.evaluation.setup import Setup
from harness.metrics.curve import cmd, cpr, faithfulness
from harness.models.loading.fields import Fields
from harness.models.loading.stored import stored_tensors
from harness.models.loading.tensors import TensorFiles, build_model
from harness.models.loading.transformer_lens import transformer_lens
from harness.spec.types import MIB_SIZES, Selection

# The library divides by the batch size of 16 once more than a mean over examples.
LIBRARY_FACTOR = 16


class Reference:
    def __init__(self, folder, dtype):
        self.arrays = np.load(folder / "reference.npz", allow_pickle=False)
        self.numbers = json.loads((folder / "reference.json").read_text())
        data = np.load(folder / "dataset.npz", allow_pickle=False)
        self.data = {name: torch.from_numpy(data[name]) for name in data.files}
        weights = TensorFiles(stored_tensors([folder / "weights.safetensors"]))
        fields = Fields(self.numbers["config"], folder / "reference.json")
        self.model = build_model(transformer_lens(fields, weights), weights, dtype)
        self.edges = EdgeModel(self.model, Graph.of(self.model.config))
        self.space = self.edges.space
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
        """Scores [E] on the library's scale; some take seconds, so they are made once."""
        if theirs not in self._scores:
            kind, params, ablation = ATTRIBUTIONS[theirs]
            self._scores[theirs] = self.scores(kind, ablation, **params) / LIBRARY_FACTOR
        return self._scores[theirs]

    def counterfactuals(self, ablation="interchange"):
        return EdgeCounterfactuals(self.model, self.edges.graph, ablation, mean_over=[self.batch()])

    def scores(self, kind, ablation="interchange", rows=slice(None), **params):
        problem = Problem(
            self.edges,
            (self.batch(rows),),
            self.counterfactuals(ablation),
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


def assert_scores(found, reference, wanted, tolerance):
    """Scores [E] against a matrix over writers and readers, 0 at impossible edges."""
    found, wanted = reference.space.matrix(found), torch.from_numpy(wanted).double()
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() <= tolerance * wanted.abs().max()


def assert_double(found, reference, wanted):
    """The same in double precision, edge by edge."""
    matrix = reference.space.matrix(found)
    torch.testing.assert_close(matrix, torch.from_numpy(wanted), rtol=1e-9, atol=1e-14)


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
    wanted = reference.arrays[f"scores/{theirs}"]
    assert_scores(reference.attribution(theirs), reference, wanted, tolerance)


@pytest.mark.parametrize(
    "theirs",
    [
        pytest.param(name, marks=pytest.mark.slow if name == "EAP-IG-activations" else ())
        for name in ATTRIBUTIONS
    ],
)
def test_scores_in_double_precision_edge_by_edge(double, theirs):
    found = double.attribution(theirs)
    assert_double(found, double, double.arrays[f"scores64_second/{theirs}"])
    # Their single precision is itself off by up to this much.
    assert_scores(found, double, double.arrays[f"scores/{theirs}"], 1e-5)


def test_information_flow_routes(reference, double):
    theirs = "information-flow-routes"
    found = reference.scores("information_flow_routes")
    assert_scores(found, reference, reference.arrays[f"scores/{theirs}"], 1e-5)
    found = double.scores("information_flow_routes")
    assert_double(found, double, double.arrays[f"scores64_second/{theirs}"])


def test_exact_patching_of_every_edge(reference):
    found = reference.scores("activation_patching", rows=slice(0, 16))
    # Theirs is LD(replaced) - LD(whole); ours is what is lost.
    assert_scores(-found, reference, reference.arrays["scores/exact_first16"], 1e-5)


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
    space, arrays = reference.space, reference.arrays
    scores, rule = reference.attribution(theirs), Selection(order=order)
    counts = sizes_to_counts(MIB_SIZES, len(space))
    circuits = [select(scores, space, n, rule, "interchange") for n in counts]
    for share, kept in zip(MIB_SIZES, circuits, strict=True):
        wanted = arrays[f"in_graph/{theirs}/{key}/{share:g}"]
        assert np.array_equal(space.matrix(kept).numpy(), wanted), share
    setup = Setup(reference.edges, [reference.batch()], reference.counterfactuals(), CHOICES)
    nothing = torch.zeros(len(space), dtype=torch.bool)
    examples = evaluate_circuits(setup, [*circuits, nothing, ~nothing])
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
