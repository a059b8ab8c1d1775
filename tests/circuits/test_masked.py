"""The masked pass and its hand-written backward against autograd of the slow reference.

Numbers in brackets are those of `tests/PROOFS.md`.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch
from support.masked_memory import BYTES, CONFIG, LENGTH, numbers_per_token, peaks
from support.slow_reference import ARCHITECTURES, POST_NORMS, SlowModel, small_model
from torch import Tensor

from harness.circuits.edges.counterfactuals import EdgeCounterfactuals
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.patched.backward import masked_logits
from harness.circuits.edges.patched.forward import PatchedModel
from harness.circuits.patchable import plain_logits
from harness.metrics import LOSSES
from harness.models.config import GPT2_SMALL
from harness.runs.compute.cost import in_fresh_process

pytestmark = pytest.mark.matrix
every_architecture = pytest.mark.parametrize("name", ARCHITECTURES)
every_input = pytest.mark.parametrize("inputs", ["token", "summed", "split", "none"])


class Case:
    """A model, a batch and what its dropped edges carry."""

    def __init__(
        self, model, batch, inputs="token", ablation="interchange", head_bias="unattached"
    ):
        self.model = small_model(model) if isinstance(model, str) else model
        self.batch = batch
        self.graph = Graph.of(self.model.config, inputs)
        self.patched = PatchedModel(self.model, self.graph)
        counterfactuals = EdgeCounterfactuals(self.model, self.graph, ablation, head_bias=head_bias)
        self.counterfactual = counterfactuals.of(batch)
        self.slow = SlowModel(self.model, inputs)

    def masks(self, sets=2, seed=0):
        """Float masks in (0, 1), wide enough that every edge matters."""
        draw = torch.Generator().manual_seed(seed)
        shape = (sets, *self.graph.allowed.shape)
        return torch.rand(shape, generator=draw, dtype=torch.float64) * self.graph.allowed

    def logits(self, masks):
        return masked_logits(self.patched, self.batch, masks, self.counterfactual)

    def slow_logits(self, mask):
        """At every position, of one mask [W, R]."""
        return self.slow.logits(self.batch.clean, self.batch.corrupted, mask)


def weights_like(logits: Tensor) -> Tensor:
    """A random direction, so that every logit counts."""
    return torch.randn(logits.shape, generator=torch.Generator().manual_seed(9)).to(logits)


def gradient(loss: Tensor, at: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(loss, at)
    return found


@every_architecture
@every_input
def test_backward_is_autograd_of_the_slow_reference(name, inputs, random_batch):
    """[12] Two masks at once; the reference sums every reader's stream edge by edge."""
    case = Case(name, random_batch(), inputs)
    masks = case.masks().requires_grad_()
    logits = case.logits(masks)
    wanted = torch.stack([case.slow_logits(mask)[:, -1:] for mask in masks])
    torch.testing.assert_close(logits, wanted, rtol=1e-12, atol=1e-12)
    at = weights_like(logits)
    found, slow = (gradient((x * at).sum(), masks) for x in (logits, wanted))
    assert (found - slow).abs().max() <= 1e-12 * slow.abs().max()
    assert (found[:, ~case.graph.allowed] == 0).all()


@every_architecture
@every_input
def test_gradients_are_central_differences(name, inputs, random_batch):
    """[4] 50 edges, of every kind: into q, k, v, the MLP and the logits.

    Differences of four points at a step h: their error is h⁴/30 times the fifth derivative, and
    some 1e-15/h from rounding. At h = 1e-4 both are 1e-10 or less for every model here, the
    relative tolerance left out. Two points leave h²/6 times the third derivative: no h makes that
    and rounding smaller than 1e-9 together, which is the size of small gradients.
    """
    case = Case(name, random_batch(), inputs)
    mask = case.masks(sets=1, seed=1)[0]
    edges = a_few_edges(case.graph, 50)
    step = 1e-4
    shifts = torch.zeros(len(edges), *mask.shape, dtype=mask.dtype)
    for shift, (row, column) in zip(shifts, edges, strict=True):
        shift[row, column] = step
    loss = LOSSES["logit_diff"]
    whole = plain_logits(case.model, case.batch)

    def losses(masks):
        return loss(case.logits(masks), whole, case.batch).sum(-1)

    near, far = (losses(mask + n * shifts) - losses(mask - n * shifts) for n in (1, 2))
    differences = (8 * near - far) / (12 * step)
    variable = mask.clone().requires_grad_()
    found = gradient(losses(variable[None]).sum(), variable)
    wanted = torch.stack([found[row, column] for row, column in edges])
    torch.testing.assert_close(wanted, differences, rtol=1e-5, atol=1e-10)
    assert (differences.abs() > 1e-6).sum() > len(edges) // 2  # not zeros compared with zeros


