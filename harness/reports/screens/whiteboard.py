"""A circuit of channels as a whiteboard would have it: a block of lines for each channel."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from harness.spec.printable import printable

Data = Mapping[str, Any]

_KINDS = {"a": "attention", "m": "MLP"}
_HANGING = 16


def whiteboard_text(board: Data, width: int) -> str:
    """The report of `harness.evaluation.whiteboard` as lines at most `width` wide."""
    counts = ", ".join(f"{count} {unit}" for unit, count in board["counts"].items())
    lines = [
        f"drawn whole: {counts}",
        "= what a channel reads: weight·channel, alone if through the stream; then its bias",
        "→ what it writes to; then, for each answer, its mean where answers are read and its peak",
    ]
    if "task_loss" in board:
        lines.append(
            f"Δ by how much the task loss, {board['task_loss']:.3f}, grows without the channel, "
            "and without each weight that it reads by"
        )
    for part, channels in groupby(board["channels"], key=_part):
        lines += ["", part]
        for channel in channels:
            lines += _channel(channel, width)
    return "\n".join(lines)


def _part(channel: Data) -> str:
    """`layer 0 MLP`, of a channel's name."""
    site = channel["name"].partition(".")[0]
    if site[:1] in _KINDS and site[1:].isdigit():
        return f"layer {site[1:]} {_KINDS[site[0]]}"
    return "final read"


def _channel(channel: Data, width: int) -> Iterator[str]:
    pieces = [f"= {_terms(channel)}", f"→ {_targets(channel['writes'])}"]
    pieces.append("; ".join(_carries(*one) for one in channel["carries"].items()))
    if "delta" in channel:
        pieces.append(f"Δ {channel['delta']:+.3f}{_of_weights(channel['reads'])}")
    name = f"  {channel['name']:<{_HANGING - 3}} "
    for place, piece in enumerate(piece for piece in pieces if piece not in ("= ", "→ ")):
        yield from textwrap.wrap(
            printable(piece),
            max(width, 60),
            initial_indent=name if place == 0 else " " * _HANGING,
            subsequent_indent=" " * (_HANGING + 2),
            break_long_words=False,
            break_on_hyphens=False,
        )


def _terms(channel: Data) -> str:
    terms = [
        one["channel"] if one["weight"] is None else f"{one['weight']:+.3g}·{one['channel']}"
        for one in channel["reads"]
    ]
    return " ".join([*terms, *(f"{bias:+.3g}" for bias in channel["biases"])])


def _of_weights(reads: Sequence[Data]) -> str:
    """The deltas of weights, largest first; those through the stream have none."""
    weighted = [one for one in reads if one["delta"] is not None]
    ordered = sorted(weighted, key=lambda one: -abs(one["delta"]))
    shown = ", ".join(f"{one['channel']} {one['delta']:+.3f}" for one in ordered)
    return f"; {shown}" if shown else ""


def _targets(writes: Sequence[Data]) -> str:
    return " ".join(dict.fromkeys(one["channel"] for one in writes))


def _carries(answer: str, values: Data) -> str:
    return f"{answer!r} {values['end']:+.3g}, peak {values['peak']:+.3g}"
