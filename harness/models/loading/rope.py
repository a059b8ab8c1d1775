"""Rotary positions as Hugging Face's configurations write them, old form and new."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from harness.models.config import Rotary
from harness.models.loading.fields import Fields

BASE = 10000.0


def rotary_of(
    fields: Fields,
    d_head: int,
    *,
    part: str | None = None,
    base: float | None = None,
    share: float = 1.0,
) -> Rotary:
    """The rotary embeddings of a model; raises `HarnessError` for an unknown scaling.

    New form: all in `rope_parameters`, for some models by kind of layer (`part`). Old form:
    `rope_theta` and `rope_scaling`. `base` and `share` (of a head's coordinates that are rotated)
    are the defaults of what the file leaves out.
    """
    rope = parameters(fields, part)
    base = rope.number("rope_theta", fields.number("rope_theta", BASE) if base is None else base)
    n = int(d_head * rope.number("partial_rotary_factor", share))
    scaling = rope.choice("rope_type" if rope.has("rope_type") else "type", _SCALINGS, "default")
    return scaling(rope, fields, base, n if n < d_head else None)


def parameters(fields: Fields, part: str | None = None) -> Fields:
    """The object with the rotary parameters; of one kind of layer, if it has one for each."""
    rope = fields.nested("rope_parameters" if fields.has("rope_parameters") else "rope_scaling")
    return rope.nested(part) if part is not None and rope.has(part) else rope


def _plain(rope: Fields, fields: Fields, base: float, n: int | None) -> Rotary:
    return Rotary(base=base, n_rotated=n)


def _linear(rope: Fields, fields: Fields, base: float, n: int | None) -> Rotary:
    return Rotary(base=base, n_rotated=n, scaling="linear", factor=rope.number("factor"))


def _llama3(rope: Fields, fields: Fields, base: float, n: int | None) -> Rotary:
    return Rotary(
        base=base,
        n_rotated=n,
        scaling="llama3",
        factor=rope.number("factor"),
        original_ctx=_original(rope, fields),
        slow=rope.number("low_freq_factor"),
        fast=rope.number("high_freq_factor"),
    )


def _yarn(rope: Fields, fields: Fields, base: float, n: int | None) -> Rotary:
    original = _original(rope, fields)
    factor = rope.number("factor", fields.count("max_position_embeddings") / original)
    return Rotary(
        base=base,
        n_rotated=n,
        scaling="yarn",
        factor=factor,
        original_ctx=original,
        slow=rope.number("beta_slow", 1.0),
        fast=rope.number("beta_fast", 32.0),
        whole=rope.flag("truncate", True),
        amplitude=rope.number("attention_factor", _yarn_amplitude(rope, factor)),
    )


def _yarn_amplitude(rope: Fields, factor: float) -> float:
    def scale(weight: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0

    one, all_ = rope.number("mscale", 0.0), rope.number("mscale_all_dim", 0.0)
    return scale(one) / scale(all_) if one and all_ else scale(1.0)


def _original(rope: Fields, fields: Fields) -> int:
    name = "original_max_position_embeddings"
    return rope.count(name, fields.count(name, fields.count("max_position_embeddings")))


_SCALINGS: Mapping[str, Callable[[Fields, Fields, float, int | None], Rotary]] = {
    "default": _plain,
    "linear": _linear,
    # Differs from no scaling only for prompts beyond the context, which are refused.
    "dynamic": _plain,
    "llama3": _llama3,
    "yarn": _yarn,
}
