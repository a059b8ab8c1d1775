"""Memory of the patched pass with gradients, measured in a process of its own."""

from __future__ import annotations

import ctypes

import torch

from harness.circuits.edges.counterfactuals import EdgeCounterfactuals
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.patched.backward import masked_logits
from harness.circuits.edges.patched.forward import PatchedModel
from harness.datasets.batch import Batch
from harness.models.config import TransformerConfig
from harness.models.transformer import random_model
from harness.runs.compute.cost import measured

BYTES = 4  # of a number in single precision
LENGTH = 32

CONFIG = TransformerConfig(
    n_layers=6,
    n_heads=8,
    d_model=128,
    d_head=16,
    d_mlp=512,
    d_vocab=11,
    n_ctx=LENGTH,
)


def numbers_per_token(config: TransformerConfig) -> int:
    """Most numbers that forward and backward of one mask hold at once for a token.

    Beside the model and the counterfactual's activations, for LayerNorm and no shared heads. Kept
    by the forward pass: every writer's difference, the centred base streams, and of every layer
    q, k, v, z, the attention's log-sums and the MLP's hidden layer. Then the backward pass has as
    many gradients at writers, and while it is at one layer's heads, the streams of their readers,
    the gradients there, and of q, k, v their gradients, the same scaled by the norm, and two
    products.
    """
    D, H, K, L = config.d_model, config.n_heads, config.d_head, config.n_layers
    writers = Graph.of(config).n_writers
    kept = writers * D + (2 * L + 1) * D + L * (4 * H * K + H + config.d_mlp)
    at_one_layer = 2 * (3 * H * D) + 4 * (3 * H * K)
    return kept + writers * D + at_one_layer


def peaks(prompts: tuple[int, ...]) -> list[float]:
    """Bytes that forward and backward need beyond what is there before, for so many prompts."""
    torch.set_num_threads(1)
    _give_back_what_is_freed()
    model = random_model(CONFIG, 0).requires_grad_(False)
    graph = Graph.of(CONFIG)
    patched = PatchedModel(model, graph)
    counterfactuals = EdgeCounterfactuals(model, graph, "interchange")
    found = []
    for count in (1, *prompts):  # the first one sets up what libraries keep
        batch = _batch(count)
        counterfactual = counterfactuals.of(batch)
        mask = graph.allowed.float()[None].mul(0.5).requires_grad_()
        with measured() as cost:
            masked_logits(patched, batch, mask, counterfactual).sum().backward()
        found.append(cost.peak_mib * 2**20)
    return found[1:]


def _give_back_what_is_freed() -> None:
    """Every tensor in pages of its own (glibc), so that holes between others are not counted."""
    mmap_threshold, smallest = -3, 2**16
    assert ctypes.CDLL(None).mallopt(mmap_threshold, smallest) == 1


def _batch(count: int) -> Batch:
    draw = torch.Generator().manual_seed(0)
    clean, corrupted = torch.randint(CONFIG.d_vocab, (2, count, LENGTH), generator=draw)
    last, answer = torch.full((count, 1), LENGTH - 1), torch.zeros(count, 1, 1, dtype=torch.long)
    return Batch(clean, corrupted, last, answer, answer + 1, torch.arange(count))
