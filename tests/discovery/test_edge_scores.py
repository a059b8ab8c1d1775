"""EAP is the gradient of the mask, exact patching is brute force, EAP-IG is complete.

Numbers in brackets are those of `tests/PROOFS.md`.
"""

from __future__ import annotations

import pytest
import torch
from support.problems import problem_of, scores_of
from support.slow_reference import ARCHITECTURES, SlowModel, small_model

from harness.circuits.edges.graph import Graph
from harness.circuits.patchable import plain_logits
from harness.discovery.registry import built_in, make_method
from harness.errors import HarnessError, NotFound
from harness.metrics.logits import logit_diff
from harness.metrics.registry import from_logits

pytestmark = pytest.mark.matrix
every_architecture = pytest.mark.parametrize("name", ARCHITECTURES)


def slow_metric(slow, batch, mask, name="logit_diff"):
    logits = slow.logits(batch.clean, batch.corrupted, mask)[:, -1:]
    return from_logits(name)(logits, logits, batch).mean()


@every_architecture
@pytest.mark.parametrize("name_of_metric", ["logit_diff", "prob_diff"])
def test_eap_is_the_gradient_of_the_mask_by_finite_differences(name, name_of_metric, random_batch):
    """[5] By central differences of the slow reference, for two metrics."""
    model, batch = small_model(name), random_batch()
    scores = scores_of("eap", problem_of(model, batch, metric=name_of_metric))
    slow, graph = SlowModel(model), Graph.of(model.config)
    mask = graph.allowed.double()
    step = 1e-5
    edges = graph.allowed.nonzero().tolist()
    draw = torch.Generator().manual_seed(1)
    for pick in torch.randperm(len(edges), generator=draw)[:25].tolist():
        row, column = edges[pick]
        up, down = mask.clone(), mask.clone()
        up[row, column] += step
        down[row, column] -= step
        gradient = slow_metric(slow, batch, up, name_of_metric) - slow_metric(
            slow, batch, down, name_of_metric
        )
        assert float(scores[row, column]) == pytest.approx(
            float(gradient) / (2 * step), rel=1e-5, abs=1e-8
        )


@every_architecture
def test_activation_patching_is_brute_force(name, random_batch):
    model, batch = small_model(name), random_batch()
    scores = scores_of("activation_patching", problem_of(model, batch))
    slow, graph = SlowModel(model), Graph.of(model.config)
    mask = graph.allowed.double()
    whole = slow_metric(slow, batch, mask)
    for row, column in graph.allowed.nonzero().tolist():
        mask[row, column] = 0
        assert float(scores[row, column]) == pytest.approx(
            float(whole - slow_metric(slow, batch, mask)), abs=1e-10
        )
        mask[row, column] = 1


def test_first_and_last_edges_have_scores(random_batch):
    """[5] Embedding into layer 0 and last layer into logits: edges that others have forgotten."""
    model, batch = small_model("gpt2-like"), random_batch()
    scores = scores_of("eap", problem_of(model, batch))
    graph = Graph.of(model.config)
    assert (scores[0, graph.qkv_columns(0)] != 0).all()
    assert (scores[graph.head_rows(1), graph.logits_column] != 0).all()
    assert scores[graph.mlp_row(1), graph.logits_column] != 0


@pytest.mark.parametrize("name", ["gpt2-like", "rmsnorm"])
def test_scores_do_not_depend_on_batching(name, random_batch):
    model, batch = small_model(name), random_batch(n=6)
    fields = ("clean", "corrupted", "positions", "good", "bad", "rows")
    parts = [
        type(batch)(**{field: getattr(batch, field)[rows] for field in fields})
        for rows in (slice(0, 4), slice(4, 6))
    ]
    for kind, params in [
        ("eap", {}),
        ("eap_ig", {}),
        ("eap_ig", {"variant": "activations"}),
        ("eap_ig", {"variant": "clean_corrupted"}),
        ("mask_gradient_ig", {"steps": 2}),
        ("information_flow_routes", {}),
        ("node_patching", {}),
        ("node_attribution", {"steps": 2}),
        ("activation_patching", {}),
    ]:
        whole = scores_of(kind, problem_of(model, batch), **params)
        split = scores_of(kind, problem_of(model, *parts), **params)
        torch.testing.assert_close(whole, split, rtol=1e-10, atol=1e-12)


