"""Which weights between channels are not zero: what sizes are counted in, and dead ends told by.

The matrices are those between two gated sites,

    a.in → a.q, a.k, a.v      a.v → a.out      m.in → m.hidden      m.hidden → m.out

where the mix of values that a head hands on belongs to the channels of its values. Embeddings,
unembedding, biases, the product of queries and keys, and what one block reads of what another
wrote (the identity) are no weights between channels (Gao et al. 2025).
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from harness.errors import HarnessError
from harness.models.config import TransformerConfig
from harness.models.transformer import Block, Transformer
from harness.spec.types import SparseSite

Bits = NDArray[np.uint8]
Bools = NDArray[np.bool_]

MOST_BITS = 1 << 31
"""Entries of all matrices of a file together; a model of two billion weights has fewer."""


@dataclass(frozen=True, eq=False)
class Link:
    """The weights from the channels of one site to those of another.

    `bits` [targets, ⌈sources/8⌉] are 1 where a weight is not zero, eight in a byte along the
    sources; None where no weight is zero.
    """

    source: str
    target: str
    shape: tuple[int, int]
    bits: Bits | None

    @classmethod
    def of(cls, source: str, target: str, weight: Tensor) -> Link:
        """The pattern of a weight matrix [targets, sources]."""
        there = (weight.detach() != 0).cpu().numpy()
        bits = None if there.all() else np.packbits(there, axis=1)
        return cls(source, target, (there.shape[0], there.shape[1]), bits)

    def count(self, targets: Bools, sources: Bools) -> int:
        """Weights that are not zero between kept channels of both sites."""
        if self.bits is None:
            return int(targets.sum()) * int(sources.sum())
        if not targets.any() or not sources.any():
            return 0
        both: Bits = self.bits[targets] & np.packbits(sources)
        return int(np.bitwise_count(both).sum())

    def feeding(self, targets: Bools) -> Bools:
        """Sources with a weight into any of the targets."""
        if self.bits is None or not targets.any():
            return np.full(self.shape[1], bool(targets.any()))
        some = np.bitwise_or.reduce(self.bits[targets], axis=0)
        return np.unpackbits(some, count=self.shape[1]).astype(bool)

    def fed(self, sources: Bools) -> Bools:
        """Targets with a weight from any of the sources."""
        if self.bits is None:
            return np.full(self.shape[0], bool(sources.any()))
        reached: Bools = np.bitwise_or.reduce(self.bits & np.packbits(sources), axis=1) != 0
        return reached

    # ------------------------------------------------------------ files
    def header(self) -> list[Any]:
        """[source, target, shape, pattern] as plain JSON data."""
        packed = None if self.bits is None else zlib.compress(self.bits.tobytes(), 6)
        pattern = None if packed is None else base64.b64encode(packed).decode("ascii")
        return [self.source, self.target, list(self.shape), pattern]

    @classmethod
    def from_header(cls, data: Any, sizes: Mapping[str, int]) -> Link:
        """Inverse of `header`; `sizes` are those of the sites. Raises `HarnessError`."""
        source, target, shape, pattern = data
        if source not in sizes or target not in sizes:
            raise HarnessError(f"weights from {source!r} to {target!r}: no such sites")
        rows, columns = shape
        if rows != sizes[target] or columns != sizes[source]:
            raise HarnessError(
                f"weights from {source} to {target} have shape {shape}, the sites have "
                f"{sizes[target]} and {sizes[source]} channels"
            )
        bits = None if pattern is None else _unpacked(pattern, rows, -(-columns // 8))
        return cls(source, target, (rows, columns), bits)


def _unpacked(pattern: Any, rows: int, width: int) -> Bits:
    """The bits of a pattern in a file, which may not expand to more than its shape says."""
    if not isinstance(pattern, str):
        raise HarnessError("a pattern of weights is not text")
    size = rows * width
    expand = zlib.decompressobj()
    data = expand.decompress(base64.b64decode(pattern, validate=True), size + 1)
    if len(data) != size:
        raise HarnessError(f"a pattern of weights does not hold {size:,} bytes")
    return np.frombuffer(data, np.uint8).reshape(rows, width)


@dataclass(frozen=True, eq=False)
class Wiring:
    """All weights between gated sites.

    `mixed`: sites at which a channel depends on what the others would have been, so that a weight
    into any of their channels counts as one into all: those whose values compete for a place
    (AbsTopK) or are normalised together.
    """

    links: tuple[Link, ...]
    mixed: frozenset[str] = frozenset()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Wiring) and self._content == other._content

    def __hash__(self) -> int:
        return hash(self._content)

    @cached_property
    def _content(self) -> tuple[Any, ...]:
        links = tuple(
            (one.source, one.target, one.shape, None if one.bits is None else one.bits.tobytes())
            for one in self.links
        )
        return links, self.mixed

    @classmethod
    def of(cls, model: Transformer) -> Wiring:
        """The wiring of a model in which every site that these weights join is gated."""
        links = [Link.of(*one[:3]) for block in model.layers() for one in matrices(block)]
        targets = {link.target for link in links}
        return cls(tuple(links), frozenset(site for site in targets if _mixes(model.config, site)))

    def count(self, kept: Mapping[str, Bools]) -> int:
        """Weights that are not zero and have both ends among the kept channels of each site."""
        return sum(one.count(kept[one.target], kept[one.source]) for one in self.links)

    def header(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {"links": [one.header() for one in self.links], "mixed": sorted(self.mixed)}

    @classmethod
    def from_header(cls, data: Mapping[str, Any], sizes: Mapping[str, int]) -> Wiring:
        """Inverse of `header`. Raises `HarnessError`, or what reading a broken pattern raises."""
        links: Sequence[Any] = data["links"]
        shapes = [shape for _, _, shape, _ in links]
        if sum(rows * columns for rows, columns in shapes) > MOST_BITS:
            raise HarnessError(f"more than {MOST_BITS:,} weights between channels; damaged?")
        mixed = frozenset(data["mixed"])
        if unknown := mixed - set(sizes):
            raise HarnessError(f"mixed names {min(unknown)!r}, which is no site")
        return cls(tuple(Link.from_header(one, sizes) for one in links), mixed)


def _mixes(config: TransformerConfig, site: str) -> bool:
    """Whether the channels of a site compete for places, or are normalised together."""
    part, _, kind = site.partition(".")
    if kind == "out" and config.post_norms:
        return True
    (sparse,) = (one for one in get_args(SparseSite) if one == f"{part[0]}.{kind}")
    return config.kept_at(sparse) is not None


class Matrix(NamedTuple):
    """Weights [targets, sources] from one site to another, and the targets' biases."""

    source: str
    target: str
    weight: Tensor
    bias: Tensor | None


