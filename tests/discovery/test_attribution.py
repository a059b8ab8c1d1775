"""Gradient methods against hooks on the plain model, exact patching and what they must add up to.

Numbers in brackets are those of `tests/PROOFS.md`.
"""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from support.attribution_cases import HookedRun, by_norm
from support.problems import problem_of, scores_of
from support.slow_reference import ARCHITECTURES, SlowModel, small_model

from harness.circuits.edges.counterfactuals import collect
from harness.circuits.edges.gradients import edge_scores, gradient_run, writer_differences
from harness.circuits.edges.patched.backward import masked_logits
from harness.circuits.patchable import plain_logits
from harness.discovery.attribution import held_groups, input_path
from harness.discovery.refusals import objective_problem
from harness.discovery.registry import make_method
from harness.errors import HarnessError

pytestmark = pytest.mark.matrix


# They attribute a distance to the whole model, since they look elsewhere.
OTHER_KINDS = (
    "activation_patching",
    "eap_ig",
    "element_patching",
    "mask_gradient_ig",
    "node_patching",
)


every_architecture = pytest.mark.parametrize("name", ARCHITECTURES)
every_input = pytest.mark.parametrize("inputs", ["token", "summed", "split", "none"])
VARIANTS = ["inputs", "activations", "clean_corrupted"]


def close(found, wanted, tolerance=1e-10):
    """Equal relative to the largest score."""
    assert wanted.abs().max() > 1e-6
    assert (found - wanted).abs().max() <= tolerance * wanted.abs().max()


@every_architecture
@every_input
def test_eap_is_minus_the_gradient_of_the_full_mask(name, inputs, random_batch):
    """[5] Two passes that share nothing but the weights: the plain one and the masked one."""
    batch = random_batch()
    problem = problem_of(name, batch, inputs=inputs)
    mask = problem.edges.graph.allowed.double().requires_grad_()
    reference = problem.counterfactuals.of(batch)
    logits = masked_logits(problem.edges.patched, batch, mask[None], reference)
    problem.loss("metric", batch)(logits).mean().backward()
    close(scores_of("eap", problem), -mask.grad)


@pytest.mark.parametrize("name", ["gpt2-like", "parallel"])
def test_eap_counts_shared_head_biases(name, random_batch):
    """[5, 15] Under zero ablation a bias that goes with its head is a part of the difference."""
    batch, found = random_batch(), {}
    for head_bias in ("shared", "unattached"):
        problem = problem_of(name, batch, ablation="zero", head_bias=head_bias)
        mask = problem.edges.graph.allowed.double().requires_grad_()
        logits = masked_logits(
            problem.edges.patched, batch, mask[None], problem.counterfactuals.of(batch)
        )
        problem.loss("metric", batch)(logits).mean().backward()
        found[head_bias] = scores_of("eap", problem)
        close(found[head_bias], -mask.grad)
    heads = problem.edges.graph.head_rows(0)
    assert (found["shared"] - found["unattached"])[heads].abs().max() > 1e-3


@pytest.mark.parametrize("objective", ["metric", "cross_entropy"])
def test_prompts_may_be_read_at_different_numbers_of_positions(objective, random_batch):
    """Together in one batch, where some leave a position unused, as each on its own."""
    batch = random_batch()
    extra = torch.tensor([2, 3, -1])[:, None]
    unused = torch.where(extra < 0, -1, batch.good[:, :, 0])[..., None]
    batch = replace(
        batch,
        positions=torch.cat([batch.positions, extra], 1),
        good=torch.cat([batch.good, unused], 1),
        bad=torch.cat([batch.bad, torch.where(unused < 0, -1, batch.bad)], 1),
    )
    alone = []
    for row, count in enumerate((2, 2, 1)):
        fields = ("clean", "corrupted", "rows")
        cut = {name: getattr(batch, name)[row : row + 1] for name in fields}
        cut |= {
            name: getattr(batch, name)[row : row + 1, :count]
            for name in ("positions", "good", "bad")
        }
        alone.append(replace(batch, **cut, other=None))
    for kind in ("eap", "eap_ig", "mask_gradient_ig", "node_patching"):
        together = scores_of(kind, problem_of("gpt2-like", batch), objective=objective)
        apart = scores_of(kind, problem_of("gpt2-like", *alone), objective=objective)
        close(together, apart)


class SlowWithGradients(SlowModel):
    """The slow reference with a leaf, zero, added to what each reader reads.

    Where heads are normalised together, also to each layer's heads as this reader mixes them. The
    heads that share a key or a value share its leaf.
    """

    def __init__(self, model, inputs):
        super().__init__(model, inputs)
        self.leaves = {}

    def tap(self, column, layer, x):
        leaf = self.leaves.setdefault((column, layer), torch.zeros_like(x, requires_grad=True))
        return x + leaf

    def gradient_for(self, row, column, graph):
        """The gradient where a writer's output enters a reader's stream: [B, T, D]."""
        layer, place = divmod(row - graph.n_inputs, graph.n_heads + 1)
        is_head = row >= graph.n_inputs and place < graph.n_heads
        return self.leaves[column, layer if is_head and self.c.post_norms else None].grad


