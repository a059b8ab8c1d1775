"""The patched pass with gradients, at its mask and at its counterfactual: what both are learned by.

Forward and backward keep one buffer each, of every writer's difference and of the gradient there;
each slot is written once. A reader's mixed stream is not kept but mixed again in the backward pass
(one product). For readers in reverse order, with dX the gradient at a reader's stream:
    dM[w, r] = Δ_w · dX_r        and        G_w += m[w, r]·dX_r
and a writer's own backward takes its slot of G, complete by then. The counterfactual is every
reader's base stream, which gets Σ dX over the readers of one place, and what is subtracted from
every writer, which gets -G. Where streams are centred (LayerNorm), gradients at readers are centred
too and so is G: the centring of what writers write needs no backward of its own. Where heads are
normalised on their way (`post_norms`), dX_r is taken back through the norm of each layer's mix,
which is mixed again too.

Nodes that exact zeros leave out take no part, if the caller needs no gradient there.

Cost per token beside the plain forward and its activation backward: 4·E·D multiply-adds (two
mixes, dM, G), and R·D additions for the counterfactual. Memory: 2·W·T·D numbers, plus q, k, v and
hidden layers of every layer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.circuits.edges.counterfactuals import Activations
from harness.circuits.edges.patched.forward import PatchedModel, PatchedRun
from harness.circuits.edges.patched.mixing import add_writer_gradients, mask_gradients
from harness.circuits.edges.patched.post_norms import norm_vjp
from harness.datasets.batch import Batch


def masked_logits(
    patched: PatchedModel,
    batch: Batch,
    masks: Tensor,
    counterfactual: Activations,
    *,
    exact_zeros: bool = False,
) -> Tensor:
    """Logits [S, B, P, V] under float masks [S, W, R], differentiable with respect to the masks.

    Masks are [S, T, W, R] where each position has its own edges. The tensors of `counterfactual`
    get gradients too, each as a variable of its own. The model must be frozen. Gradients at
    impossible edges are zero. They can be taken once: the backward pass frees its buffers.

    `exact_zeros`: gradients are not needed at masks that are exactly zero (there they are zero or
    right), as where masks were clipped; so nodes of no use are not run (`LiveNodes`). Not for a
    `counterfactual` that wants gradients.
    """
    masks = masks.to(counterfactual.streams[0])
    tensors = (
        counterfactual.inputs,
        *counterfactual.heads,
        *counterfactual.mlps,
        *counterfactual.streams,
    )
    final: Tensor = _MaskedStream.apply(  # type: ignore[no-untyped-call]
        masks, patched, batch, counterfactual, exact_zeros, *tensors
    )
    return patched.model.unembed(final, batch.read_tokens())


class _MaskedStream(torch.autograd.Function):
    """masks of S sets → the final reader's stream at the read positions [S, B, P, D].

    The counterfactual's tensors are given once more, so that autograd sees them.
    """

    @staticmethod
    def forward(
        ctx: Any,
        masks: Tensor,
        patched: PatchedModel,
        batch: Batch,
        counterfactual: Activations,
        exact_zeros: bool,
        *tensors: Tensor,
    ) -> Tensor:
        run = PatchedRun.start(
            patched, batch, masks.detach(), counterfactual, exact_zeros=exact_zeros
        )
        ctx.tape = _Tape(run, [], [])
        for layer in (block.layer for block in patched.model.layers()):
            if run.nodes.groups[layer]:
                ctx.tape.attention(layer)
            if run.nodes.mlps[layer]:
                ctx.tape.mlp(layer)
        return run.final()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        tape, ctx.tape = ctx.tape, None
        if tape is None:
            raise RuntimeError("masked logits can be differentiated once; run the pass again")
        at_tensors = ctx.needs_input_grad[5:]
        if any(at_tensors):
            tape.at_counterfactual = _AtCounterfactual([], [], [])
        at_masks = tape.backward(grads[0])
        at_counterfactual = (
            tape.at_counterfactual.tensors() if tape.at_counterfactual else [None] * len(at_tensors)
        )
        return at_masks, None, None, None, None, *at_counterfactual


@dataclass
class _AtCounterfactual:
    """Gradients at the counterfactual's tensors as the backward pass meets them, last layer first.

    They are summed over the masks. None at what layers without MLP do not have.
    """

    heads: list[Tensor]
    mlps: list[Tensor | None]
    streams: list[Tensor | None]
    inputs: Tensor | None = None

    def tensors(self) -> list[Tensor | None]:
        """In the order of `masked_logits`."""
        return [self.inputs, *self.heads[::-1], *self.mlps[::-1], *self.streams[::-1]]


@dataclass
class _Tape:
    """What the backward pass needs of every live node: readers' outputs, heads with their graph."""

    run: PatchedRun
    heads: list[tuple[Tensor, Tensor]]
    hidden: list[Tensor]
    at_counterfactual: _AtCounterfactual | None = None

    def attention(self, layer: int) -> None:
        streams = self.run.attention_streams(layer)
        reads = self.run.readers(layer).read(streams).requires_grad_()
        with torch.enable_grad():
            z = self.run.attend(layer, reads)
        self.heads.append((reads, z))
        self.run.write_heads(layer, z.detach())

    def mlp(self, layer: int) -> None:
        hidden = self.run.patched.mlp_reader(layer).read(self.run.mlp_stream(layer))
        self.hidden.append(hidden)
        self.run.write_mlp(layer, hidden[0])

    def backward(self, at_final: Tensor) -> Tensor:
        """Gradient of the masks, of their shape, from the one at the final streams [S, B, P, D]."""
        run, nodes = self.run, self.run.nodes
        at_masks = torch.zeros_like(run.masks)
        at_writers = self._from_logits(at_final, at_masks)
        for layer in (block.layer for block in run.patched.model.layers(backwards=True)):
            if nodes.mlps[layer]:
                column = nodes.mlp_column(layer)
                self._collect(
                    self._mlp(layer, at_writers[:, nodes.mlp_row(layer)]),
                    nodes.before_mlp(layer),
                    slice(column, column + 1),
                    at_masks,
                    at_writers,
                )
            elif self.at_counterfactual and not run.graph.mlps:
                self.at_counterfactual.mlps.append(None)
                self.at_counterfactual.streams.append(None)
            if nodes.groups[layer]:
                self._collect(
                    self._attention(layer, at_writers[:, nodes.head_rows(layer)]),
                    nodes.before_attention(layer),
                    nodes.qkv_columns(layer),
                    at_masks,
                    at_writers,
                )
        if self.at_counterfactual:
            self.at_counterfactual.inputs = -at_writers[:, : run.graph.n_inputs].sum(0)
        return nodes.spread(at_masks)

    def _from_logits(self, at_final: Tensor, at_masks: Tensor) -> Tensor:
        """Start G [S, W, B, T, D] with what the final reader passes back."""
        run, column = self.run, self.run.nodes.logits_column
        # What an unused position holds is never looked at, so no gradient comes from there.
        at_final = at_final.where(run.batch.read[..., None], 0)
        at_writers = torch.empty_like(run.differences)
        for some, at_read in run.final_parts(at_final):
            at_streams = run.batch.from_positions(at_read)
            if self.at_counterfactual:
                self.at_counterfactual.streams.append(at_streams.sum(0))
            at_masks[..., some, column] = self._read_gradients(some, at_read, at_streams)
            masks = _by_writer(run.masks[..., some, column])
            torch.mul(masks, at_streams[:, None], out=at_writers[:, some])
        return at_writers

    def _read_gradients(self, some: slice, at_read: Tensor, at_streams: Tensor) -> Tensor:
        """Gradient of the final reader's masks [S, w], or [S, T, w], of some writers.

        From that at the read positions [S, B, P, D], which is `at_streams` [S, B, T, D] at all.
        """
        batch, written = self.run.batch, self.run.differences
        if self.run.graph.positions is None:
            read = batch.at_positions(written[:, some]).flatten(2)
            return torch.bmm(read, at_read.flatten(1)[..., None])[..., 0]
        return mask_gradients(written[:, some], at_streams[:, None], of_positions=True)[..., 0]

    def _collect(
        self, at_streams: Tensor, rows: int, columns: slice, at_masks: Tensor, at_writers: Tensor
    ) -> None:
        """Pass gradients at readers' streams [S, r, B, T, D] on to their edges and writers."""
        run, own = self.run, self.run.graph.positions is not None
        if self.at_counterfactual:
            self.at_counterfactual.streams.append(at_streams.sum((0, 1)))
        if rows == 0:  # without input writers nothing is written before the first heads
            return
        for some, gradients in run.parts(at_streams, rows, columns):
            at_masks[..., some, columns] = mask_gradients(run.differences[:, some], gradients, own)
            add_writer_gradients(at_writers[:, some], run.masks[..., some, columns], gradients)

    def _mlp(self, layer: int, at_writer: Tensor) -> Tensor:
        """From a layer's MLP writer [S, B, T, D] to its reader's stream [S, 1, B, T, D]."""
        run, block = self.run, self.run.blocks[layer]
        if self.at_counterfactual:
            self.at_counterfactual.mlps.append(-at_writer.sum(0))
        hidden = self.hidden.pop()
        at_out = at_writer.reshape(-1, at_writer.shape[-1])
        if block.config.post_norms:
            out = block.mlp_out(block.activate(hidden[0]))
            at_out = norm_vjp(block.mlp_post_norm, out, at_out)
        at_hidden = _elementwise(block.activate, hidden[0], at_out @ block.mlp_out.weight)
        folded, stream = run.patched.mlp_reader(layer), run.mlp_stream(layer)
        at_stream = folded.stream_gradients(stream, hidden, at_hidden[None])
        return at_stream.view(len(run.masks), 1, *at_writer.shape[1:])

    def _attention(self, layer: int, at_writers: Tensor) -> Tensor:
        """From a layer's head writers [S, H, B, T, D] to its readers' streams [S, R, B, T, D]."""
        run = self.run
        reads, z = self.heads.pop()
        weights = run.out_weights(layer)  # [h, K, D]
        at = at_writers.transpose(0, 1).reshape(len(weights), -1, weights.shape[-1])
        at_z = torch.bmm(at, weights.transpose(1, 2)).view(z.shape)
        if self.at_counterfactual:
            self.at_counterfactual.heads.append(-at_z.sum(1).permute(1, 2, 0, 3))
        (at_reads,) = torch.autograd.grad(z, reads, at_z)
        folded, streams = run.readers(layer), run.attention_streams(layer)
        at_streams = folded.stream_gradients(streams, reads.detach(), at_reads)
        by_set = at_streams.view(len(at_streams), len(run.masks), *at_writers.shape[2:])
        return by_set.transpose(0, 1).contiguous()


def _by_writer(masks: Tensor) -> Tensor:
    """One reader's masks [S, w] or [S, T, w] as factors of what writers wrote [S, w, B, T, D]."""
    if masks.ndim == 2:
        return masks[:, :, None, None, None]
    return masks.transpose(1, 2)[:, :, None, :, None]


def _elementwise(function: Callable[[Tensor], Tensor], x: Tensor, at: Tensor) -> Tensor:
    """Backward of a cheap function, run again rather than kept."""
    with torch.enable_grad():
        inputs = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(function(inputs), inputs, at)
    return gradient
