"""Edge scores from gradients: one backward pass gives every edge's first-order effect.

score[w, r] = Σ_examples,positions (x_w - x̃_w) · ∂loss/∂(input of r)

Where each position has its own edges, score[t, w, r] is the sum over examples alone.

The forward is the plain, fused model: the residual stream is never copied per head. The gradient
at each q, k, v reader is rebuilt from the gradient at its output (`readers.input_gradients`), and
one matrix product per layer mixes it with all writers' differences.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.circuits.graph import Graph
from harness.circuits.mixing import mask_slopes
from harness.circuits.readers import FoldedReaders, ReaderRun, sum_of
from harness.circuits.reference import Activations, input_writers
from harness.models.batch import Batch
from harness.models.transformer import Transformer

Loss = Callable[[Tensor], Tensor]
"""What gradients are taken of: logits [B, P, V] of a batch to one number per prompt [B]."""


class _Tap(torch.autograd.Function):
    """Identity that keeps the gradient of one branch of the residual stream."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, store: dict[str, Tensor], key: str) -> Tensor:
        ctx.store, ctx.key = store, key
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        ctx.store[ctx.key] = grads[0]
        return grads[0], None, None


def _tap(x: Tensor, store: dict[str, Tensor], key: str) -> Tensor:
    tapped: Tensor = _Tap.apply(x, store, key)  # type: ignore[no-untyped-call]
    return tapped


@dataclass(frozen=True)
class GradientRun:
    """A forward pass with the gradient of the summed loss at every reader.

    `activations` as in a plain run; `reads`: L of reader outputs [R, N, K]; `gradients`: at
    `reads{layer}` [R, N, K], at `mlp{layer}` [B, T, D], at `final` [B, P, D].
    """

    activations: Activations
    reads: tuple[Tensor, ...]
    gradients: dict[str, Tensor]


def gradient_run(
    model: Transformer,
    graph: Graph,
    batch: Batch,
    loss: Loss,
    start: Tensor | None = None,
) -> GradientRun:
    """Forward from the stream `start` [B, T, D] (default: the clean prompts') and backward.

    The backward is of Σ loss over the batch. Weights get no gradient: it costs as much as
    the forward.
    """
    start = model.start(batch.clean) if start is None else start
    store: dict[str, Tensor] = {}
    heads, mlps, streams, outputs = [], [], [], []
    with torch.enable_grad():
        x = start.detach().requires_grad_()
        for layer, block in enumerate(model.layers()):
            streams.append(x.detach())
            reads = _tap(block.read(x), store, f"reads{layer}")
            outputs.append(reads.detach())
            q, k, v = block.split(reads.transpose(1, 2), axis=1)
            z = block.attend(q, k, v).transpose(1, 2)
            heads.append(z.detach())
            after = x + block.project(z)
            at_mlp = x if model.config.parallel else after
            streams.append(at_mlp.detach())
            out = block.mlp(_tap(at_mlp, store, f"mlp{layer}"))
            mlps.append(out.detach())
            x = after + out
        final = _tap(batch.at_positions(x), store, "final")
        loss(model.unembed(final)).sum().backward()
    for layer in range(len(outputs)):
        store[f"reads{layer}"] = by_reader(store[f"reads{layer}"])
    written = input_writers(model, batch.clean, graph.inputs)
    activations = Activations(written, tuple(heads), tuple(mlps), (*streams, x.detach()))
    return GradientRun(activations, tuple(map(by_reader, outputs)), store)


def by_reader(reads: Tensor) -> Tensor:
    """[B, T, R, K] to [R, B·T, K]."""
    return reads.permute(2, 0, 1, 3).flatten(1, 2)


@torch.no_grad()
def writer_differences(
    model: Transformer, graph: Graph, run: Activations, reference: Activations
) -> Tensor:
    """x_w - x̃_w of every writer: [W, B, T, D]."""
    differences = run.streams[0].new_empty((graph.n_writers, *run.streams[0].shape))
    differences[: graph.n_inputs] = run.inputs - reference.inputs
    for layer, block in enumerate(model.layers()):
        z = (run.heads[layer] - reference.heads[layer]).permute(2, 0, 1, 3).flatten(1, 2)
        rows = differences[graph.head_rows(layer)]
        torch.bmm(z, block.out_weights(), out=rows.view(rows.shape[0], -1, rows.shape[-1]))
        if reference.without_bias and block.out_map.bias is not None:
            rows += block.out_map.bias / graph.n_heads
        torch.sub(run.mlps[layer], reference.mlps[layer], out=differences[graph.mlp_row(layer)])
    return differences


@torch.no_grad()
def edge_scores(
    model: Transformer,
    graph: Graph,
    batch: Batch,
    runs: Sequence[GradientRun],
    differences: Tensor,
) -> Tensor:
    """Scores [W, R] summed over the batch and over runs; [T, W, R] where positions have edges.

    The runs' gradients are added up at each reader, so that there is one mixing product per
    layer however many runs there are.
    """
    scores, own = differences.new_zeros(graph.allowed.shape), graph.positions is not None
    for layer, block in enumerate(model.layers()):
        at_readers = FoldedReaders.attention(block).input_gradients(
            [
                ReaderRun(
                    run.activations.streams[2 * layer].flatten(0, 1),
                    run.reads[layer],
                    run.gradients[f"reads{layer}"],
                )
                for run in runs
            ]
        )
        rows, columns = graph.before_attention(layer), graph.qkv_columns(layer)
        at_readers = at_readers.unflatten(1, batch.clean.shape)
        scores[..., :rows, columns] = _products(differences[:rows], at_readers, own)
        rows = graph.before_mlp(layer)
        at_mlp = sum_of(run.gradients[f"mlp{layer}"] for run in runs)
        scores[..., :rows, graph.mlp_column(layer)] = _products(differences[:rows], at_mlp, own)
    at_final = sum_of(run.gradients["final"] for run in runs)
    read = batch.at_positions(differences)
    if own:
        read, at_final = differences, batch.from_positions(at_final[None])[0]
    scores[..., graph.logits_column] = _products(read, at_final, own)
    return scores


def _products(writers: Tensor, at_readers: Tensor, of_positions: bool) -> Tensor:
    """Σ writer · gradient for writers [w, B, T, D] and readers [r, B, T, D]: [w, r].

    At one reader [B, T, D]: [w]. `of_positions`: not summed over positions, which come first.
    """
    if not of_positions:
        return writers.flatten(1) @ at_readers.flatten(-3).movedim(0, -1)
    if at_readers.ndim == 3:
        return _products(writers, at_readers[None], of_positions)[..., 0]
    return mask_slopes(writers[None], at_readers[None], of_positions)[0]