def matrices(block: Block) -> Iterator[Matrix]:
    """The weights between the sites of a layer.

    Those that write what heads mix come as one matrix for each head of a group that shares values.
    """
    config, a, m = block.config, f"a{block.layer}", f"m{block.layer}"
    queries, shared = config.n_heads * config.d_head, config.n_groups * config.d_head
    read = _parts(block.qkv_map, [queries, shared, shared])
    for name, (weight, bias) in zip("qkv", read, strict=True):
        yield Matrix(f"{a}.in", f"{a}.{name}", weight, bias)
    # [D, groups, heads of the group, K]: the j-th head of every group reads the group's values.
    out = block.out_map.weight.unflatten(1, (config.n_groups, -1, config.d_head))
    for head in range(out.shape[2]):
        bias = None if head else block.out_map.bias
        yield Matrix(f"{a}.v", f"{a}.out", out[:, :, head].flatten(1), bias)
    if not config.has_mlp:
        return
    gates = [config.d_mlp] * (2 if config.gated else 1)  # gated: the gate, then what it gates
    for weight, bias in _parts(block.mlp_in, gates):
        yield Matrix(f"{m}.in", f"{m}.hidden", weight, bias)
    yield Matrix(f"{m}.hidden", f"{m}.out", block.mlp_out.weight, block.mlp_out.bias)


def _parts(linear: nn.Linear, sizes: list[int]) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Weights and biases of some rows after the other."""
    biases = [None] * len(sizes) if linear.bias is None else linear.bias.split(sizes)
    yield from zip(linear.weight.split(sizes), biases, strict=True)