@every_architecture
@every_input
def test_eap_is_difference_times_gradient_edge_by_edge(name, inputs, random_batch):
    """[5] -Σ Δ_w · ∇ at the stream of every reader, each q, k and v with a gradient of its own."""
    batch = random_batch()
    problem = problem_of(name, batch, inputs=inputs)
    graph, slow = problem.edges.graph, SlowWithGradients(problem.model, inputs)
    every = torch.ones(graph.allowed.shape, dtype=torch.float64)
    start = problem.model.embed(batch.clean) if inputs == "none" else None
    other, _ = SlowModel(problem.model, inputs).writers(batch.corrupted, every, None)
    mine, logits = slow.writers(batch.clean, every, None, start)
    problem.loss("metric", batch)(batch.at_positions(logits)).mean().backward()
    wanted = torch.zeros(graph.allowed.shape, dtype=torch.float64)
    for row, column in graph.edges():
        difference = mine[row].detach() - other[row]
        wanted[row, column] = -(difference * slow.gradient_for(row, column, graph)).sum()
    close(scores_of("eap", problem), wanted)


@every_architecture
@pytest.mark.parametrize("inputs", ["token", "summed", "split"])
def test_the_first_and_the_last_edges_are_scored(name, inputs, random_batch):
    """[5] From the embeddings to the first layer's readers, from the last layer to the logits.

    All but those of `pos`, whose difference is zero: prompts of a pair have the same positions.
    """
    problem = problem_of(name, random_batch(), inputs=inputs)
    graph, scores = problem.edges.graph, scores_of("eap", problem).abs()
    token = slice(0, 1)
    last = slice(graph.head_rows(graph.n_layers - 1).start, graph.n_writers)
    for edges in (
        scores[token, graph.qkv_columns(0)],
        scores[token, graph.mlp_column(0)],
        scores[token, graph.logits_column],
        scores[last, graph.logits_column],
    ):
        assert (edges > 1e-6 * scores.max()).all()
    if inputs == "split":
        assert (scores[graph.writers.index("pos")] == 0).all()


@every_architecture
def test_eap_is_difference_times_gradient(name, random_batch):
    """[5] Outputs and gradients caught by hooks on the plain model.

    A norm's gradient is that of all who share it, so scores are compared summed over a layer's q, k
    and v readers, for every writer.
    """
    batch = random_batch()
    problem = problem_of(name, batch)
    loss = problem.loss("metric", batch)
    clean = HookedRun(problem.model, batch, loss)
    other = HookedRun(problem.model, batch, None, batch.corrupted)
    wanted = clean.products(clean.written() - other.written(), problem.edges.graph)
    assert_by_norm(scores_of("eap", problem), wanted, -1 / len(batch), problem.edges.graph)


def assert_by_norm(scores, wanted, factor, graph):
    for place, found in by_norm(scores, graph).items():
        torch.testing.assert_close(found, factor * wanted[place], rtol=1e-9, atol=1e-11)


def linear_model(name):
    """No norm, no attention pattern, and an activation that never bends."""
    model = small_model(name, norm="none", activation="relu")
    for block in model.layers():
        readers = block.config.n_heads + block.config.n_groups
        block.qkv_map.weight[: readers * block.config.d_head] = 0  # queries and keys
        block.mlp_in.bias.fill_(100)
    return model


@pytest.mark.parametrize("name", ["gpt2-like", "no-norm-bidirectional", "grouped", "parallel"])
def test_attribution_is_exact_on_a_linear_model(name, random_batch):
    """[6] Every edge and every node."""
    problem = problem_of(linear_model(name), random_batch())
    for first_order, exact in (
        ("eap", "activation_patching"),
        ("node_attribution", "node_patching"),
    ):
        close(scores_of(first_order, problem), scores_of(exact, problem))


def test_mask_gradients_add_up_to_what_the_model_gains(random_batch):
    """[7] Σ over all edges → loss(no edges) - loss(all edges); the error falls as 1/steps²."""
    batch = random_batch()
    for objective in ("metric", "kl"):
        problem = problem_of("gpt2-like", batch)
        full = problem.edges.graph.allowed[None].double()
        logits = problem.edges.patched.logits(
            batch, torch.cat([0 * full, full]), problem.counterfactuals.of(batch)
        )
        empty, whole = problem.loss(objective, batch)(logits).mean(-1).tolist()
        error = [
            float(scores_of("mask_gradient_ig", problem, steps=steps, objective=objective).sum())
            - (empty - whole)
            for steps in (64, 128)
        ]
        assert abs(error[0]) < 1e-3 * abs(empty - whole)
        assert error[1] == pytest.approx(error[0] / 4, rel=0.05)


