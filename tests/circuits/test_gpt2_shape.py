"""The two ends of the mask at GPT-2 small's size, in the precision that real runs have.

Numbers in brackets are those of `tests/PROOFS.md`.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from harness.circuits.edges.counterfactuals import EdgeCounterfactuals
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.patched.backward import masked_logits
from harness.circuits.edges.patched.forward import PatchedModel
from harness.circuits.patchable import plain_logits
from harness.datasets.batch import Batch
from harness.models.config import GPT2_SMALL
from harness.models.transformer import Transformer, random_model

LENGTH = 12


def gpt2_shaped() -> Transformer:
    """Random weights, larger than at the start of a training, and random biases and norms.

    So heads and MLPs write a hundred times what the embeddings do, and logits spread as a trained
    model's. Much larger random weights magnify rounding from layer to layer: there the plain model
    in single precision is itself further than 1e-4 from the same in double precision.
    """
    model = random_model(GPT2_SMALL, 0).requires_grad_(False)
    draw = torch.Generator().manual_seed(1)
    for parameter in model.blocks.parameters():
        if parameter.ndim > 1:
            parameter.mul_(2)
        else:
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=draw))
    model.final_norm.weight.mul_(4.5)
    return model


def two_prompts() -> Batch:
    draw = torch.Generator().manual_seed(2)
    clean, corrupted = torch.randint(GPT2_SMALL.d_vocab, (2, 2, LENGTH), generator=draw)
    every = torch.arange(LENGTH).expand(2, -1)  # read at every position
    answers = torch.zeros(2, LENGTH, 1, dtype=torch.long)
    return Batch(clean, corrupted, every, answers, answers + 1, torch.arange(2))


class Case:
    """The model, its patched form and what it makes of two prompts: logits [B, P, V]."""

    def __init__(self) -> None:
        model, self.batch = gpt2_shaped(), two_prompts()
        graph = Graph.of(GPT2_SMALL)
        self.patched = PatchedModel(model, graph)
        self.counterfactual = EdgeCounterfactuals(model, graph, "interchange").of(self.batch)
        self.clean = plain_logits(model, self.batch)
        self.corrupted = plain_logits(model, self.batch, corrupted=True)

    def both_passes(self, mask: Tensor) -> list[Tensor]:
        """Logits under a mask [W, R] by the pass without gradients and by the one with them."""
        return [
            self.patched.logits(self.batch, mask[None], self.counterfactual)[0],
            masked_logits(self.patched, self.batch, mask[None], self.counterfactual)[0],
        ]


@pytest.fixture(scope="module")
def case() -> Case:
    return Case()


def largest_kl(p: Tensor, q: Tensor) -> float:
    """Of all read positions, KL(p ‖ q) in nats, the softmax in double precision."""
    log_p, log_q = p.double().log_softmax(-1), q.double().log_softmax(-1)
    return float((log_p.exp() * (log_p - log_q)).sum(-1).max())


def equal(found: Tensor, wanted: Tensor) -> None:
    assert wanted.std() > 2
    assert (found - wanted).abs().max() <= 1e-4
    assert largest_kl(wanted, found) < 1e-9


def test_the_prompts_differ(case):
    """Else both ends would be one."""
    assert largest_kl(case.clean, case.corrupted) > 0.1


def test_all_edges_are_the_plain_model(case):
    """[1] In single precision: logits within 1e-4, KL below 1e-9."""
    for found in case.both_passes(case.patched.graph.allowed.float()):
        equal(found, case.clean)


def test_no_edges_are_the_corrupted_run(case):
    """[2] With the token embedding as a writer."""
    for found in case.both_passes(torch.zeros(case.patched.graph.allowed.shape)):
        equal(found, case.corrupted)
