"""The patched forward pass: every reader sees its own mix of kept and replaced writers.

Reader r sees  Σ_w x̃_w + Σ_w m[w,r]·(x_w - x̃_w)  with x_w the writer's output in this run and x̃_w
its counterfactual. The first sum is the counterfactual's residual stream, already known; only
differences are mixed, one matrix product per attention layer and one per MLP. With all masks
one this is the plain model, with all masks zero the counterfactual run. Where attention's output is
normalised before it is added (Gemma 2 and 3), each reader normalises its own mix of heads:
`patched.post_norms`. Where each position has its own edges (`Graph.positions`), so has the mask: at
token t the mix is that of m[t,w,r].

Cost per mask and token, in multiply-adds: the model's own 12·L·D² plus E·D for mixing (GPT-2
small: 85 M + 25 M); less where masks are exactly zero, since only the nodes are run that some mask
needs (`patched.live`): a circuit costs what its nodes cost. Memory: one buffer of W·T·D per mask
and prompt. `patched.backward` is the same pass with gradients with respect to the masks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from harness.circuits.edges.counterfactuals import Activations, input_writers
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.patched.live import LiveNodes
from harness.circuits.edges.patched.mixing import mix
from harness.circuits.edges.patched.post_norms import PostNorms
from harness.circuits.edges.patched.readers import FoldedReaders, centred
from harness.datasets.batch import Batch
from harness.errors import HarnessError
from harness.models.transformer import Block, Transformer


@dataclass(frozen=True)
class PatchedModel:
    """A frozen model ready for patched passes over `graph`: norms are folded into reading weights.

    The folded weights (q, k, v and the MLP's input map) are kept: about half of the blocks' size.
    Where weights lie in shards they are made again from each block while it is whole.
    """

    model: Transformer
    graph: Graph

    def attention_readers(self, layer: int) -> FoldedReaders:
        """The q, k, v readers of a layer."""
        if self.model.gatherings is not None:
            return FoldedReaders.attention(self.model.block(layer))
        return self.attention[layer]

    def mlp_reader(self, layer: int) -> FoldedReaders:
        """The MLP reader of a layer, which has one."""
        if self.model.gatherings is not None:
            return FoldedReaders.mlp(self.model.block(layer))
        return self.mlps[layer]

    @cached_property
    def attention(self) -> tuple[FoldedReaders, ...]:
        """The q, k, v readers of every layer."""
        return tuple(FoldedReaders.attention(block) for block in self.model.layers())

    @cached_property
    def mlps(self) -> tuple[FoldedReaders, ...]:
        """The MLP reader of every layer; none without MLPs."""
        if not self.graph.mlps:
            return ()
        return tuple(FoldedReaders.mlp(block) for block in self.model.layers())

    @torch.no_grad()
    def logits(self, batch: Batch, masks: Tensor, counterfactual: Activations) -> Tensor:
        """Logits [S, B, P, V] at the read positions, for S masks [S, W, R] at once.

        Masks are [S, T, W, R] where each position has its own. Runs the clean prompts of `batch`;
        what a mask drops comes from `counterfactual`. Raises `HarnessError` for prompts that have
        not as many tokens as the graph has positions.
        """
        run = PatchedRun.start(self, batch, masks, counterfactual, exact_zeros=True)
        for block in self.model.layers():
            run.attention(block.layer)
            run.mlp(block.layer)
        return self.model.unembed(run.final(), batch.read_tokens())


@dataclass
class PatchedRun:
    """One pass under S masks, layer by layer; `differences` [S, w, B, T, D] fills up on the way.

    Only `nodes` are run, and `masks` [S, w, r] or [S, T, w, r] are those of their edges.
    Differences and base streams are centred where the model has LayerNorm. With `post`, heads'
    differences are those before the norm, and base streams lack what attention adds.
    """

    patched: PatchedModel
    nodes: LiveNodes
    batch: Batch
    masks: Tensor
    counterfactual: Activations
    streams: tuple[Tensor, ...]
    differences: Tensor
    post: PostNorms | None = None
    blocks: list[Block] = field(default_factory=list)

    @classmethod
    def start(
        cls,
        patched: PatchedModel,
        batch: Batch,
        masks: Tensor,
        counterfactual: Activations,
        *,
        exact_zeros: bool,
    ) -> PatchedRun:
        """The run before the first layer: only the input writers have written.

        Masks are [S, W, R] or [S, T, W, R]. `exact_zeros`: nodes that only masks of zero lead to
        or from are left out, and gradients of masks of zero are not asked for.
        """
        model, graph = patched.model, patched.graph
        _check_length(graph, batch)
        nodes = LiveNodes.all(graph)
        if exact_zeros and not model.config.post_norms:
            nodes = LiveNodes.under(graph, masks, of_a_run=counterfactual.of_a_run)
        norm = model.final_norm  # all norms of a model are of one kind
        streams = tuple(centred(x, norm) for x in counterfactual.streams)
        masks = nodes.of(masks).to(streams[0])
        shape = (len(masks), nodes.n_writers, *streams[0].shape)
        differences = streams[0].new_empty(shape)
        written = input_writers(model, batch.clean, graph.inputs) - counterfactual.inputs
        differences[:, : graph.n_inputs] = centred(written, norm)
        post = PostNorms.of(model, graph, counterfactual) if model.config.post_norms else None
        if post is not None:
            streams = post.without_attention(streams)
        blocks = [model.block(layer) for layer in range(model.config.n_layers)]
        return cls(patched, nodes, batch, masks, counterfactual, streams, differences, post, blocks)

    @property
    def graph(self) -> Graph:
        """The graph whose edges the masks are about."""
        return self.patched.graph

    def mixed(self, rows: int, columns: slice, base: Tensor) -> Tensor:
        """What readers `columns` see, having `rows` writers before them: [S, r, *base.shape].

        base + Σ_w m[w,r]·Δ_w.
        """
        masks, written = self.masks[..., :rows, columns], self.differences[:, :rows]
        return _mixed(base, masks, written, self.post)

    def parts(
        self, at_streams: Tensor, rows: int, columns: slice
    ) -> Iterator[tuple[slice, Tensor]]:
        """The backward of `mixed`: which writers' differences get which gradients [S, r, B, T, D].

        For gradients `at_streams` [S, r, B, T, D] at the readers' streams.
        """
        if self.post is None:
            yield slice(0, rows), at_streams
            return
        masks, written = self.masks[..., :rows, columns], self.differences[:, :rows]
        yield from self.post.parts(masks, written, at_streams)

    def attention_streams(self, layer: int) -> Tensor:
        """The streams of a layer's live q, k, v readers: [r, S·B·T, D]."""
        rows, columns = self.nodes.before_attention(layer), self.nodes.qkv_columns(layer)
        x = self.mixed(rows, columns, self.streams[2 * layer])
        return x.transpose(0, 1).reshape(x.shape[1], -1, x.shape[-1])

    def mlp_stream(self, layer: int) -> Tensor:
        """The stream of a layer's MLP reader: [1, S·B·T, D]."""
        x = self.mixed(
            self.nodes.before_mlp(layer),
            _only(self.nodes.mlp_column(layer)),
            self.streams[2 * layer + 1],
        )
        return x.reshape(1, -1, x.shape[-1])

    def attend(self, layer: int, reads: Tensor) -> Tensor:
        """Heads [h, S, B, T, K] from what the q, k, v readers gave [r, S·B·T, K]."""
        block = self.blocks[layer]
        sets, tokens = len(self.masks), self.batch.clean.shape
        q, k, v = block.split(reads, axis=0)
        # [H·S, B, T, K]: the fast kernels want four axes.
        q, k, v = (part.reshape(-1, *tokens, part.shape[-1]) for part in (q, k, v))
        z = block.attend(q, k, v, axis=0, heads=self.nodes.heads(layer))
        return z.view(-1, sets, *tokens, q.shape[-1])

    def attention(self, layer: int) -> None:
        """Run a layer's heads, each q, k and v on its own stream."""
        if self.nodes.groups[layer]:
            reads = self.readers(layer).read(self.attention_streams(layer))
            self.write_heads(layer, self.attend(layer, reads))

    def mlp(self, layer: int) -> None:
        """Run a layer's MLP on its own stream."""
        if self.nodes.mlps[layer]:
            self.write_mlp(layer, self.patched.mlp_reader(layer).read(self.mlp_stream(layer))[0])

    def readers(self, layer: int) -> FoldedReaders:
        """The q, k, v readers of a layer's live heads.

        Where some are left out this is a copy: one layer's at a time, it is not kept.
        """
        every, live = self.patched.attention_readers(layer), self.nodes.readers(layer)
        return every if live is None else every.take(live)

    def out_weights(self, layer: int) -> Tensor:
        """Output maps of a layer's live heads [h, K, D]."""
        every, live = self.blocks[layer].out_weights(), self.nodes.heads(layer)
        return every if live is None else every[live.to(every.device)]

    def write_heads(self, layer: int, z: Tensor) -> None:
        """Put the differences of live heads z [h, S, B, T, K] into their slots."""
        block, live = self.blocks[layer], self.nodes.heads(layer)
        counterfactual = self.counterfactual.heads[layer].permute(2, 0, 1, 3)
        if live is not None:
            counterfactual = counterfactual[live.to(counterfactual.device)]
        change = z - counterfactual[:, None]
        slots = self.differences[:, self.nodes.head_rows(layer)]
        weights = centred(self.out_weights(layer), block.attention_norm)
        for heads, into in zip(change.unbind(1), slots, strict=True):
            out = into.view(len(into), -1, into.shape[-1])
            torch.bmm(heads.flatten(1, 2), weights, out=out)
        if self.counterfactual.without_bias and block.out_map.bias is not None:
            slots += centred(block.out_map.bias, block.attention_norm) / self.graph.n_heads

    def write_mlp(self, layer: int, hidden: Tensor) -> None:
        """Put the difference of an MLP with hidden layer [S·B·T, M] into its slot."""
        block, counterfactual = self.blocks[layer], self.counterfactual.mlps[layer]
        out = block.write_mlp(block.activate(hidden)).view(-1, *counterfactual.shape)
        self.differences[:, self.nodes.mlp_row(layer)] = centred(
            out - counterfactual, block.attention_norm
        )

    def final(self) -> Tensor:
        """The final reader's stream at the read positions [S, B, P, D]; only these are summed."""
        base = self.batch.at_positions(self.streams[-1])
        post = None if self.post is None else self.post.at_positions(self.batch)
        written = self.batch.at_positions(self.differences)
        return _mixed(base, self._final_masks(), written, post)[:, 0]

    def final_parts(self, at_final: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """The same as `parts` for the final reader's stream at the read positions [S, B, P, D]."""
        if self.post is None:
            yield slice(0, self.nodes.n_writers), at_final
            return
        read, post = self.batch.at_positions(self.differences), self.post.at_positions(self.batch)
        for some, gradients in post.parts(self._final_masks(), read, at_final[:, None]):
            yield some, gradients[:, 0]

    def _final_masks(self) -> Tensor:
        """The final reader's masks [S, w, 1]; where positions have their own, [S, B, P, w, 1]."""
        masks = self.masks[..., _only(self.nodes.logits_column)]
        if self.graph.positions is None:
            return masks
        return masks[:, self.batch.positions.clamp(min=0)]


def _mixed(base: Tensor, masks: Tensor, written: Tensor, post: PostNorms | None) -> Tensor:
    """What readers see of Δ [S, w, B, T, D] under masks, heads normalised together or not."""
    return mix(base, masks, written) if post is None else post.mixed(base, masks, written)


def _check_length(graph: Graph, batch: Batch) -> None:
    length = batch.clean.shape[1]
    if graph.positions is not None and length != graph.positions.count:
        raise HarnessError(
            f"a prompt of {length} tokens, and a graph with edges of their own at "
            f"{graph.positions.count} positions: with `positions: per_token` all prompts must "
            "have one length"
        )


def _only(column: int) -> slice:
    return slice(column, column + 1)


def patched_logits(
    model: Transformer, graph: Graph, batch: Batch, masks: Tensor, counterfactual: Activations
) -> Tensor:
    """One patched pass, see `PatchedModel.logits`; for many, make the `PatchedModel` once."""
    return PatchedModel(model, graph).logits(batch, masks, counterfactual)
