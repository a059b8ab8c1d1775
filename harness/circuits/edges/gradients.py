"""Edge scores from gradients: one backward pass gives every edge's first-order effect.

score[w, r] = Σ_examples,positions (x_w - x̃_w) · ∂loss/∂(input of r)

Where each position has its own edges, score[t, w, r] is the sum over examples alone. Where heads
are normalised on their way to the stream (`post_norms`), x_w - x̃_w is taken through the norm to
first order at the run of the gradient.

The forward is the plain, fused model: the residual stream is never copied per head. The gradient
at each q, k, v reader is rebuilt from the gradient at its output (`readers.input_gradients`), and
one matrix product per layer mixes it with all writers' differences.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.circuits.edges.counterfactuals import Activations, input_writers
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.patched.mixing import mask_gradients
from harness.circuits.edges.patched.post_norms import first_order_differences
from harness.circuits.edges.patched.readers import FoldedReaders, ReaderRun, sum_of
from harness.circuits.edges.trace import Trace
from harness.datasets.batch import Batch
from harness.models.precision import single
from harness.models.transformer import Transformer

Loss = Callable[[Tensor], Tensor]
"""What gradients are taken of: logits [B, P, V] of a batch to one number per prompt [B]."""


@dataclass(frozen=True)
class GradientRun:
    """A forward pass with the gradient of the summed loss at every reader.

    `activations` as in a plain run; `reads`: L of reader outputs [R, N, K]; `gradients`: at
    `reads{layer}` [R, N, K], at `mlp{layer}` [B, T, D], at `final` [B, P, D]. `attention`: L of
    attention's outputs [B, T, D], before any norm that they pass on their way to the stream.
    """

    activations: Activations
    reads: tuple[Tensor, ...]
    gradients: dict[str, Tensor]
    attention: tuple[Tensor, ...] = ()

    @classmethod
    def of(
        cls,
        activations: Activations,
        reads: Sequence[Tensor],
        at_reads: Sequence[Tensor],
        at_mlps: Sequence[Tensor],
        at_final: Tensor,
        attention: Sequence[Tensor] = (),
    ) -> GradientRun:
        """From what a trace's readers gave and its gradients by layer [B, T, R, K], [B, T, D]."""
        gradients = {f"reads{layer}": by_reader(at) for layer, at in enumerate(at_reads)}
        gradients |= {f"mlp{layer}": at for layer, at in enumerate(at_mlps)}
        outputs = tuple(by_reader(x.detach()) for x in reads)
        detached = tuple(a.detach() for a in attention)
        return cls(activations, outputs, {**gradients, "final": at_final}, detached)


def gradient_run(
    model: Transformer,
    graph: Graph,
    batch: Batch,
    loss: Loss,
    start: Tensor | None = None,
) -> GradientRun:
    """Forward from the stream `start` [B, T, D] (default: the clean prompts') and backward.

    The backward is of Σ loss over the batch.
    """
    trace = Trace.of(model, model.start(batch.clean) if start is None else start)
    with torch.enable_grad():
        final = batch.at_positions(trace.end)
        total = loss(model.unembed(final, batch.read_tokens())).sum()
    gradients = trace.gradients(total, final)
    activations = Activations(
        input_writers(model, batch.clean, graph.inputs),
        tuple(z.detach() for z in trace.heads),
        tuple(m.detach() for m in trace.written),
        stream_points(trace.streams, trace.mlps, trace.end),
    )
    return GradientRun.of(
        activations, trace.reads, gradients.reads, gradients.mlps, gradients.final, trace.attention
    )


def stream_points(
    streams: Sequence[Tensor], mlps: Sequence[Tensor], end: Tensor
) -> tuple[Tensor, ...]:
    """The streams before each attention and each MLP and at the end: 2L+1 of [B, T, D]."""
    between = (x for pair in zip(streams, mlps, strict=True) for x in pair)
    return tuple(x.detach() for x in (*between, end))


def by_reader(reads: Tensor) -> Tensor:
    """[B, T, R, K] to [R, B·T, K]."""
    return reads.permute(2, 0, 1, 3).flatten(1, 2)


@torch.no_grad()
def writer_differences(
    model: Transformer, graph: Graph, run: Activations, counterfactual: Activations
) -> Tensor:
    """x_w - x̃_w of every writer, of heads before a norm takes them: [W, B, T, D]."""
    differences = run.streams[0].new_empty((graph.n_writers, *run.streams[0].shape))
    differences[: graph.n_inputs] = run.inputs - counterfactual.inputs
    for layer, block in enumerate(model.layers()):
        z = (run.heads[layer] - counterfactual.heads[layer]).permute(2, 0, 1, 3).flatten(1, 2)
        rows = differences[graph.head_rows(layer)]
        torch.bmm(z, block.out_weights(), out=rows.view(rows.shape[0], -1, rows.shape[-1]))
        if counterfactual.without_bias and block.out_map.bias is not None:
            rows += block.out_map.bias / graph.n_heads
        if graph.mlps:
            torch.sub(
                run.mlps[layer], counterfactual.mlps[layer], out=differences[graph.mlp_row(layer)]
            )
    return differences


@torch.no_grad()
def edge_scores(
    model: Transformer,
    graph: Graph,
    batch: Batch,
    runs: Sequence[GradientRun],
    differences: Tensor,
) -> Tensor:
    """Scores [W, R] summed over the batch and over runs, at least in single precision.

    They are [T, W, R] where positions have edges of their own.

    The runs' gradients are added up at each reader, so that there is one mixing product per
    layer however many runs there are. With post-norms, whose gradients are each run's own, there is
    one for each run.
    """
    if not model.config.post_norms:
        return _edge_scores(model, graph, batch, runs, differences)
    return sum_of(
        _edge_scores(
            model,
            graph,
            batch,
            [run],
            first_order_differences(model, graph, run.attention, differences),
        )
        for run in runs
    )


def _edge_scores(
    model: Transformer,
    graph: Graph,
    batch: Batch,
    runs: Sequence[GradientRun],
    differences: Tensor,
) -> Tensor:
    """The same of differences that add up in the stream."""
    differences, own = single(differences), graph.positions is not None
    scores = differences.new_zeros(graph.allowed.shape)
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
        at_readers = single(at_readers).unflatten(1, batch.clean.shape)
        scores[..., :rows, columns] = _products(differences[:rows], at_readers, own)
        if graph.mlps:
            rows = graph.before_mlp(layer)
            at_mlp = sum_of(single(run.gradients[f"mlp{layer}"]) for run in runs)
            scores[..., :rows, graph.mlp_column(layer)] = _products(differences[:rows], at_mlp, own)
    at_final = sum_of(single(run.gradients["final"]) for run in runs)
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
    return mask_gradients(writers[None], at_readers[None], of_positions)[0]
