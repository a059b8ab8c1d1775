"""Learned constants: their gradient against the slow reference, and what they gain."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support.problems import problem_of
from support.slow_reference import ARCHITECTURES, POST_NORMS, SlowModel, small_model

from harness.circuits.edges.counterfactuals import Constants, EdgeCounterfactuals, writer_means
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.optimal import Learned, learn_constants, random_masks
from harness.circuits.edges.patched.backward import masked_logits
from harness.circuits.edges.patched.forward import PatchedModel
from harness.circuits.patchable import plain_logits
from harness.errors import HarnessError
from harness.metrics import LOSSES

pytestmark = pytest.mark.matrix
every_architecture = pytest.mark.parametrize(
    "name", [name for name in ARCHITECTURES if name not in POST_NORMS]
)
every_input = pytest.mark.parametrize("inputs", ["token", "summed", "split", "none"])


def patched_of(model, inputs="token"):
    return PatchedModel(model, Graph.of(model.config, inputs))


def random_constants(patched, positions, seed=0):
    """Leaves of autograd, for each of `positions`."""
    draw = torch.Generator().manual_seed(seed)

    def like(x, axis):
        shape = [*x.shape[:axis], positions, *x.shape[axis + 1 :]]
        return torch.randn(shape, generator=draw, dtype=x.dtype).requires_grad_()

    inputs, *others = Constants.zero(patched.model, patched.graph).tensors()
    written = others if patched.graph.mlps else others[: patched.graph.n_layers]
    nothing = others[len(written) :]  # of MLPs that are not there
    return Constants.of([like(inputs, 2), *(like(x, 1) for x in written), *nothing])


def slow_logits(patched, batch, mask, constants):
    """Logits of the slow reference whose dropped edges carry the constants, spelled out by row."""
    model, graph = patched.model, patched.graph
    weights, d_head = dict(model.named_parameters()), model.config.d_head
    n, length = batch.clean.shape
    replaced = list(constants.inputs)
    for layer in range(graph.n_layers):
        out = weights[f"blocks.{layer}.out_map.weight"]
        for head in range(graph.n_heads):
            part = out[:, head * d_head : (head + 1) * d_head]
            replaced.append(constants.heads[layer][:, :, head] @ part.T)
        replaced += [constants.mlps[layer]] * graph.mlps
    replaced = [x.expand(n, length, -1) for x in replaced]
    return SlowModel(model, graph.inputs).writers(batch.clean, mask, replaced)[1][:, -1:]


@every_architecture
@every_input
@pytest.mark.parametrize("positions", [1, 6], ids=["shared", "positional"])
def test_gradient_is_autograd_of_the_slow_reference(name, inputs, positions, random_batch):
    """Of two float masks at once, summed over prompts, masks and (where shared) positions."""
    patched, batch = patched_of(small_model(name), inputs), random_batch()
    constants = random_constants(patched, positions)
    draw = torch.Generator().manual_seed(1)
    allowed = patched.graph.allowed
    masks = torch.rand(2, *allowed.shape, generator=draw, dtype=torch.float64) * allowed
    counterfactual = constants.run(patched.model, inputs, batch)
    found = masked_logits(patched, batch, masks, counterfactual)
    wanted = torch.stack([slow_logits(patched, batch, mask, constants) for mask in masks])
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-11)
    at = torch.randn(found.shape, generator=draw, dtype=torch.float64)
    leaves = [x for x in constants.tensors() if x.numel() and x.requires_grad]
    for one, two in zip(
        *(torch.autograd.grad((x * at).sum(), leaves) for x in (found, wanted)), strict=True
    ):
        assert two.abs().max() > 1e-3
        assert (one - two).abs().max() <= 1e-11 * two.abs().max()


@pytest.mark.parametrize("per_token", [False, True])
def test_gradient_at_every_tensor_of_the_counterfactual(per_token, random_batch):
    """Streams and writers' outputs each on their own, and masks too: by central differences."""
    batch = replace(random_batch(n=2, length=4), positions=torch.tensor([[3, 1], [2, 2]]))
    patched = problem_of("gpt2-like", batch, per_token=per_token).edges.patched
    graph = patched.graph
    draw = torch.Generator().manual_seed(2)
    masks = torch.rand(2, *graph.allowed.shape, generator=draw, dtype=torch.float64)
    masks = (masks * graph.allowed).requires_grad_()
    run = EdgeCounterfactuals(patched.model, graph, "interchange").of(batch)
    at = torch.randn(2, 2, 2, 11, generator=draw, dtype=torch.float64)

    def loss(tensors, masks):
        layers = graph.n_layers
        moved = replace(
            run,
            inputs=tensors[0],
            heads=tuple(tensors[1 : layers + 1]),
            mlps=tuple(tensors[layers + 1 : 2 * layers + 1]),
            streams=tuple(tensors[2 * layers + 1 :]),
        )
        return (masked_logits(patched, batch, masks, moved) * at).sum()

    leaves = [x.clone().requires_grad_() for x in (run.inputs, *run.heads, *run.mlps, *run.streams)]
    gradients = torch.autograd.grad(loss(leaves, masks), [*leaves, masks])
    assert gradients[-1].abs().max() > 0
    step = 1e-6
    for place, leaf in enumerate(leaves):
        direction = torch.randn(leaf.shape, generator=draw, dtype=torch.float64)
        ends = []
        for sign in (1, -1):
            moved = [x.detach() for x in leaves]
            moved[place] = moved[place] + sign * step * direction
            ends.append(float(loss(moved, masks.detach())))
        wanted = (ends[0] - ends[1]) / (2 * step)
        assert float((gradients[place] * direction).sum()) == pytest.approx(
            wanted, rel=1e-5, abs=1e-6
        )
        assert abs(wanted) > 1e-3