def a_few_edges(graph: Graph, n: int) -> list[tuple[int, int]]:
    """One edge into each q, k, v, MLP and final reader at least, n in all (where there are n)."""
    draw = torch.Generator().manual_seed(2)
    edges = graph.allowed.nonzero()
    edges = edges[torch.randperm(len(edges), generator=draw)].tolist()
    into = {column: (row, column) for row, column in edges}
    rest = [tuple(edge) for edge in edges if into[edge[1]] != tuple(edge)]
    return [*into.values(), *rest][: max(n, len(into))]


class _Again(torch.autograd.Function):
    """`masked_logits` that can be differentiated any number of times, by running it anew."""

    @staticmethod
    def forward(ctx, masks, case):
        ctx.case = case
        ctx.save_for_backward(masks)
        return case.logits(masks.detach())

    @staticmethod
    def backward(ctx, *grads):
        with torch.enable_grad():
            masks = ctx.saved_tensors[0].detach().requires_grad_()
            return gradient((ctx.case.logits(masks) * grads[0]).sum(), masks), None


@pytest.mark.parametrize("name", ["gpt2-like", "grouped", *POST_NORMS])
def test_gradcheck(name, random_batch):
    """[12] PyTorch's own check: every logit's gradient along a random direction of the masks."""
    case = Case(name, random_batch(n=2, length=4))
    masks = case.masks(seed=3).requires_grad_()
    assert torch.autograd.gradcheck(lambda m: _Again.apply(m, case), (masks,), fast_mode=True)


@every_architecture
@every_input
def test_all_edges_give_the_plain_model(name, inputs, random_batch):
    """[1, 19] Whatever the embeddings' writers are, and where heads share keys and values."""
    case = Case(name, random_batch(), inputs)
    every, wanted = case.graph.allowed[None].double(), plain_logits(case.model, case.batch)
    for found in (
        case.logits(every),
        case.patched.logits(case.batch, every, case.counterfactual),
    ):
        torch.testing.assert_close(found[0], wanted, rtol=1e-12, atol=1e-12)


@every_architecture
@every_input
def test_no_edges_give_the_corrupted_run(name, inputs, random_batch):
    """[2] Without input writers: clean embeddings, and what all others wrote in that run.

    By both passes: that without gradients runs no node at all then.
    """
    case = Case(name, random_batch(), inputs)
    nothing = torch.zeros(1, *case.graph.allowed.shape, dtype=torch.float64)
    if inputs == "none":
        model, batch = case.model, case.batch
        moved = model.embed(batch.clean) - model.embed(batch.corrupted)
        final = model.stream(batch.corrupted) + moved
        wanted = model.unembed(batch.at_positions(final), batch.read_tokens())
    else:
        final = case.model.stream(case.batch.corrupted)
        wanted = case.model.unembed(case.batch.at_positions(final), case.batch.read_tokens())
    for found in (
        case.logits(nothing),
        case.patched.logits(case.batch, nothing, case.counterfactual),
    ):
        torch.testing.assert_close(found[0], wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["gpt2-like", "parallel", *POST_NORMS])
def test_head_biases_matter_under_zero_ablation_alone(name, random_batch):
    """[15] Shared or unattached: equal under interchange, and not under zero ablation."""
    batch = random_batch()
    logits = {}
    for ablation in ("interchange", "zero"):
        for bias in ("shared", "unattached"):
            case = Case(name, batch, ablation=ablation, head_bias=bias)
            logits[ablation, bias] = case.logits(case.masks(sets=1, seed=4))
    torch.testing.assert_close(
        logits["interchange", "shared"], logits["interchange", "unattached"], rtol=0, atol=0
    )
    change = logits["zero", "shared"] - logits["zero", "unattached"]
    assert change.abs().max() > 0.01


def with_biases_moved_into_values(name):
    """A model, and the same with the heads' output biases b moved into the values' biases.

    So that such a value bias exists, one column of every head's output map is b/H.
    """
    model, moved = small_model(name), small_model(name)
    config = model.config
    first_value = (config.n_heads + config.n_groups) * config.d_head
    for block, other in zip(model.layers(), moved.layers(), strict=True):
        for one in (block, other):
            column = block.out_map.bias[:, None] / config.n_heads
            one.out_map.weight[:, :: config.d_head] = column
        other.out_map.bias.zero_()
        other.qkv_map.bias[first_value :: config.d_head] += 1
    return model, moved


MOVABLE = ["gpt2-like", "grouped", "parallel", "post-layernorm-parallel"]


