"""Answers of a data file that are not how their prompts go on: one message for each kind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from harness.datasets.tokenizers import Asked, Tokenizer
from harness.datasets.tokenizers.continuation import Break, breaks, tail

if TYPE_CHECKING:
    from harness.datasets.files.places import Example

_MOST = 5000  # answers for which a better spelling is looked for


def broken_answers(examples: Iterable[Example], tokenizer: Tokenizer) -> list[Break]:
    """Return the answers that are not how their prompts go on; after so many, no more."""
    asked = (asked for one in examples for asked in _asked(one, tokenizer))
    return list(islice(breaks(tokenizer, asked), _MOST))


def _asked(one: Example, tokenizer: Tokenizer) -> Iterator[Asked]:
    """What is asked at the end of a row; an answer that is read elsewhere is no next token."""
    for part in one.answered:
        if part.at != -1 and part.at != len(tokenizer.encode(one.clean)) - (tokenizer.bos is None):
            continue
        for prompt in (one.clean, one.corrupted):
            yield from (Asked(prompt, answer, one.place) for answer in (*part.good, *part.bad))


def messages(broken: Iterable[Break]) -> list[str]:
    """Return one message for all rows that the same change mends, and for each hopeless answer."""
    groups: dict[tuple[str, str], list[Break]] = {}
    for one in broken:
        hopeless = one.asked.answer if one.fix == "none" else ""
        groups.setdefault((one.fix, hopeless), []).append(one)
    return [_message(group) for group in groups.values()]


def _message(group: list[Break]) -> str:
    first = group[0]
    rows = dict.fromkeys(one.asked.place for one in group)
    others = len(rows) - 1
    also = f" (and {others} other row{'s' if others > 1 else ''})" if others else ""
    form = ""
    if first.fix in ("space", "move") and first.better is not None:
        prompt, answer = first.better
        form = f", as in '{tail(prompt)} <predict>{answer.strip()}</predict>'"
    return f"{first}{form}{also}"
