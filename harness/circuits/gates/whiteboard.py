"""A circuit of channels drawn whole: what each channel reads with which weight, what it writes.

Between sites these are the weights of `wiring.matrices`. Through the residual stream a read hears
every earlier write to its own channel, and the embeddings; these ties have no weight.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from harness.circuits.circuit import Circuit
from harness.circuits.gates.space import GatedSpace
from harness.circuits.gates.wiring import matrices
from harness.models.transformer import Transformer

MOST_CHANNELS = 400
"""Larger circuits are no drawing."""

READS, WRITES = ("in", ""), ("out",)
"""Kinds of sites that read the stream (`final` has no kind), and that write to it."""


@dataclass(frozen=True)
class Tie:
    """The channel at the other end, and the weight; None through the stream."""

    channel: str
    weight: float | None


@dataclass
class DrawnChannel:
    """A kept channel; `biases` are added to what it reads: of a gated MLP the gate's, then its."""

    name: str
    reads: list[Tie] = field(default_factory=list)
    writes: list[Tie] = field(default_factory=list)
    biases: list[float] = field(default_factory=list)


def can_be_drawn(circuit: Circuit) -> bool:
    """Whether a circuit is made of channels with weights between them, and small enough."""
    space = circuit.space
    wired = isinstance(space, GatedSpace) and space.wiring is not None
    return wired and 0 < circuit.size <= MOST_CHANNELS


def draw_circuit(model: Transformer, space: GatedSpace, kept: Tensor) -> list[DrawnChannel]:
    """The kept channels [E] in order of computation, tied by weights that are not zero."""
    names = [space.name(element) for element in kept.nonzero().flatten().tolist()]
    nodes = {name: DrawnChannel(name) for name in names}
    inside: dict[str, list[int]] = {}
    for name in nodes:
        site, channel = name.rsplit(".", 1)
        inside.setdefault(site, []).append(int(channel))
    for block in model.layers():
        for one in matrices(block):
            for target in inside.get(one.target, []):
                node = nodes[f"{one.target}.{target}"]
                if one.bias is not None:
                    node.biases.append(float(one.bias.detach()[target]))
                for source in inside.get(one.source, []):
                    if value := float(one.weight.detach()[target, source]):
                        _tie(nodes[f"{one.source}.{source}"], node, value)
    for writer, reader in _through_the_stream(list(inside), model.config.parallel):
        for number in sorted({*inside[writer]} & {*inside[reader]}):
            _tie(nodes[f"{writer}.{number}"], nodes[f"{reader}.{number}"], None)
    return list(nodes.values())


def ties_of(channels: Sequence[DrawnChannel]) -> dict[tuple[str, str], float | None]:
    """What ties channels, by source and target: the weight, None through the stream.

    Of heads that share values, whose weights are several, the largest.
    """
    ties: dict[tuple[str, str], float | None] = {}
    for one in channels:
        for tie in one.reads:
            ends = tie.channel, one.name
            before = ties.get(ends)
            if before is None or (tie.weight is not None and abs(tie.weight) > abs(before)):
                ties[ends] = tie.weight
    return ties


def ties_between(
    circuit: Circuit, model: Transformer
) -> dict[tuple[str, str], float | None] | None:
    """What ties the kept channels (`ties_of`); None for circuits that cannot be drawn."""
    if not can_be_drawn(circuit):
        return None
    assert isinstance(circuit.space, GatedSpace)
    return ties_of(draw_circuit(model, circuit.space, circuit.kept))


def with_ties(circuit: Circuit, model: Transformer) -> Circuit:
    """The circuit with the weights between its channels, for drawings; others as they are."""
    ties = ties_between(circuit, model)
    return circuit if ties is None else replace(circuit, ties=ties)


def _tie(source: DrawnChannel, target: DrawnChannel, weight: float | None) -> None:
    source.writes.append(Tie(target.name, weight))
    target.reads.append(Tie(source.name, weight))


def _through_the_stream(sites: list[str], parallel: bool) -> Iterator[tuple[str, str]]:
    """Sites that write to the stream, with those that read it later."""
    for place, writer in enumerate(sites):
        layer = writer[1:].partition(".")[0]
        if writer.partition(".")[2] not in WRITES:
            continue
        for reader in sites[place + 1 :]:
            beside = parallel and reader == f"m{layer}.in"  # reads what attention reads
            if reader.partition(".")[2] in READS and not beside:
                yield writer, reader


def peaks(values: Tensor) -> Tensor:
    """Of activations [B, T, n] the one of largest magnitude over the positions: [B, n]."""
    at = values.abs().argmax(dim=1, keepdim=True)
    return torch.take_along_dim(values, at, dim=1)[:, 0]