def test_integrated_gradients_are_complete_on_the_input_edges(random_batch):
    """[7] Σ over readers of score(input→r) tends to metric(clean) - metric(corrupted).

    The embedding feeds every reader directly, so the readers' gradients add up to its whole
    gradient. The left Riemann sum's error falls as 1/steps.
    """
    model, batch = small_model("gpt2-like"), random_batch()
    total = sum(
        sign * logit_diff(plain_logits(model, batch, corrupted=sign < 0), batch).mean()
        for sign in (1, -1)
    )
    errors = []
    for steps in (16, 128):
        scores = scores_of("eap_ig", problem_of(model, batch), steps=steps)
        errors.append(abs(float(scores[0].sum() - total)))
    assert errors[0] < 0.2 * abs(float(total))
    assert errors[1] == pytest.approx(errors[0] / 8, rel=0.3)


def test_eap_ig_with_one_step_is_the_gradient_at_the_corrupted_input(random_batch):
    model, batch = small_model("gpt2-like"), random_batch()
    swapped = type(batch)(
        batch.corrupted, batch.clean, batch.positions, batch.good, batch.bad, batch.rows
    )
    at_corrupted = scores_of("eap", problem_of(model, swapped))
    one_step = scores_of("eap_ig", problem_of(model, batch), steps=1)
    torch.testing.assert_close(one_step, -at_corrupted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("ablation", ["mean", "zero", "resample"])
def test_eap_ig_runs_under_every_ablation(ablation, random_batch):
    """Only interchange has the corrupted run among its steps; the others run their own."""
    model, batch = small_model("gpt2-like"), random_batch()
    problem = problem_of(model, batch, ablation=ablation)
    for variant in ("inputs", "activations", "clean_corrupted"):
        scores = scores_of("eap_ig", problem, steps=3, variant=variant)
        assert torch.isfinite(scores).all()
        assert scores.abs().max() > 0


# What makes the methods that train or search short.
BRIEF = {
    "acdc": {"thresholds": [0.1]},
    "edge_pruning": {"steps": 3, "sparsities": [0.5]},
    "subnetwork_probing": {"steps": 3, "prices": [1.0]},
    "uniform_gradient_sampling": {"steps": 3, "prices": [1.0]},
}


OF_EDGES = [kind for kind, info in built_in().items() if info.needs != "dictionaries"]
EVERYWHERE = [kind for kind in OF_EDGES if kind != "acdc"]  # also where heads are normalised


@pytest.mark.parametrize(
    ("kind", "name"),
    [("acdc", "gpt2-like")]
    + [(kind, name) for kind in EVERYWHERE for name in ("gpt2-like", "gemma-like")],
)
def test_impossible_edges_have_no_score_and_runs_repeat(kind, name, random_batch):
    model, batch = small_model(name), random_batch()
    params = BRIEF.get(kind, {})
    first = scores_of(kind, problem_of(model, batch, seed=7), **params)
    again = scores_of(kind, problem_of(model, batch, seed=7), **params)
    assert torch.equal(first, again)
    assert (first[~Graph.of(model.config).allowed] == 0).all()


@pytest.mark.parametrize("kind", ["random", "random_paths"])
def test_random_methods_follow_their_generator(kind, random_batch):
    model, batch = small_model("gpt2-like"), random_batch()
    one, two = (scores_of(kind, problem_of(model, batch, seed=seed)) for seed in (1, 2))
    assert not torch.equal(one, two)


def test_unknown_methods_and_params_are_user_errors():
    with pytest.raises(NotFound, match="unknown method kind 'eep'; known: acdc, "):
        make_method("eep", {})
    with pytest.raises(HarnessError, match="does not take these params"):
        make_method("eap_ig", {"stepz": 3})
