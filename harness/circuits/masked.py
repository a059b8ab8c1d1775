"""The patched pass as a function of its mask, with gradients: what masks are learned through.

Forward and backward keep one buffer each, of every writer's difference and of the gradient there;
each slot is written once. A reader's mixed stream is not kept but mixed again in the backward pass
(one product). For readers in reverse order, with dX the gradient at a reader's stream:
    dM[w, r] = Δ_w · dX_r        and        G_w += m[w, r]·dX_r
and a writer's own backward takes its slot of G, complete by then. Where streams are centred
(LayerNorm), gradients at readers are centred too and so is G: the centring of what writers write
needs no backward of its own.

Cost per token beside the plain forward and its activation backward: 4·E·D multiply-adds (two
mixes, dM, G). Memory: 2·W·T·D numbers, plus q, k, v and hidden layers of every layer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.circuits.mixing import add_writer_slopes, mask_slopes
from harness.circuits.patching import PatchedModel, PatchedRun
from harness.circuits.reference import Activations
from harness.models.batch import Batch


def masked_logits(
    patched: PatchedModel, batch: Batch, masks: Tensor, reference: Activations
) -> Tensor:
    """Logits [S, B, P, V] under float masks [S, W, R], differentiable with respect to the masks.

    Masks are [S, T, W, R] where each position has its own edges.
    The model must be frozen. Gradients at impossible edges are zero. They can be taken once: the
    backward pass gives its buffers back as it goes.
    """
    masks = masks.to(reference.streams[0])
    final: Tensor = _MaskedStream.apply(masks, patched, batch, reference)  # type: ignore[no-untyped-call]
    return patched.model.unembed(final)


class _MaskedStream(torch.autograd.Function):
    """masks of S sets → the final reader's stream at the read positions [S, B, P, D]."""

    @staticmethod
    def forward(
        ctx: Any, masks: Tensor, patched: PatchedModel, batch: Batch, reference: Activations
    ) -> Tensor:
        run = PatchedRun.start(patched, batch, masks.detach(), reference)
        ctx.tape = _Tape(run, [], [])
        for layer in range(patched.model.config.n_layers):
            ctx.tape.attention(layer)
            ctx.tape.mlp(layer)
        return run.final()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        tape, ctx.tape = ctx.tape, None
        if tape is None:
            raise RuntimeError("masked logits can be differentiated once; run the pass again")
        return tape.backward(grads[0]), None, None, None


@dataclass
class _Tape:
    """What the backward pass needs of every layer: readers' outputs, and heads with their graph."""

    run: PatchedRun
    heads: list[tuple[Tensor, Tensor]]
    hidden: list[Tensor]

    def attention(self, layer: int) -> None:
        streams = self.run.attention_streams(layer)
        reads = self.run.patched.attention[layer].read(streams).requires_grad_()
        with torch.enable_grad():
            z = self.run.attend(layer, reads)
        self.heads.append((reads, z))
        self.run.write_heads(layer, z.detach())

    def mlp(self, layer: int) -> None:
        hidden = self.run.patched.mlps[layer].read(self.run.mlp_stream(layer))
        self.hidden.append(hidden)
        self.run.write_mlp(layer, hidden[0])

    def backward(self, at_final: Tensor) -> Tensor:
        """Gradient of the masks, of their shape, from the one at the final streams [S, B, P, D]."""
        run, graph = self.run, self.run.graph
        at_masks = torch.zeros_like(run.masks)
        at_writers = self._from_logits(at_final, at_masks)
        for layer in reversed(range(len(self.heads))):
            column = graph.mlp_column(layer)
            self._collect(
                self._mlp(layer, at_writers[:, graph.mlp_row(layer)]),
                graph.before_mlp(layer),
                slice(column, column + 1),
                at_masks,
                at_writers,
            )
            self._collect(
                self._attention(layer, at_writers[:, graph.head_rows(layer)]),
                graph.before_attention(layer),
                graph.qkv_columns(layer),
                at_masks,
                at_writers,
            )
        return at_masks

    def _from_logits(self, at_final: Tensor, at_masks: Tensor) -> Tensor:
        """Start G [S, W, B, T, D] with what the final reader passes back."""
        run, column = self.run, self.run.graph.logits_column
        # What an unused position holds is never looked at, so no slope comes from there.
        at_final = at_final.where(run.batch.read[..., None], 0)
        at_streams = run.batch.from_positions(at_final)
        if run.graph.positions is None:
            read = run.batch.at_positions(run.differences).flatten(2)
            at_masks[:, :, column] = torch.bmm(read, at_final.flatten(1)[..., None])[..., 0]
            return run.masks[:, :, column, None, None, None] * at_streams[:, None]
        slopes = mask_slopes(run.differences, at_streams[:, None], of_positions=True)
        at_masks[..., column] = slopes[..., 0]
        weights = run.masks[..., column].transpose(1, 2)[:, :, None, :, None]  # [S, W, 1, T, 1]
        return (weights * at_streams[:, None]).contiguous()

    def _collect(
        self, at_streams: Tensor, rows: int, columns: slice, at_masks: Tensor, at_writers: Tensor
    ) -> None:
        """Pass gradients at readers' streams [S, r, B, T, D] on to their edges and writers."""
        if rows == 0:  # without input writers nothing is written before the first heads
            return
        run, own = self.run, self.run.graph.positions is not None
        at_masks[..., :rows, columns] = mask_slopes(run.differences[:, :rows], at_streams, own)
        add_writer_slopes(at_writers[:, :rows], run.masks[..., :rows, columns], at_streams)

    def _mlp(self, layer: int, at_writer: Tensor) -> Tensor:
        """From a layer's MLP writer [S, B, T, D] to its reader's stream [S, 1, B, T, D]."""
        run, block = self.run, self.run.blocks[layer]
        hidden = self.hidden.pop()
        at_out = at_writer.reshape(-1, at_writer.shape[-1])
        at_hidden = _elementwise(block.activate, hidden[0], at_out @ block.mlp_out.weight)
        folded, stream = run.patched.mlps[layer], run.mlp_stream(layer)
        at_stream = folded.stream_gradients(stream, hidden, at_hidden[None])
        return at_stream.view(len(run.masks), 1, *at_writer.shape[1:])

    def _attention(self, layer: int, at_writers: Tensor) -> Tensor:
        """From a layer's head writers [S, H, B, T, D] to its readers' streams [S, R, B, T, D]."""
        run, block = self.run, self.run.blocks[layer]
        reads, z = self.heads.pop()
        weights = block.out_weights()  # [H, K, D]
        at = at_writers.transpose(0, 1).reshape(len(weights), -1, weights.shape[-1])
        at_z = torch.bmm(at, weights.transpose(1, 2)).view(z.shape)
        (at_reads,) = torch.autograd.grad(z, reads, at_z)
        folded, streams = run.patched.attention[layer], run.attention_streams(layer)
        at_streams = folded.stream_gradients(streams, reads.detach(), at_reads)
        by_set = at_streams.view(len(at_streams), len(run.masks), *at_writers.shape[2:])
        return by_set.transpose(0, 1).contiguous()


def _elementwise(function: Callable[[Tensor], Tensor], x: Tensor, at: Tensor) -> Tensor:
    """Backward of a cheap function, run again rather than kept."""
    with torch.enable_grad():
        inputs = x.detach().requires_grad_()
        (found,) = torch.autograd.grad(function(inputs), inputs, at)
    return found