# ---------------------------------------------------------------- what is learned
def kl_under_random_masks(patched, constants, batch, seed=7, n=24):
    draw = torch.Generator().manual_seed(seed)
    masks = random_masks(patched.graph, torch.rand(n, generator=draw), draw)
    counterfactual = constants.run(patched.model, patched.graph.inputs, batch)
    logits = patched.logits(batch, masks, counterfactual)
    return float(LOSSES["kl"](logits, plain_logits(patched.model, batch), batch).mean())


@pytest.mark.parametrize("name", ["gpt2-like", "llama-like", "parallel"])
def test_random_circuits_lose_less_than_with_means_on_other_pairs(name, random_batch):
    patched = patched_of(small_model(name, dtype=torch.float32))
    pairs = [random_batch(n=20), random_batch(n=12, length=4, seed=1)]
    learned = learn_constants(patched, pairs, seed=0, steps=150)
    means = writer_means(patched.model, [(one.clean, None) for one in pairs], "token")
    other = random_batch(n=40, seed=5)
    with_means = kl_under_random_masks(patched, means, other)
    assert kl_under_random_masks(patched, learned.constants, other) < 0.9 * with_means
    assert learned.distance < 0.9 * learned.distance_of_means


def test_constants_are_learned_under_masks_of_each_position_too(random_batch):
    batch = random_batch(n=20)
    patched = problem_of("gpt2-like", batch, per_token=True).edges.patched
    masks = random_masks(patched.graph, torch.tensor([0.5]), torch.Generator().manual_seed(0))
    assert masks.shape == (1, *patched.graph.allowed.shape)
    assert not torch.equal(masks[0, 0], masks[0, 1])  # each position has its own
    learned = learn_constants(patched, [batch], seed=0, steps=100)
    assert learned.distance < 0.9 * learned.distance_of_means


def test_squared_error_where_that_is_the_metric(random_batch):
    patched = patched_of(small_model("gpt2-like"))
    batch = random_batch(n=16)
    learned = learn_constants(patched, [batch], 0, "squared_error", steps=100)
    kl = learn_constants(patched, [batch], 0, "logit_diff", steps=100)
    assert learned.distance < 0.9 * learned.distance_of_means
    assert learned.distance_of_means != pytest.approx(kl.distance_of_means, rel=0.01)
    assert learned.notes() == {
        "optimal/distance": learned.distance,
        "optimal/distance_of_means": learned.distance_of_means,
    }


def test_the_reported_distances_are_means_over_pairs_however_they_are_batched(random_batch):
    """Without a step the constants are the means, and both numbers are equal."""
    patched, batch = patched_of(small_model("gpt2-like")), random_batch(n=7)
    whole = learn_constants(patched, [batch], 0, steps=0)
    parts = [batch.take(torch.arange(7)[rows]) for rows in (slice(0, 2), slice(2, 7))]
    split = learn_constants(patched, parts, 0, steps=0)
    means = writer_means(patched.model, [(batch.clean, None)], "token")
    for one, two in zip(whole.constants.tensors(), means.tensors(), strict=True):
        assert torch.equal(one, two)
    assert whole.distance == whole.distance_of_means > 0
    assert split.distance == pytest.approx(whole.distance, rel=1e-12)


