"""One batch's activations under the edges kept so far, and the loss when one reader's stream moves.

Every writer's current difference to its counterfactual is kept, and what every q, k and v reader
gives. A candidate is a new stream at the tested reader; from there only the nodes of a `ReaderPlan`
are run, on streams  (base + Σ kept, still)  +  Σ kept, moving  of which the bracket is the same for
all candidates. Below the tested reader all is the plain clean run.

Memory: W·T·D numbers per prompt pair (GPT-2 small at 20 tokens: 9 MiB), more for one chunk of
candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from harness.circuits.edges.counterfactuals import collect
from harness.circuits.edges.gradients import writer_differences
from harness.circuits.edges.patched.forward import PatchedModel
from harness.circuits.edges.patched.readers import FoldedReaders, centred
from harness.datasets.batch import Batch
from harness.discovery.acdc.plan import ALL, LANES, READ, Attention, ReaderPlan, Step
from harness.discovery.problem import Loss, Problem

BUFFER = 2**25
"""Numbers that a chunk of candidates may hold: 128 MiB in float32."""

_LOGIT_COPIES = 8
"""Copies of the logits that live while a loss is taken, in numbers (double counts twice)."""


@dataclass(frozen=True)
class Lane:
    """The n tokens of a batch at which something is needed: all B·T of them, or those read.

    `rows` [n] among B·T, None for all; `clean` and `base` 2L+1 of [n, D]: streams of the clean and
    the counterfactual run; `differences` [W, n, D], which change with the search. All centred.
    """

    rows: Tensor | None
    clean: tuple[Tensor, ...]
    base: tuple[Tensor, ...]
    differences: Tensor

    def take(self, x: Tensor) -> Tensor:
        """The lane's tokens of x [..., B·T, D]."""
        return x if self.rows is None else x.index_select(-2, self.rows)

    def narrowed(self, rows: Tensor) -> Lane:
        """The same at some tokens alone."""
        clean, base = (tuple(x[rows] for x in streams) for streams in (self.clean, self.base))
        return Lane(rows, clean, base, self.differences[:, rows])


