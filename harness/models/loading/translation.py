"""Where a model's parameters come from in a checkpoint, and whether they fit. Needs no torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.models.config import TransformerConfig
from harness.models.loading.stored import Stored
from harness.models.shapes import Shape, parameter_shapes
from harness.spec.printable import printable

if TYPE_CHECKING:
    from torch import Tensor

KINDS = ("F64", "F32", "BF16", "F16")
"""Precisions that are read, in safetensors' words."""


@dataclass(frozen=True)
class Change:
    """What a tensor becomes on its way to a parameter, and what its shape becomes.

    `shape` is None for tensors that cannot be changed so.
    """

    apply: Callable[[Tensor], Tensor]
    shape: Callable[[Shape], Shape | None]

    def __call__(self, tensor: Tensor) -> Tensor:
        """The tensor, changed."""
        return self.apply(tensor)


def same_shape(shape: Shape) -> Shape:
    """The shape, of a change that leaves it."""
    return shape


def reversed_shape(shape: Shape) -> Shape | None:
    """The shape of a transposed matrix."""
    return shape[::-1] if len(shape) == 2 else None


unchanged = Change(lambda tensor: tensor, same_shape)
transposed = Change(lambda tensor: tensor.T, reversed_shape)
flattened = Change(lambda tensor: tensor.flatten(), lambda shape: (_product(shape),))


@dataclass(frozen=True)
class TensorSource:
    """Where a parameter comes from: tensors, each changed, then stacked as rows.

    Without tensors the parameter is `constant` everywhere.
    """

    names: tuple[str, ...]
    change: Change = unchanged
    constant: float = 0.0


@dataclass(frozen=True)
class Translation:
    """Our configuration of a checkpoint and the source of each of our parameters.

    `ignored`: a pattern for tensors that are not weights. `repeated`: tensors that must equal one
    of our parameters, because the checkpoint holds a tied matrix twice. `zero`: tensors without a
    counterpart here, which must be zero where they exist.
    """

    config: TransformerConfig
    sources: Mapping[str, TensorSource]
    ignored: str = r"(?!)"
    repeated: Mapping[str, str] = field(default_factory=dict)
    zero: tuple[str, ...] = ()

    def used(self) -> list[str]:
        """Names of all tensors that parameters come from."""
        return [name for source in self.sources.values() for name in source.names]


def leave_out_tokens(translation: Translation, tokens: Collection[int]) -> Translation:
    """The same model without some tokens: those after them move up.

    Their rows of the embedding and of the unembedding are not read. Raises `HarnessError` for
    tokens that there are none of, and for models that answer in classes.
    """
    config = translation.config
    if wrong := [token for token in tokens if not 0 <= token < config.d_vocab]:
        raise HarnessError(
            f"without_tokens: there is no token {wrong[0]} among the model's {config.d_vocab}"
        )
    if config.n_outputs != config.d_vocab:
        raise HarnessError("without_tokens: the model answers in classes, not in its tokens")
    if translation.repeated:
        raise HarnessError("without_tokens: not of a checkpoint that ties its embeddings")
    if config.bigram_table:
        raise HarnessError("without_tokens: not of a model with a bigram table")
    kept = [token for token in range(config.d_vocab) if token not in set(tokens)]
    if not kept:
        raise HarnessError("without_tokens: no token is left")
    sources = {
        name: TensorSource(one.names, _rows_of(one.change, kept, config.d_vocab), one.constant)
        if name in _OF_TOKENS
        else one
        for name, one in translation.sources.items()
    }
    return replace(translation, config=replace(config, d_vocab=len(kept)), sources=sources)


_OF_TOKENS = ("embedding", "unembedding", "unembedding_bias")


def _rows_of(change: Change, kept: list[int], rows: int) -> Change:
    """A change that also takes some of the rows that there must be."""

    def shape(before: Shape) -> Shape | None:
        after = change.shape(before)
        return (len(kept), *after[1:]) if after and after[0] == rows else None

    return Change(lambda tensor: change(tensor)[kept], shape)


def check_fit(translation: Translation, stored: Mapping[str, Stored]) -> None:
    """Refuse a checkpoint whose tensors are not those that its configuration asks for.

    Raises `HarnessError` naming the tensors that are missing, unknown, or of another shape or
    precision. Nothing is built or read for this.
    """
    _check_names(translation, stored)
    for name in translation.used():
        if stored[name].kind not in KINDS:
            raise HarnessError(
                f"{stored[name].file}: {printable(name)} is stored as {stored[name].kind}; only "
                f"{', '.join(KINDS)} are read (no quantised weights)"
            )
    shapes = parameter_shapes(translation.config)
    if shapes.keys() != translation.sources.keys():
        odd = shapes.keys() ^ translation.sources.keys()
        raise RuntimeError(f"a translation must give every parameter once: {sorted(odd)[:4]}")
    for name, source in translation.sources.items():
        if source.names and _stacked_shape(source, stored) != shapes[name]:
            raise _wrong_shape(name, shapes[name], source.names, stored)


def _check_names(translation: Translation, stored: Mapping[str, Stored]) -> None:
    wanted, extra = set(translation.used()), re.compile(translation.ignored)
    expected = wanted | translation.repeated.keys() | set(translation.zero)
    faults = [f"missing {name}" for name in sorted(wanted - stored.keys())]
    faults += [
        f"unknown {printable(name[:120])} {stored[name].shape}"
        for name in sorted(stored.keys() - expected)
        if not extra.fullmatch(name)
    ]
    if faults:
        more = f" (and {len(faults) - 8} more)" if len(faults) > 8 else ""
        raise misfit(stored, "; ".join(faults[:8]) + more)


def _stacked_shape(source: TensorSource, stored: Mapping[str, Stored]) -> Shape | None:
    """The shape of all tensors of a source, changed and stacked as rows; None if that cannot be."""
    parts = [source.change.shape(stored[name].shape) for name in source.names]
    shapes = [part for part in parts if part]
    if len(shapes) < len(parts) or len({part[1:] for part in shapes}) > 1:
        return None
    return (sum(part[0] for part in shapes), *shapes[0][1:])


def _wrong_shape(
    name: str, shape: Shape, tensors: Iterable[str], stored: Mapping[str, Stored]
) -> HarnessError:
    shapes = " and ".join(f"{one} has shape {stored[one].shape}" for one in tensors)
    return misfit(stored, f"{shapes}, the configuration says {shape} for {name}")


def misfit(stored: Mapping[str, Stored], text: str) -> HarnessError:
    """The error for weights that are not those of their configuration."""
    folder = next(iter(stored.values())).file.parent if len(stored) else "the checkpoint"
    return HarnessError(f"the weights in {folder} do not fit its config.json: {text}")


def prefix_of(ending: str, tensors: Iterable[str], usual: str) -> str:
    """What stands before the tensor that ends in `ending`; `usual` if there is not exactly one."""
    prefixes = [name.removesuffix(ending) for name in tensors if name.endswith(ending)]
    return prefixes[0] if len(prefixes) == 1 else usual


def _product(shape: Shape) -> int:
    total = 1
    for size in shape:
        total *= size
    return total