def test_equal_seeds_give_equal_bytes_and_other_seeds_others(random_batch):
    patched, batch = patched_of(small_model("gpt2-like", dtype=torch.float32)), random_batch(n=6)
    one, again, other = (learn_constants(patched, [batch], seed, steps=12) for seed in (1, 1, 2))

    def flat(found: Learned) -> torch.Tensor:
        return torch.cat([x.flatten() for x in found.constants.tensors()])

    assert torch.equal(flat(one), flat(again))
    assert one.notes() == again.notes()
    assert not torch.equal(flat(one), flat(other))


def test_masks_drop_the_wanted_share_of_the_edges_that_exist():
    graph = Graph(4, 4)
    draw = torch.Generator().manual_seed(0)
    shares = torch.tensor([0.0, 0.3, 1.0])
    masks = random_masks(graph, shares, draw)
    assert torch.equal(masks[0], graph.allowed)
    assert not masks[2].any()
    assert not masks[:, ~graph.allowed].any()
    kept = float(masks[1].sum()) / graph.n_edges
    assert abs(kept - 0.7) < 4 * (0.21 / graph.n_edges) ** 0.5


# ---------------------------------------------------------------- as an ablation
@every_architecture
@every_input
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 1e-5)])
def test_all_edges_give_the_plain_model(name, inputs, dtype, tolerance, random_batch):
    patched, batch = patched_of(small_model(name, dtype=dtype), inputs), random_batch()
    learned = learn_constants(patched, [batch], 0, steps=2)
    counterfactuals = EdgeCounterfactuals(
        patched.model, patched.graph, "optimal", constants=learned.constants
    )
    counterfactual = counterfactuals.of(batch)
    found = patched.logits(batch, patched.graph.allowed[None], counterfactual)[0]
    plain = plain_logits(patched.model, batch)
    assert (found - plain).abs().max() <= tolerance * plain.abs().max()
    assert not counterfactual.streams[-1].requires_grad


def test_no_edges_give_the_constants_alone(random_batch):
    """Then the logits depend on nothing of the prompt."""
    patched, batch = patched_of(small_model("gpt2-like")), random_batch()
    constants = learn_constants(patched, [batch], 0, steps=2).constants
    counterfactuals = EdgeCounterfactuals(
        patched.model, patched.graph, "optimal", constants=constants
    )
    nothing = torch.zeros_like(patched.graph.allowed)
    found = patched.logits(batch, nothing[None], counterfactuals.of(batch))[0]
    wanted = slow_logits(patched, batch, nothing.double(), constants)
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(found, found[:1].expand_as(found), rtol=1e-11, atol=1e-11)


# ---------------------------------------------------------------- refusals
def test_refusals(random_batch):
    model = small_model("gpt2-like")
    patched, batch = patched_of(model), random_batch()
    with pytest.raises(HarnessError, match="'optimal' needs learned constants"):
        EdgeCounterfactuals(model, patched.graph, "optimal")
    with pytest.raises(HarnessError, match="need prompts to be taken over"):
        learn_constants(patched, [], 0)
    model.unembedding[0, 0] = torch.nan
    with pytest.raises(HarnessError, match="ablation 'optimal': the mean kl of circuits is nan"):
        learn_constants(patched, [batch], 0, steps=1)


@pytest.mark.parametrize("name", POST_NORMS)
def test_models_with_post_norms_are_refused(name, random_batch):
    with pytest.raises(HarnessError, match="choose mean"):
        learn_constants(patched_of(small_model(name)), [random_batch()], 0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_constants_of_half_precision_models_are_learned_in_single(dtype, random_batch):
    """They are worth what those of the same model in float32 are."""
    half = small_model("gpt2-like", dtype=torch.float32).to(dtype)
    full = small_model("gpt2-like", dtype=torch.float32)
    full.load_state_dict(half.state_dict())
    batch = random_batch(n=8)
    one, two = (learn_constants(patched_of(m), [batch], 0, steps=20) for m in (half, full))
    assert one.distance == pytest.approx(two.distance, rel=0.1)
    assert one.distance != one.distance_of_means
    assert {x.dtype for x in one.constants.tensors()} == {dtype}