class BatchState:
    """The current run of one batch, starting with all edges kept.

    `out_weights`: L of [H, K, D], centred; they are shared by all batches.
    """

    @torch.no_grad()
    def __init__(
        self, problem: Problem, batch: Batch, loss: Loss, out_weights: Sequence[Tensor]
    ) -> None:
        self.patched: PatchedModel = problem.edges.patched
        self.model, self.batch, self.loss = problem.model, batch, loss
        self.blocks, self.out_weights = list(self.model.layers()), out_weights
        clean = collect(self.model, batch.clean, problem.edges.graph.inputs)
        counterfactual = problem.counterfactuals.of(batch)
        self.heads = [_by_head(z) for z in counterfactual.heads]
        self.head_biases = self._head_biases() if counterfactual.without_bias else None
        written = writer_differences(self.model, problem.edges.graph, clean, counterfactual)
        whole = Lane(
            None,
            tuple(self._centred(x).flatten(0, 1) for x in clean.streams),
            tuple(self._centred(x).flatten(0, 1) for x in counterfactual.streams),
            self._centred(written).flatten(1, 2),
        )
        rows = torch.arange(len(batch), device=problem.device)[:, None] * batch.clean.shape[1]
        read = (rows + batch.positions.clamp(min=0)).flatten()
        self.lanes = (whole, whole.narrowed(read))
        mlps = [m.flatten(0, 1) for m in counterfactual.mlps]
        self.mlps = (mlps, [m[read] for m in mlps])
        self.reads = [
            folded.read_shared(whole.clean[2 * layer])
            for layer, folded in enumerate(self.patched.attention)
        ]
        # Writers that are equal in both runs: their edges carry nothing.
        self.silent = tuple(~lane.differences.flatten(1).any(1).cpu() for lane in self.lanes)

    def _centred(self, x: Tensor) -> Tensor:
        return centred(x, self.model.final_norm)  # all norms of a model are of one kind

    def _head_biases(self) -> list[Tensor | None]:
        biases = [block.out_map.bias for block in self.blocks]
        heads = self.model.config.n_heads
        return [None if bias is None else self._centred(bias) / heads for bias in biases]

    # ------------------------------------------------------------ candidates
    def nested(self, lane: int, stream: Tensor, rows: Sequence[int]) -> Tensor:
        """`stream` [n, D] without the first, the first two … of the writers `rows`: [S, n, D].

        Subtracted one after the other, so that a stream does not depend on how many follow.
        """
        without = stream.new_empty(len(rows), *stream.shape)
        for row, into in zip(rows, without, strict=True):
            stream = torch.sub(stream, self.lanes[lane].differences[row], out=into)
        return without

    def mixed(self, plan: ReaderPlan, kept: Tensor) -> Tensor:
        """The stream [n, D] of the plan's reader, which keeps the writers `kept` [W]."""
        lane = self.lanes[plan.lane]
        rows = kept.nonzero().flatten().to(lane.differences.device)
        return lane.base[plan.steps[0].stream] + lane.differences[rows].sum(0)

    @torch.no_grad()
    def losses(
        self, plan: ReaderPlan, streams: Tensor, still: list[tuple[Tensor, Tensor]]
    ) -> Tensor:
        """Σ over prompts of the loss [S], the reader's stream being `streams` [S, n, D]."""
        chunks = streams.split(max(1, BUFFER // self.numbers(plan)))
        return torch.cat([_Pass(self, plan, len(part)).run(part, still) for part in chunks])

    @torch.no_grad()
    def commit(
        self, plan: ReaderPlan, stream: Tensor, still: list[tuple[Tensor, Tensor]]
    ) -> Tensor:
        """Make `stream` [n, D] the reader's own and everything that follows current; the loss."""
        run = _Pass(self, plan, 1)
        loss = run.run(stream[None], still)[0]
        for lane in LANES:
            self.lanes[lane].differences[plan.writers[lane]] = run.written[lane][:, 0]
        for layer, used, reads in run.reads:
            self.reads[layer][used] = reads[:, 0]
        return loss

    def still(self, plan: ReaderPlan) -> list[tuple[Tensor, Tensor]]:
        """What the readers of each step of a plan see whatever happens, by lane: [c, n, D]."""
        return [
            (self._still(step, ALL), self._still(step, READ)) if place else self._nothing
            for place, step in enumerate(plan.steps)
        ]

    def _still(self, step: Step, lane: int) -> Tensor:
        base, written = self.lanes[lane].base[step.stream], self.lanes[lane].differences
        mask = step.still[lane].to(base)
        rows = mask.any(0).nonzero().flatten()
        if 2 * len(rows) < len(written):  # few: only these are touched
            mask, written = mask[:, rows], written[rows]
        mixed = torch.addmm(base.view(1, -1), mask, written.flatten(1))
        return mixed.view(len(mask), *base.shape)

    @property
    def _nothing(self) -> tuple[Tensor, Tensor]:
        empty = self.lanes[ALL].base[0].new_empty(0)
        return empty, empty

    def numbers(self, plan: ReaderPlan) -> int:
        """Numbers held per candidate."""
        config = self.model.config
        tokens = [lane.base[0].numel() for lane in self.lanes]
        streams = sum(n * (2 * count + 1) for n, count in zip(tokens, plan.widest, strict=True))
        inner = self.batch.clean.numel() * (config.d_mlp * 4 + 6 * config.n_heads * config.d_head)
        logits = self.batch.positions.numel() * config.n_outputs * _LOGIT_COPIES
        return max(streams + inner, logits)


class _Pass:
    """S candidates at once from the tested reader to the loss; `written` by lane [w, S, n, D]."""

    def __init__(self, state: BatchState, plan: ReaderPlan, candidates: int) -> None:
        self.state, self.plan, self.n = state, plan, candidates
        self.written = tuple(
            lane.base[0].new_empty(len(rows), candidates, *lane.base[0].shape)
            for lane, rows in zip(state.lanes, plan.writers, strict=True)
        )
        self.reads: list[tuple[int, Tensor, Tensor]] = []

    def run(self, tested: Tensor, still: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Σ over prompts of the loss [S] for the tested reader's streams [S, n, D]."""
        for place, step in enumerate(self.plan.steps):
            if place == 0:
                empty = tested.new_empty(0, *tested.shape)
                streams = (tested[None], empty) if self.plan.lane == ALL else (empty, tested[None])
            else:
                streams = (
                    self._mixed(step, ALL, still[place]),
                    self._mixed(step, READ, still[place]),
                )
            if step.attention is not None:
                self._attention(step, step.attention, streams)
            elif step.stream == 2 * len(self.state.blocks):
                return self._loss(streams[READ][0])
            else:
                self._mlp(step, streams)
        raise AssertionError("a plan ends at the logits")

    def _mixed(self, step: Step, lane: int, still: tuple[Tensor, Tensor]) -> Tensor:
        """Streams of a step's readers: [c, S, n, D]."""
        fixed, mask = still[lane], step.moving[lane]
        shape = (len(mask), self.n, *fixed.shape[1:])
        if mask.numel() == 0:
            return fixed[:, None].expand(shape)
        moving = self.written[lane][: mask.shape[1]].flatten(1)
        return (mask.to(moving) @ moving).view(shape).add_(fixed[:, None])

    def _attention(self, step: Step, what: Attention, streams: tuple[Tensor, Tensor]) -> None:
        state, layer = self.state, what.layer
        reads = state.reads[layer][what.used][:, None].repeat(1, self.n, 1, 1)  # [u, S, B·T, K]
        first = state.patched.graph.qkv_columns(layer).start
        for lane in LANES:
            if len(step.columns[lane]):
                folded = _some(state.patched.attention[layer], step.columns[lane] - first)
                new = folded.read(streams[lane].flatten(1, 2))
                self._put(reads, what.changing[lane], new, state.lanes[lane].rows)
        self.reads.append((layer, what.used, reads))
        tokens = state.batch.clean.shape
        q, k, v = (
            # [h·S, B, T, K]: the fast kernels want four axes.
            reads[part].view(-1, *tokens, reads.shape[-1])
            for part in (what.q, what.k, what.v)
        )
        z = state.blocks[layer].attend(q, k, v, axis=0, heads=what.heads)
        z = z.view(len(what.heads), self.n, -1, q.shape[-1])
        change = z - state.heads[layer][what.heads][:, None]
        for lane in LANES:
            if len(what.writing[lane]):
                self._write_heads(step, what, lane, change[what.writing[lane]])

    def _put(self, reads: Tensor, which: Tensor, new: Tensor, rows: Tensor | None) -> None:
        new = new.view(len(which), self.n, -1, new.shape[-1])
        if rows is None:
            reads[which] = new
        else:  # the indexed axes come first: [c, n, S, K]
            reads[which[:, None], :, rows] = new.transpose(1, 2)

    def _write_heads(self, step: Step, what: Attention, lane: int, change: Tensor) -> None:
        """Map the differences of heads [h, S, B·T, K] to the stream, into their slots."""
        state, into = self.state, self.written[lane][step.slots[lane]]
        weights = state.out_weights[what.layer][what.heads[what.writing[lane]]]
        change = state.lanes[lane].take(change).flatten(1, 2)
        torch.bmm(change, weights, out=into.view(len(into), -1, into.shape[-1]))
        bias = state.head_biases[what.layer] if state.head_biases else None
        if bias is not None:
            into += bias

    def _mlp(self, step: Step, streams: tuple[Tensor, Tensor]) -> None:
        state, layer = self.state, step.stream // 2
        lane = ALL if len(step.columns[ALL]) else READ
        block, x = state.blocks[layer], streams[lane]
        hidden = state.patched.mlps[layer].read(x.flatten(1, 2))[0]
        out = block.mlp_out(block.activate(hidden)).view(x.shape[1:])
        change = state._centred(out - state.mlps[lane][layer])
        if lane == ALL:
            self.written[ALL][step.slots[ALL]] = change
            change = state.lanes[READ].take(change)
        self.written[READ][step.slots[READ]] = change

    def _loss(self, final: Tensor) -> Tensor:
        """Final streams [S, B·P, D] to Σ over prompts of the loss [S]."""
        state = self.state
        x = final.reshape(self.n, *state.batch.positions.shape, final.shape[-1])
        return state.loss(state.model.unembed(x, state.batch.read_tokens())).double().sum(-1).cpu()


def _by_head(z: Tensor) -> Tensor:
    """[B, T, H, K] to [H, B·T, K]."""
    return z.permute(2, 0, 1, 3).flatten(1, 2)


def _some(folded: FoldedReaders, places: Tensor) -> FoldedReaders:
    """Some of a layer's readers."""
    if len(places) == len(folded.weights):
        return folded
    bias = folded.bias[places] if isinstance(folded.bias, Tensor) else folded.bias
    return replace(folded, weights=folded.weights[places], bias=bias)
