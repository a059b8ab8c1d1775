"""Edges of each position: the passes against the slow reference and against shared edges.

Numbers in brackets are those of `tests/PROOFS.md`.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support.problems import problem_of, scores_of
from support.slow_reference import ARCHITECTURES, SlowModel, small_model

from harness.circuits.edges.patched.backward import masked_logits
from harness.circuits.patchable import plain_logits, self_check
from harness.discovery.masks.objective import StepObjective
from harness.discovery.masks.settings import MaskTraining
from harness.errors import HarnessError

pytestmark = pytest.mark.matrix
every_architecture = pytest.mark.parametrize("name", ARCHITECTURES)
every_input = pytest.mark.parametrize("inputs", ["token", "split", "none"])


class Twins:
    """One problem with shared edges and the same with edges of each position."""

    def __init__(self, name, batch, **choices):
        self.model = small_model(name)
        self.batch = batch
        self.shared = problem_of(self.model, batch, **choices)
        self.own = problem_of(self.model, batch, per_token=True, **choices)
        self.counterfactual = self.own.counterfactuals.of(batch)

    def masks(self, problem, sets=2, seed=0):
        """Float masks in (0, 1) that are wide enough for every edge to matter."""
        allowed, draw = problem.edges.graph.allowed, torch.Generator().manual_seed(seed)
        return torch.rand((sets, *allowed.shape), generator=draw, dtype=torch.float64) * allowed

    def logits(self, problem, masks):
        return masked_logits(problem.edges.patched, self.batch, masks, self.counterfactual)

    def slow_logits(self, masks, inputs="token"):
        """At the read positions [S, B, P, V]; readers mix writers position by position."""
        slow, batch = SlowModel(self.model, inputs), self.batch
        each = [slow.logits(batch.clean, batch.corrupted, mask) for mask in masks]
        return batch.at_positions(torch.stack(each))


def direction(logits, batch):
    """Random weights of all logits in use, so that every one of them counts."""
    at = torch.randn(logits.shape, generator=torch.Generator().manual_seed(9)).to(logits)
    return at.where(batch.read[..., None], 0)


def gradient(loss, at):
    (found,) = torch.autograd.grad(loss, at)
    return found


def read_anywhere(batch):
    """Two positions in any order, one read twice, and a prompt that uses one of them."""
    return replace(batch, positions=torch.tensor([[3, 1], [2, 2], [4, -1]]))


@every_architecture
@every_input
def test_passes_are_those_of_the_slow_reference(name, inputs, random_batch):
    """[12] Logits and gradients of two masks at once, with unrelated masks at each position."""
    twins = Twins(name, read_anywhere(random_batch()), inputs=inputs)
    masks = twins.masks(twins.own).requires_grad_()
    found, wanted = twins.logits(twins.own, masks), twins.slow_logits(masks, inputs)
    used = twins.batch.read[..., None].expand_as(found)
    torch.testing.assert_close(found[used], wanted[used], rtol=1e-12, atol=1e-12)
    plain = twins.own.edges.patched.logits(twins.batch, masks.detach(), twins.counterfactual)
    torch.testing.assert_close(plain, found, rtol=1e-13, atol=1e-13)
    at = direction(found, twins.batch)
    gradients, slow = (gradient((x * at).sum(), masks) for x in (found, wanted))
    assert (gradients - slow).abs().max() <= 1e-12 * slow.abs().max()
    assert (gradients[:, ~twins.own.edges.graph.allowed] == 0).all()


@every_architecture
@every_input
def test_masks_equal_over_positions_are_shared_masks(name, inputs, random_batch):
    """Logits are equal; a shared mask's gradient is the sum of those of the positions."""
    twins = Twins(name, random_batch(), inputs=inputs, ablation="zero", head_bias="shared")
    masks = twins.masks(twins.shared).requires_grad_()
    spread = (
        masks[:, None].expand(-1, twins.own.edges.graph.n_places, -1, -1).detach().requires_grad_()
    )
    shared, own = twins.logits(twins.shared, masks), twins.logits(twins.own, spread)
    torch.testing.assert_close(own, shared, rtol=1e-12, atol=1e-12)
    at = direction(own, twins.batch)
    wanted = gradient((shared * at).sum(), masks)
    found = gradient((own * at).sum(), spread).sum(1)
    assert (found - wanted).abs().max() <= 1e-12 * wanted.abs().max()


