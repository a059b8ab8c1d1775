"""A whole model from a program: every step gets the earliest place after those it reads.

Places in order: heads of layer 0, MLP of layer 0, heads of layer 1, … An aggregate takes a head, a
map an MLP, a selector width a head and the MLP after it. Nothing is ever erased from the stream.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.datasets.program import (
    CARRIER,
    INDICES,
    TOKENS,
    Aggregate,
    Map,
    Program,
    SelectorWidth,
)
from harness.models.compile.attention import Head, Purpose, Read, aggregate_head, width_head
from harness.models.compile.basis import BOS, ONE, Basis, share_of
from harness.models.compile.mlp import Neurons, map_neurons, width_neurons
from harness.models.config import TransformerConfig
from harness.models.transformer import Block, Transformer


@dataclass(frozen=True)
class Wire:
    """A variable that a writer's output brings to a reader; `default` as in `Read`."""

    writer: str
    reader: str
    variable: str
    purpose: Purpose

    @property
    def edge(self) -> str:
        """The edge's name in a graph whose input writers are `tok` and `pos`."""
        return f"{self.writer}->{self.reader}"


@dataclass(frozen=True)
class Compiled:
    """A compiled model, the components that compute each step, and the purpose of each edge.

    `components`: step → writers, in order (`a0.h0`, `m0`). `wires` are, by construction, the edges
    that carry information; all others carry only zeros into the dimensions that a reader uses.
    """

    model: Transformer
    components: Mapping[str, tuple[str, ...]]
    wires: tuple[Wire, ...]

    def edges(self, purpose: Purpose | None = None) -> frozenset[str]:
        """Names of the edges that carry something, or that do so for a purpose."""
        return frozenset(wire.edge for wire in self.wires if purpose in (None, wire.purpose))


def compile_program(program: Program, hardness: float = 50.0) -> Compiled:
    """Compile a program; float32 weights, frozen. `hardness`: see `attention`, in nats."""
    layout = _Layout(program, hardness)
    model = Transformer(layout.config())
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        _embed(model, program, layout.basis)
        for layer, block in enumerate(model.layers()):
            _write_heads(block, layout.heads[layer])
            _write_mlp(block, layout.neurons[layer])
        _unembed(model, program, layout.basis)
    components = {name: layout.components[name] for name in program.steps}
    return Compiled(model.requires_grad_(False).eval(), components, tuple(layout.wires()))


class _Layout:
    """Heads and neurons of every layer, and the component that writes each variable."""

    def __init__(self, program: Program, hardness: float) -> None:
        self.program, self.basis = program, Basis.of(program)
        self.heads: list[list[Head]] = []
        self.neurons: list[list[Neurons]] = []
        self.writer = {TOKENS: "tok", ONE: "tok", BOS: "tok", INDICES: "pos"}
        self.components: dict[str, tuple[str, ...]] = {}
        # Variables can be read from this place on; place 2l are the heads of layer l, 2l+1 its MLP.
        self._ready = dict.fromkeys(self.writer, 0)
        self._reads: list[tuple[str, Read]] = []
        self._grow(0)
        for name, step in program.steps.items():
            place = max(self._ready[one] for one in step.inputs)
            if isinstance(step, Map):
                self._mlp(name, map_neurons(program, self.basis, name, step), place)
            elif isinstance(step, Aggregate):
                self._head(name, aggregate_head(program, self.basis, name, step, hardness), place)
            else:
                self._width(name, step, place, hardness)

    def _width(self, name: str, step: SelectorWidth, place: int, hardness: float) -> None:
        share = share_of(name)
        self._head(share, width_head(self.basis, name, step, hardness), place)
        neurons = width_neurons(self.program, self.basis, name)
        self._mlp(name, neurons, self._ready[share])
        self.components[name] = (*self.components.pop(share), *self.components[name])

    def _head(self, name: str, head: Head, place: int) -> None:
        layer = (place + 1) // 2
        self._grow(layer)
        writer = f"a{layer}.h{len(self.heads[layer])}"
        self.heads[layer].append(head)
        self._written(name, writer, 2 * layer)
        self._reads += [(f"{writer}<{read.part}>", read) for read in head.reads]

    def _mlp(self, name: str, neurons: Neurons, place: int) -> None:
        layer = place // 2
        self._grow(layer)
        self.neurons[layer].append(neurons)
        self._written(name, f"m{layer}", 2 * layer + 1)
        self._reads += [(f"m{layer}", read) for read in neurons.reads]

    def _written(self, name: str, writer: str, place: int) -> None:
        self.writer[name], self.components[name] = writer, (writer,)
        self._ready[name] = place + 1

    def _grow(self, layer: int) -> None:
        while len(self.heads) <= layer:
            self.heads.append([])
            self.neurons.append([])

    def wires(self) -> Iterator[Wire]:
        """Every use of a variable as a wire, the output's last; each once."""
        reads = [*self._reads, ("logits", Read("mlp", self.program.output))]
        wires = [Wire(self.writer[r.variable], to, r.variable, r.purpose) for to, r in reads]
        return iter(dict.fromkeys(wires))

    def config(self) -> TransformerConfig:
        """The smallest transformer that holds everything."""
        heads = [head for layer in self.heads for head in layer]
        hidden = [sum(len(each.weight_in) for each in layer) for layer in self.neurons]
        return TransformerConfig(
            n_layers=len(self.heads),
            n_heads=max([1, *map(len, self.heads)]),
            d_model=self.basis.width,
            d_head=max([1, *(head.width for head in heads)]),
            d_mlp=max([1, *hidden]),
            d_vocab=1 + len(self.program.tokens),
            n_ctx=1 + self.program.longest,
            norm="none",
            activation="relu",
            bias=False,
            causal=self.program.causal,
        )


def _embed(model: Transformer, program: Program, basis: Basis) -> None:
    """Tokens write themselves and `one`, BOS writes `bos`; positions write indices."""
    model.embedding[0, basis.bos] = 1
    for row, word in enumerate(program.vocabulary, start=1):
        model.embedding[row, basis.one] = 1
        if basis.has(TOKENS):
            model.embedding[row, basis.dimension(TOKENS, word)] = 1
    if basis.has(INDICES):
        for index, dimension in enumerate(basis.dimensions(INDICES)):
            model.position_embedding[index + 1, dimension] = 1


def _write_heads(block: Block, heads: Sequence[Head]) -> None:
    width = block.config.d_head
    q, k, v = block.qkv_map.weight.view(3, block.config.n_heads, width, -1)
    for index, head in enumerate(heads):
        _put(q[index], head.query.T * math.sqrt(width))
        _put(k[index], head.key.T)
        _put(v[index], head.value.T)
        start = index * width
        block.out_map.weight[:, start : start + len(head.out)] = head.out.T


def _write_mlp(block: Block, parts: Sequence[Neurons]) -> None:
    start = 0
    for part in parts:
        end = start + len(part.weight_in)
        block.mlp_in.weight[start:end] = part.weight_in
        block.mlp_out.weight[:, start:end] = part.weight_out.T
        start = end


def _unembed(model: Transformer, program: Program, basis: Basis) -> None:
    """Every answer's logit is its dimension; a number goes to one token's logit."""
    if program.numerical:
        model.unembedding[CARRIER, basis.dimension(program.output)] = 1
    for value, token in program.answer_ids.items():
        model.unembedding[token, basis.dimension(program.output, value)] = 1


def _put(into: Tensor, rows: Tensor) -> None:
    into[: len(rows)] = rows
