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
    """How a model turns queries and keys; raises `HarnessError` for a scaling that is not known.

    New form: all in `rope_parameters`, for some models by kind of layer (`part`). Old form:
    `rope_theta` and `rope_scaling`. `base` and `share` (of a head's coordinates that turn) hold
    where the file says nothing.
    """
    given = parameters(fields, part)
    base = given.number("rope_theta", fields.number("rope_theta", BASE) if base is None else base)
    n = int(d_head * given.number("partial_rotary_factor", share))
    scaling = given.choice("rope_type" if given.has("rope_type") else "type", _SCALINGS, "default")
    return scaling(given, fields, base, n if n < d_head else None)


def parameters(fields: Fields, part: str | None = None) -> Fields:
    """The object that says how to turn; of one kind of layer, if it is given by kind."""
    given = fields.nested("rope_parameters" if fields.has("rope_parameters") else "rope_scaling")
    return given.nested(part) if part is not None and given.has(part) else given


def _plain(given: Fields, fields: Fields, base: float, n: int | None) -> Rotary:
    return Rotary(base=base, n_rotated=n)


def _linear(given: Fields, fields: Fields, base: float, n: int | None) -> Rotary:
    return Rotary(base=base, n_rotated=n, scaling="linear", factor=given.number("factor"))


def _llama3(given: Fields, fields: Fields, base: float, n: int | None) -> Rotary:
    return Rotary(
        base=base,
        n_rotated=n,
        scaling="llama3",
        factor=given.number("factor"),
        original_ctx=_original(given, fields),
        slow=given.number("low_freq_factor"),
        fast=given.number("high_freq_factor"),
    )


def _yarn(given: Fields, fields: Fields, base: float, n: int | None) -> Rotary:
    original = _original(given, fields)
    factor = given.number("factor", fields.count("max_position_embeddings") / original)
    return Rotary(
        base=base,
        n_rotated=n,
        scaling="yarn",
        factor=factor,
        original_ctx=original,
        slow=given.number("beta_slow", 1.0),
        fast=given.number("beta_fast", 32.0),
        whole=given.flag("truncate", True),
        amplitude=given.number("attention_factor", _yarn_amplitude(given, factor)),
    )


def _yarn_amplitude(given: Fields, factor: float) -> float:
    def grown(weight: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0

    one, all_ = given.number("mscale", 0.0), given.number("mscale_all_dim", 0.0)
    return grown(one) / grown(all_) if one and all_ else grown(1.0)


def _original(given: Fields, fields: Fields) -> int:
    name = "original_max_position_embeddings"
    return given.count(name, fields.count(name, fields.count("max_position_embeddings")))


_SCALINGS: Mapping[str, Callable[[Fields, Fields, float, int | None], Rotary]] = {
    "default": _plain,
    "linear": _linear,
    # Differs from no scaling only in prompts longer than the context, which no task may have.
    "dynamic": _plain,
    "llama3": _llama3,
    "yarn": _yarn,
}