@every_architecture
def test_all_edges_give_the_plain_model_and_none_the_corrupted_run(name, random_batch):
    """[1, 2] With edges of each position; a bigram table's row stays that of the clean token."""
    twins = Twins(name, read_anywhere(random_batch()))
    model, batch = twins.model, twins.batch
    allowed = twins.own.edges.graph.allowed
    none, every = twins.own.edges.patched.logits(
        twins.batch, torch.stack([torch.zeros_like(allowed), allowed]), twins.counterfactual
    )
    for found, tokens in ((every, batch.clean), (none, batch.corrupted)):
        final = batch.at_positions(model.stream(tokens))
        wanted = model.unembed(final, batch.read_tokens())
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    assert self_check(twins.own.patchable, twins.batch, twins.counterfactual) < 1e-12


@every_architecture
def test_eap_is_autograd_of_the_slow_reference(name, random_batch):
    """[5] - ∂loss/∂mask at all edges kept, one number for each position."""
    twins = Twins(name, random_batch())
    mask = twins.own.edges.graph.allowed.double().requires_grad_()
    loss = twins.own.loss("metric", twins.batch)
    wanted = -gradient(loss(twins.slow_logits(mask[None])[0]).sum(), mask) / len(twins.batch)
    found = scores_of("eap", twins.own)
    wanted = wanted.where(twins.own.edges.graph.allowed, 0)
    assert wanted.abs().max() > 1e-3
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-12)


@every_architecture
@pytest.mark.parametrize(
    ("kind", "params"),
    [
        ("eap", {}),
        ("eap_ig", {"steps": 3}),
        ("eap_ig", {"variant": "clean_corrupted"}),
        ("eap_ig", {"variant": "activations", "steps": 2}),
        ("mask_gradient_ig", {"steps": 2}),
    ],
)
def test_gradient_scores_of_positions_add_up_to_the_shared_scores(name, kind, params, random_batch):
    twins = Twins(name, read_anywhere(random_batch()))
    wanted, found = (scores_of(kind, one, **params) for one in (twins.shared, twins.own))
    assert found.shape == twins.own.edges.graph.allowed.shape
    torch.testing.assert_close(found.sum(0), wanted, rtol=1e-11, atol=1e-12)
    assert (found.abs().sum((1, 2)) > 1e-4).sum() > 1  # more than one position matters


@every_architecture
def test_activation_patching_is_the_loss_without_each_edge_at_each_position(name, random_batch):
    """Against the patched pass with one edge dropped, for every edge."""
    twins = Twins(name, random_batch(n=2, length=4))
    allowed, problem = twins.own.edges.graph.allowed, twins.own
    masks = allowed.expand(problem.edges.graph.n_edges, *allowed.shape).clone()
    masks[torch.arange(len(masks)), *allowed.nonzero().T] = False
    loss = problem.loss("metric", twins.batch)
    without = loss(problem.edges.patched.logits(twins.batch, masks, twins.counterfactual)).mean(-1)
    wanted = without - loss(plain_logits(twins.model, twins.batch)).mean()
    found = scores_of("activation_patching", problem)
    torch.testing.assert_close(found[allowed], wanted, rtol=1e-9, atol=1e-11)
    assert (found[~allowed] == 0).all()


def test_masks_are_trained_through_the_same_objective(random_batch):
    """Masks equal over positions: the objective and, summed, its gradient are the shared ones."""
    twins = Twins("gpt2-like", random_batch())
    training, places = MaskTraining(1, 2, "kl"), twins.own.edges.graph.n_places
    draw = torch.Generator().manual_seed(3)
    drawn = torch.rand(2, twins.shared.edges.graph.n_edges, generator=draw, dtype=torch.float64)
    at = drawn.clone().requires_grad_()
    spread = drawn.repeat(1, places).requires_grad_()
    shared, own = (
        StepObjective(twins.shared, training, 5)(at, 0),
        StepObjective(twins.own, training, 5)(spread, 0),
    )
    torch.testing.assert_close(own, shared, rtol=1e-12, atol=1e-12)
    summed = gradient(own.sum(), spread).unflatten(1, (places, -1)).sum(1)
    torch.testing.assert_close(summed, gradient(shared.sum(), at), rtol=1e-10, atol=1e-12)


def test_prompts_of_another_length_are_refused(random_batch):
    twins = Twins("gpt2-like", random_batch(length=6))
    longer = random_batch(length=7)
    counterfactual = twins.own.counterfactuals.of(longer)
    masks = twins.own.edges.graph.allowed[None]
    with pytest.raises(HarnessError, match=r"a prompt of 7 tokens.*6 positions.*one length"):
        twins.own.edges.patched.logits(longer, masks, counterfactual)
