"""Rotary positions as Hugging Face's configurations write them, old form and new."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from harness.errors import HarnessError
from harness.models.config import Rotary
from harness.models.loading.fields import Fields

BASE = 10000.0
_ORIGINAL = "original_max_position_embeddings"


def rotary_of(fields: Fields, n_ctx: int) -> Rotary:
    """The rotary embeddings of a model that rotates whole heads.

    New form: all in `rope_parameters`. Old form: `rope_theta` and `rope_scaling`. Raises
    `HarnessError` for an unknown scaling, and where both forms stand and differ.
    """
    rope = parameters(fields)
    _refuse_part(rope, fields)
    return replace(_scaled(rope, fields, n_ctx), base=_base(rope, fields, "rope_theta", BASE))


def partly_rotary(fields: Fields, d_head: int, n_ctx: int) -> Rotary:
    """The rotary embeddings of GPT-NeoX, which rotates a share of a head and has its own names."""
    rope = parameters(fields)
    base = _base(rope, fields, "rotary_emb_base", BASE)
    fields.agree("rope_theta", base, "the base of rotary positions")
    share = rope.number("partial_rotary_factor", fields.number("rotary_pct", 0.25))
    for name in ("rotary_pct", "partial_rotary_factor"):
        fields.agree(name, share, "the share of a head that is rotated")
    n = int(d_head * share)
    if not 0 < n <= d_head:
        raise HarnessError(
            f"{fields.path}: {share} of a head of {d_head} coordinates cannot be rotated"
        )
    rotary = _scaled(rope, fields, n_ctx)
    return replace(rotary, base=base, n_rotated=n if n < d_head else None)


def rotary_by_kind(fields: Fields, n_ctx: int, kind: str, base_name: str, base: float) -> Rotary:
    """The rotary embeddings of one kind of layer of Gemma 3 (`full_attention` or not).

    New form: an object for each kind in `rope_parameters`. Old form: one base for each kind, and
    `rope_scaling` for layers without a window.
    """
    new, old = fields.nested("rope_parameters"), fields.nested("rope_scaling")
    rope = new.nested(kind)
    if old.data and kind == "full_attention":
        if not old.has("rope_type"):
            raise HarnessError(f"{fields.path}: rope_scaling.rope_type is missing")
        if new.data:
            _refuse_two(fields, rope, old)
        else:
            rope = old
    _refuse_part(rope, fields)
    rotary = _scaled(rope, fields, n_ctx, by_kind=True)
    if not rotary.whole:
        raise HarnessError(f"{fields.path}: {rope.place}truncate is false, which Gemma 3 ignores")
    return replace(rotary, base=_base(rope, fields, base_name, base))


def parameters(fields: Fields) -> Fields:
    """The object with the rotary parameters, under its new name or its old one."""
    new, old = fields.nested("rope_parameters"), fields.nested("rope_scaling")
    if new.data and old.data:
        _refuse_two(fields, new, old)
    return new if new.data else old


def _refuse_two(fields: Fields, new: Fields, old: Fields) -> None:
    """Refuse two objects with rotary parameters that are not the same."""
    old.ignore(old.data)
    if _plain_data(new) != _plain_data(old):
        raise HarnessError(
            f"{fields.path}: rope_parameters and rope_scaling both say how positions rotate, and "
            "they differ; put all of it, with rope_theta, into rope_parameters"
        )


def _plain_data(rope: Fields) -> dict[str, Any]:
    data = {name: value for name, value in rope.data.items() if value is not None}
    if "type" in data:
        data.setdefault("rope_type", data.pop("type"))
    return data


def _base(rope: Fields, fields: Fields, name: str, default: float) -> float:
    base = rope.number("rope_theta", fields.number(name, default))
    fields.agree(name, base, f"{rope.place}rope_theta")
    return base


def _refuse_part(rope: Fields, fields: Fields) -> None:
    """Refuse a share of a head, which a family either ignores or cannot run with."""
    for one in (rope, fields):
        one.refuse("partial_rotary_factor", (1,), "this family rotates whole heads")


def _scaled(rope: Fields, fields: Fields, n_ctx: int, *, by_kind: bool = False) -> Rotary:
    """The scaling; `n_ctx` is the context it was made for, where no field says it."""
    scaling = rope.choice(rope.spelling("rope_type", "type"), _SCALINGS, "default")
    # Beside objects for each kind of layer, the outer field is not read.
    original = rope.count(_ORIGINAL, n_ctx if by_kind else fields.count(_ORIGINAL, n_ctx))
    fields.agree(_ORIGINAL, original, f"{rope.place}{_ORIGINAL}")
    return scaling(rope, original)


def _plain(rope: Fields, original: int) -> Rotary:
    return Rotary()


def _dynamic(rope: Fields, original: int) -> Rotary:
    """Differs from no scaling only for prompts beyond the context, which are refused."""
    rope.number("factor")
    return Rotary()


def _linear(rope: Fields, original: int) -> Rotary:
    return Rotary(scaling="linear", factor=rope.number("factor", positive=True))


def _llama3(rope: Fields, original: int) -> Rotary:
    return Rotary(
        scaling="llama3",
        factor=rope.number("factor", positive=True),
        original_ctx=original,
        slow=rope.number("low_freq_factor"),
        fast=rope.number("high_freq_factor"),
    )


def _yarn(rope: Fields, original: int) -> Rotary:
    factor = rope.number("factor", positive=True)
    amplitude = _yarn_amplitude(rope, factor)
    return Rotary(
        scaling="yarn",
        factor=factor,
        original_ctx=original,
        slow=rope.number("beta_slow", 1.0),
        fast=rope.number("beta_fast", 32.0),
        whole=rope.flag("truncate", True),
        amplitude=rope.number("attention_factor", amplitude),
    )


def _yarn_amplitude(rope: Fields, factor: float) -> float:
    def scale(weight: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0

    one, all_ = rope.number("mscale", 0.0), rope.number("mscale_all_dim", 0.0)
    if not one or not all_:
        return scale(1.0)
    if not (below := scale(all_)):
        raise HarnessError(f"{rope.path}: {rope.place}mscale_all_dim cancels the amplitude")
    return scale(one) / below


_SCALINGS: Mapping[str, Callable[[Fields, int], Rotary]] = {
    "default": _plain,
    "linear": _linear,
    "dynamic": _dynamic,
    "llama3": _llama3,
    "yarn": _yarn,
}
