"""Prompt pairs token by token: where twins differ, where answers are read, what a model expects."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.reports.screens.columns import blocks, token
from harness.reports.text import grid
from harness.spec.printable import printable

DIFFERS, READ = "≠", "▲"
SIGNS = f"{DIFFERS} differs from its twin   {READ} the answer is read here"
MARKS = {"right": "✓", "wrong": "✗", None: ""}
_MOST_ANSWERS = 8
_TWINS = ("clean", "corrupted")

Data = Mapping[str, Any]


def prompts_text(report: Data, width: int) -> str:
    """The report of `harness.runs.services.look` as lines at most `width` wide."""
    training = _trained(report["training"]) if report["training"] else ""
    verdict = f"{report['verdict']['text']}." if report["verdict"] else ""
    lines = [
        *_wrapped(_head(report), width),
        *_wrapped(training, width),
        *_wrapped(printable(verdict), width),
        SIGNS,
    ]
    for pair in report["pairs"]:
        lines += ["", *pair_lines(pair, width, numbers=report["answers_are_numbers"])]
    if report["sequences"]:
        lines += ["", *_sequences(report["sequences"])]
    return "\n".join(lines)


_PARTS = {"all": "all", "before": "before the last 10", "last": "the last 10"}


def _sequences(measured: Data) -> Iterator[str]:
    """Means over whole sequences, and how they change from position to position."""
    names = list(measured["parts"]["all"])
    rows = [
        [_PARTS[part], *(f"{means[x]['value']:.4f} ± {means[x]['se']:.4f}" for x in names)]
        for part, means in measured["parts"].items()
    ]
    yield f"{measured['n']:,} whole sequences, mean ± standard error"
    yield ""
    yield grid(["positions", *names], rows, "github")
    yield ""
    points = [
        [str(point["position"]), str(point["n"]), *(f"{point[name]:.4f}" for name in names)]
        for point in measured["curve"]
    ]
    yield grid(["position", "n", *names], points, "github")


def _head(report: Data) -> str:
    model = f", model {report['model']}" if report["model_id"] else ""
    shown = len(report["pairs"])
    return printable(
        f"{report['task']}, split {report['split']}: {shown} of {report['n_pairs']} pairs{model}"
    )


def _trained(last: Data) -> str:
    """How well a trained model does on held-out data, and what is left of a sparse one."""
    parts = [f"trained for {last['step']:,} steps", f"held-out loss {last['loss']:.4f}"]
    if "excess" in last:
        parts[-1] += f" ({last['excess']:.4f} above the entropy)"
    parts += [f"accuracy {last['accuracy']:.4f}"] if "accuracy" in last else []
    if "nonzeros" in last:
        parts.append(f"{last['nonzeros']:,} of {last['entries']:,} weights are not zero")
        parts.append(f"{last['dead_neurons']:,} dead neurons")
    return ", ".join(parts)


def pair_lines(pair: Data, width: int, *, numbers: bool) -> Iterator[str]:
    """A pair in words; `numbers`: its answers are numbers, which no token names."""
    tokens, reads = len(pair["clean"]), pair["reads"]
    differ = len(pair["differ"])
    twins = "twins differ in " + ("none" if not differ else "one" if differ == 1 else str(differ))
    yield f"pair {pair['row']}: {tokens} tokens, {twins}"
    read = {one["at"] for one in reads}
    places = range(tokens)
    marks = [
        (DIFFERS if at in pair["differ"] else "") + (READ if at in read else "") for at in places
    ]
    rows = [
        [str(at) for at in places],
        [token(one) for one in pair["clean"]],
        [token(one) for one in pair["corrupted"]],
        marks,
    ]
    for lines in blocks(rows, ["  at", "  clean", "  corrupted", ""], width):
        yield from (line for line in lines if line)
    for one in reads:
        if numbers:
            told = [f"{name} {one[name]['number']:.4f}" for name in _TWINS if name in one]
            yield f"  read at {one['at']}: {'   '.join(told) or 'a number'}"
            continue
        yield from _wrapped(f"  read at {one['at']}: {answers_text(one)}", width)
        for name in _TWINS:
            if name in one:
                yield from _wrapped(f"    {name:<10} {_expected(one[name])}", width)


def answers_text(read: Data) -> str:
    """The right answers and the wrong ones, the first few of each."""
    bad = f"   wrong {_some(read['bad'])}" if read["bad"] else ""
    return f"right {_some(read['good'])}{bad}"


def _some(answers: Sequence[str]) -> str:
    more = len(answers) - _MOST_ANSWERS
    listed = " ".join(token(one) for one in answers[:_MOST_ANSWERS])
    return f"{listed} and {more} more" if more > 0 else listed


def _expected(guess: Data) -> str:
    top = "  ".join(
        f"{token(one['token'])}{MARKS[one['answer']]} {one['probability']:.1%}"
        for one in guess["top"]
    )
    return f"{top}   (right: {guess['probability']:.1%}, rank {guess['rank']})"


def _wrapped(text: str, width: int) -> list[str]:
    indent = " " * 15
    return textwrap.wrap(
        text,
        max(width, 40),
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
        replace_whitespace=False,
        drop_whitespace=True,
    )
