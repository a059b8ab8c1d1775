"""The prompts on which circuits are worst, as a page shows them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.errors import StoreCorrupt
from harness.reports.text import elided, percent
from harness.runs.prompts.worst import FILE
from harness.runs.store.record import StoredCell

SHOWN = 4
"""Prompt pairs of each circuit."""

LONGEST = 200
"""Characters of a token that are shown."""

MOST_WORDS = 240
"""Tokens of a prompt that are shown; of longer ones those near a difference or an answer."""

NEAR = 8
"""Tokens to each side that are near."""

BEFORE_THERE_WERE = "Computed before prompts were stored with cells; run in a new folder to see."


@dataclass(frozen=True)
class Word:
    """A token of a prompt; `read`: an answer is read there, `differs`: its twin has another."""

    text: str
    differs: bool
    read: bool


@dataclass(frozen=True)
class Expectation:
    """An output with its probability in percent; `mark`: ✓ right, ✗ wrong, or neither."""

    text: str
    percent: str
    mark: str


@dataclass(frozen=True)
class ReadAnswers:
    """What is expected where an answer is read: of the model and of the circuit alone.

    `model`, `circuit`: the probability of all right answers in percent, or the number answered.
    """

    at: int
    good: str
    bad: str
    model: str
    circuit: str
    model_top: tuple[Expectation, ...]
    circuit_top: tuple[Expectation, ...]


@dataclass(frozen=True)
class WorstPair:
    """A prompt pair; `left_out`: positions that are read and not shown."""

    row: int
    kl: float
    clean: tuple[Word, ...]
    corrupted: tuple[Word, ...]
    reads: tuple[ReadAnswers, ...]
    left_out: int


@dataclass(frozen=True)
class WorstPairs:
    """The worst prompt pairs of a cell's circuit; `problem`: why there are none."""

    method: str
    seed: int
    cell: str
    size: int = 0
    n: int = 0
    numbers: bool = False
    pairs: tuple[WorstPair, ...] = ()
    problem: str = ""


def examples(cell: StoredCell) -> WorstPairs:
    """What was stored with a finished cell."""
    about = (cell.entry.method, cell.entry.seed, cell.entry.id)
    assert cell.result is not None
    if FILE not in cell.result["artifacts"]:
        return WorstPairs(*about, problem=BEFORE_THERE_WERE)
    try:
        stored = cell.store.read(cell.entry.id).json(FILE)
        return WorstPairs(
            *about,
            size=stored["size"],
            n=stored["n"],
            numbers=stored["answers_are_numbers"],
            pairs=tuple(map(_example, stored["pairs"][:SHOWN])),
        )
    except StoreCorrupt as error:
        return WorstPairs(*about, problem=str(error))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        return WorstPairs(*about, problem=f"{FILE} is of a form that is not read here: {error!r}")


def _example(pair: Mapping[str, Any]) -> WorstPair:
    differ, read = set(pair["differ"]), {one["at"] for one in pair["reads"]}
    clean, corrupted = (tuple(_words(pair[name], differ, read)) for name in ("clean", "corrupted"))
    reads = tuple(map(_read, pair["reads"]))
    left_out = pair["n_reads"] - len(reads)
    return WorstPair(pair["row"], pair["kl"], clean, corrupted, reads, left_out)


def _words(tokens: Sequence[str], differ: Collection[int], read: Collection[int]) -> Iterator[Word]:
    """The tokens; where they are too many, … stands for those that are left out."""
    places: Sequence[int] = range(len(tokens))
    if len(tokens) > MOST_WORDS:
        near = {at for one in (*differ, *read) for at in range(one - NEAR, one + NEAR + 1)}
        places = sorted(near & set(places))[-MOST_WORDS:]
    before = -1
    for at in places:
        if at != before + 1:
            yield Word("…", False, False)
        yield Word(elided(tokens[at], LONGEST), at in differ, at in read)
        before = at
    if before + 1 < len(tokens):
        yield Word("…", False, False)


def _read(one: Mapping[str, Any]) -> ReadAnswers:
    return ReadAnswers(
        one["at"],
        _answers(one["good"], one["n_good"]),
        _answers(one["bad"], one["n_bad"]),
        _said(one["model"]),
        _said(one["circuit"]),
        _top(one["model"]),
        _top(one["circuit"]),
    )


def _answers(names: Sequence[str], total: int) -> str:
    more = total - len(names)
    return " ".join(elided(name, LONGEST) for name in names) + (f" and {more} more" if more else "")


def _said(guess: Mapping[str, Any]) -> str:
    return f"{guess['number']:.4f}" if "number" in guess else percent(guess["probability"])


def _top(guess: Mapping[str, Any]) -> tuple[Expectation, ...]:
    marks = {"right": "✓", "wrong": "✗"}
    return tuple(
        Expectation(
            elided(one["token"], LONGEST),
            percent(one["probability"]),
            marks.get(one["answer"], ""),
        )
        for one in guess.get("top", ())[:3]
    )
