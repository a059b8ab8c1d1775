"""The peak memory of an Edge Pruning step, by counting: does a model fit on a card?

With t tokens run together (`prompts_at_once` of `masks.objective`: as many prompts as fit into a
budget, at least one), W writers, R readers of width K and E edges, in numbers of the model's
precision:
    weights          the model itself
    folded readers   L·D·(R_l·K + hidden), the maps that read the stream once more: about half of
                     the blocks, two thirds where MLPs are gated; R_l are the readers of a layer's
                     attention
    writers          2·W·t·D, differences and gradients
    kept outputs     L·t·(R_l·K + 3·H·K + hidden), of readers, of heads and what their backward
                     needs, of the MLP's hidden layer
    streams          4·R_l·t·D of one layer: mixed, by reader, normalised, and their gradients
    counterfactual   (L·H·K + (3·L + 3)·D)·tokens of the step, or twice as much where it is
                     centred for LayerNorm
and in float32 for the masks 4·E (parameters, gradient, two moments of Adam) and 4·W·R (as a matrix,
in the model's precision and in float32, and their gradients). Buffers of libraries are not counted:
beside its weights, GPT-2 small takes 590 MiB on a CPU by measurement, 476 by counting.

A plain forward+backward holds the weights twice, for their gradients, and no more of the rest.
CodeLlama-13B in bfloat16 on 8 prompts of 80 tokens, which run one by one: 24.2 GiB of weights, 16.4
folded, 2.5 of writers, 1.9 of all others; 45 GiB in all.
"""

from __future__ import annotations

import torch

from harness.bench.models import count_parameters
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.patchable import activation_numbers, difference_numbers
from harness.discovery.masks.objective import prompts_at_once
from harness.models.config import TransformerConfig

_MASKS = 4  # bytes: they are learned in float32


def step_gib(
    config: TransformerConfig, batch: int, length: int, dtype: torch.dtype, device: str
) -> dict[str, float]:
    """GiB of a step on `batch` prompts of `length` tokens, by purpose; `all` is their sum.

    For a model in precision `dtype` on a kind of device.
    """
    graph, layers, width = Graph.of(config), config.n_layers, config.d_model
    reads, heads = config.n_read_maps * config.d_head, config.n_heads * config.d_head
    hidden = (2 if config.gated else 1) * config.d_mlp
    tokens = batch * length
    part = min(batch, prompts_at_once(difference_numbers(config, graph, length), device)) * length
    copies = 2 if config.norm == "layernorm" else 1
    numbers = {
        "weights": count_parameters(config),
        "folded readers": layers * width * (reads + hidden),
        "writers": 2 * difference_numbers(config, graph, part),
        "kept outputs": layers * part * (reads + 3 * heads + hidden),
        "streams": 4 * config.n_read_maps * part * width,
        "counterfactual": copies * activation_numbers(config, tokens),
    }
    gib = {name: count * dtype.itemsize / 2**30 for name, count in numbers.items()}
    matrix = graph.n_writers * graph.n_readers
    gib["masks"] = _MASKS * 4 * (graph.n_edges + matrix) / 2**30
    return {**gib, "all": sum(gib.values())}