@every_input
def test_the_two_ends_are_the_mean_of_their_gradients(inputs, random_batch):
    """[7] `clean_corrupted` is the mean of EAP and of the gradient at the corrupted run."""
    problem = problem_of("gpt2-like", random_batch(), inputs=inputs)
    corrupted = scores_of("eap_ig", problem, steps=1)
    wanted = (scores_of("eap", problem) + corrupted) / 2
    close(scores_of("eap_ig", problem, variant="clean_corrupted"), wanted)
    assert (corrupted - scores_of("eap", problem)).abs().max() > 1e-3


@pytest.mark.parametrize("objective", ["kl", "squared_error"])
def test_distances_have_no_gradient_at_the_model(objective, random_batch):
    """[8] Their gradient there is zero; methods that look there alone refuse them."""
    batch = random_batch()
    problem = problem_of("gpt2-like", batch)
    run = gradient_run(problem.model, problem.edges.graph, batch, problem.loss(objective, batch))
    differences = writer_differences(
        problem.model, problem.edges.graph, run.activations, problem.counterfactuals.of(batch)
    )
    gradients = edge_scores(problem.model, problem.edges.graph, batch, [run], differences)
    assert gradients.abs().max() < 1e-8
    for kind in ("eap", "node_attribution"):
        with pytest.raises(
            HarnessError, match=f"{objective!r}, a distance to that model"
        ) as refused:
            scores_of(kind, problem, objective=objective)
        assert str(refused.value).endswith(f"elsewhere ({', '.join(OTHER_KINDS)})")
    for variant in VARIANTS:
        found = scores_of("eap_ig", problem, variant=variant, objective=objective)
        assert found.abs().max() > 1e-4
    assert scores_of("node_attribution", problem, steps=3, objective=objective).abs().max() > 1e-4
    for kind in OTHER_KINDS:
        assert scores_of(kind, problem, objective=objective).abs().max() > 1e-4


@pytest.mark.parametrize("ablation", ["interchange", "zero"])
@pytest.mark.parametrize("objective", ["metric", "kl", "logit_diff"])
@pytest.mark.parametrize("metric", ["logit_diff", "squared_error"])
def test_specs_and_methods_refuse_the_same(ablation, objective, metric, random_batch):
    """What a plan refuses before a model is there is what the methods refuse."""
    problem = replace(problem_of("gpt2-like", random_batch(), ablation=ablation), metric=metric)
    for kind in ("eap", "eap_ig", "node_attribution", *OTHER_KINDS):
        for steps in (1, 2):
            params = {"objective": objective}
            if "steps" in {one.name for one in fields(make_method(kind, {}))}:
                params["steps"] = steps
            if kind == "eap_ig":
                params["variant"] = "inputs"
            text = objective_problem(kind, params, metric, ablation)
            if text is None:
                scores_of(kind, problem, **params)
            else:
                with pytest.raises(HarnessError) as refused:
                    scores_of(kind, problem, **params)
                assert str(refused.value) == text


@every_architecture
def test_held_groups_are_runs_with_held_outputs(name, random_batch):
    """Every group and step as a whole run of its own, groups held by hooks, gradients by hooks."""
    batch, steps = random_batch(), 2
    problem = problem_of(name, batch)
    model, graph, loss = problem.model, problem.edges.graph, problem.loss("metric", batch)
    clean, other = HookedRun(model, batch, None), HookedRun(model, batch, None, batch.corrupted)
    groups = {(-1, "inputs"): (clean.embedded, other.embedded)}
    for layer in range(graph.n_layers):
        groups[layer, "heads"] = clean.heads[layer].sum(0), other.heads[layer].sum(0)
        if graph.mlps:
            groups[layer, "mlp"] = clean.mlps[layer], other.mlps[layer]
    differences = clean.written() - other.written()
    total = dict.fromkeys(by_norm(torch.zeros(graph.allowed.shape), graph), 0)
    for place, (mine, theirs) in groups.items():
        for k in range(1, steps + 1):
            hold = {place: theirs + (mine - theirs) * k / steps}
            run = HookedRun(model, batch, loss, hold=hold)
            for norm, product in run.products(differences, graph).items():
                total[norm] = total[norm] + product
    found = scores_of("eap_ig", problem, variant="activations", steps=steps)
    factor = -1 / (len(batch) * steps * len(groups))
    assert_by_norm(found, total, factor, graph)