@pytest.mark.parametrize("name", MOVABLE)
def test_shared_head_biases_are_those_of_a_model_that_has_them_in_its_values(name, random_batch):
    """[15] Attention weights sum to 1: a value's bias that is mapped to b/H is a shared b."""
    model, moved = with_biases_moved_into_values(name)
    case = Case(model, random_batch(), ablation="zero", head_bias="shared")
    masks = case.masks(sets=1, seed=5).requires_grad_()
    found = case.logits(masks)[0]
    wanted = SlowModel(moved).writers(case.batch.clean, masks[0], None)[1][:, -1:]
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    at = weights_like(found)
    gradients = [gradient((x * at).sum(), masks) for x in (found, wanted)]
    torch.testing.assert_close(*gradients, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", MOVABLE)
def test_where_a_head_has_its_bias_does_not_matter_under_interchange(name, random_batch):
    """[15] Beside its heads or within them, by the slow reference: the bias is in both runs.

    And the patched pass of the one model is the slow pass of the other.
    """
    model, moved = with_biases_moved_into_values(name)
    batch = random_batch()
    case, mask = Case(model, batch), Case(model, batch).masks(sets=1, seed=7)
    slow, other = (
        SlowModel(one).logits(batch.clean, batch.corrupted, mask[0]) for one in (model, moved)
    )
    torch.testing.assert_close(other, slow, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(case.logits(mask)[0], other[:, -1:], rtol=1e-12, atol=1e-12)
    zeroed = [SlowModel(one).writers(batch.clean, mask[0], None)[1] for one in (model, moved)]
    assert (zeroed[0] - zeroed[1]).abs().max() > 0.01  # it does under zero ablation


@every_architecture
def test_answers_are_read_anywhere(name, random_batch):
    """Two positions, in any order, one twice, and a prompt that uses only one of them."""
    case = Case(name, random_batch())
    places = torch.tensor([[3, 1], [2, 2], [4, -1]])
    case.batch = replace(case.batch, positions=places)
    masks = case.masks(sets=2, seed=6).requires_grad_()
    found = case.logits(masks)
    slow = torch.stack([case.slow_logits(mask) for mask in masks])
    wanted = case.batch.at_positions(slow)
    used = case.batch.read[..., None].expand_as(found)
    at = weights_like(found).where(used, 0)
    torch.testing.assert_close(found[used], wanted[used], rtol=1e-12, atol=1e-12)
    gradients = [gradient((x * at).sum(), masks) for x in (found, wanted)]
    torch.testing.assert_close(*gradients, rtol=1e-11, atol=1e-11)


def test_a_prompt_without_a_second_position_has_a_finite_gradient(random_batch):
    """What a loss makes of an unused position, even nan, does not spoil the others."""
    case = Case("gpt2-like", random_batch())
    unused = torch.tensor([[5, 1], [5, 2], [5, -1]])
    case.batch = replace(case.batch, positions=unused)
    masks = case.masks().requires_grad_()
    logits = case.logits(masks)
    scale = torch.where(case.batch.read, 1.0, torch.nan).double()[..., None]
    found = gradient((logits * scale).sum(), masks)
    wanted = gradient((case.logits(masks) * scale.nan_to_num(0)).sum(), masks)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def test_a_second_backward_is_refused(random_batch):
    """The buffers are gone: better an error than wrong numbers."""
    case = Case("gpt2-like", random_batch())
    masks = case.masks().requires_grad_()
    loss = case.logits(masks).sum()
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="differentiated once"):
        loss.backward()


def test_single_precision_masks_of_a_double_precision_model(random_batch):
    """Masks may be kept in another precision than the model; their gradient is in theirs."""
    case = Case("gpt2-like", random_batch())
    masks = case.masks()
    low, high = masks.float().requires_grad_(), masks.float().double().requires_grad_()
    found, wanted = (gradient(case.logits(x).square().sum(), x) for x in (low, high))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), wanted, rtol=1e-6, atol=1e-6)


# ---------------------------------------------------------------- memory
def test_the_stated_memory_at_gpt2s_proportions():
    """[12] Two buffers of W·D numbers, and all that the model's own layers keep."""
    assert Graph.of(GPT2_SMALL).n_writers == 157
    assert numbers_per_token(GPT2_SMALL) < 3.5 * 157 * GPT2_SMALL.d_model


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only glibc's allocator can be told")
def test_memory_for_each_token_is_what_is_stated():
    """[12] Growth of the peak from 16 prompts to 48, so that the model and libraries cancel."""
    few, many = 16, 48
    small, large = in_fresh_process(peaks, (few, many))
    growth = (large - small) / ((many - few) * LENGTH * BYTES)
    stated = numbers_per_token(CONFIG)
    assert 0.85 * stated < growth <= stated