@pytest.mark.parametrize("variant", ["inputs", "activations"])
def test_runs_may_be_mixed_in_parts(variant, random_batch, monkeypatch):
    problem = problem_of("grouped", random_batch())
    whole = scores_of("eap_ig", problem, variant=variant, steps=5)
    for module in (input_path, held_groups):
        monkeypatch.setattr(module, "_AT_ONCE", 2)
    close(scores_of("eap_ig", problem, variant=variant, steps=5), whole, 1e-13)


@every_architecture
@pytest.mark.parametrize("inputs", ["token", "summed", "split"])
def test_zero_ablation_does_not_start_at_nothing(name, inputs, random_batch):
    """At the zero vector a norm's gradient is 1/√ε ≈ 300; no run is taken there."""
    problem = problem_of(name, random_batch(), ablation="zero", inputs=inputs)
    eap = scores_of("eap", problem)
    close(scores_of("eap_ig", problem, steps=1), eap)
    for variant in ("inputs", "activations"):
        found = scores_of("eap_ig", problem, variant=variant, steps=5)
        assert found.abs().max() < 20 * eap.abs().max()


def test_the_gradient_of_a_norm_at_nothing_is_refused(random_batch):
    problem = problem_of("rmsnorm", random_batch(), ablation="zero", inputs="summed")
    with pytest.raises(HarnessError, match="starts as the zero vector"):
        scores_of("eap_ig", problem, variant="clean_corrupted")
    problem = problem_of("gpt2-like", random_batch(), ablation="zero")  # positions are left
    assert torch.isfinite(scores_of("eap_ig", problem, variant="clean_corrupted")).all()
    problem = problem_of("no-norm-bidirectional", random_batch(), ablation="zero", inputs="summed")
    assert torch.isfinite(scores_of("eap_ig", problem, variant="clean_corrupted")).all()


@pytest.mark.parametrize("ablation", ["mean", "zero", "mean_positional"])
def test_a_line_of_one_point_is_refused(ablation, random_batch):
    """Without input writers nothing changes the embeddings but another prompt."""
    problem = problem_of("gpt2-like", random_batch(), ablation=ablation, inputs="none")
    with pytest.raises(HarnessError, match="no line to integrate over"):
        scores_of("eap_ig", problem)
    assert scores_of("eap_ig", problem, variant="activations").abs().max() > 1e-4


@pytest.mark.parametrize("ablation", ["interchange", "resample"])
@every_input
def test_one_step_is_the_gradient_at_the_other_prompt(ablation, inputs, random_batch):
    batch = random_batch()
    other = batch.corrupted if ablation == "interchange" else batch.other
    problem = problem_of("gpt2-like", batch, ablation=ablation, inputs=inputs)
    swapped = replace(batch, clean=other, corrupted=batch.clean)
    wanted = -scores_of("eap", problem_of("gpt2-like", swapped, inputs=inputs))
    close(scores_of("eap_ig", problem, steps=1), wanted)


@every_architecture
def test_gradients_add_up_along_the_inputs(name, random_batch):
    """[7] Σ over an input's readers tends to what the metric loses, at least as 1/steps."""
    batch = random_batch()
    model = small_model(name, activation="gelu")
    problem = problem_of(model, batch)
    loss = problem.loss("metric", batch)
    read = batch.read_tokens()
    ends = [
        loss(model.unembed(batch.at_positions(collect(model, tokens).streams[-1]), read)).mean()
        for tokens in (batch.corrupted, batch.clean)
    ]
    total = float(ends[0] - ends[1])
    error = [
        float(scores_of("eap_ig", problem, steps=steps)[0].sum()) - total for steps in (64, 128)
    ]
    assert abs(error[1]) < 0.05 * abs(total)
    assert abs(error[1]) < 0.6 * abs(error[0])


@pytest.mark.parametrize(
    ("name", "complete"),
    [
        ("rmsnorm", False),
        ("parallel", False),
        ("llama-like", False),
        ("windowed-capped", False),
        ("gemma-like", False),
        ("no-norm-bidirectional", True),  # its logits are linear in the final stream
    ],
)
def test_gradients_do_not_add_up_at_the_final_reader(name, complete, random_batch):
    """[7] Its mean gradient along the inputs is not that along its own stream, which is no line."""
    batch = random_batch()
    problem = problem_of(name, batch)
    loss = problem.loss("metric", batch)
    ends = [
        loss(plain_logits(problem.model, batch, corrupted=corrupted)).mean()
        for corrupted in (True, False)
    ]
    total = float(ends[0] - ends[1])
    scores = scores_of("eap_ig", problem, steps=128)
    apart = abs(float(scores[:, problem.edges.graph.logits_column].sum()) - total)
    assert (apart < 1e-9 * abs(total)) if complete else (apart > 0.05 * abs(total))
