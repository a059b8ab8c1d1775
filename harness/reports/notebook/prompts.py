"""Prompt pairs token by token: where twins differ, where answers are read, and which they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.datasets.pairs import PromptPairs
from harness.reports.notebook.fragment import fragment
from harness.reports.screens.columns import token
from harness.reports.screens.prompts import SIGNS, answers_text, pair_lines
from harness.reports.text import hypertext
from harness.runs.prompts.words import Outputs, pair_in_words

SHOWN = 6
"""Pairs; of the others there is the number."""
READS = 4
"""Positions of a pair whose answers are given."""

_WIDTH = 100
_MARKS = "<mark>differs from its twin</mark> <code class='read'>an answer is read here</code>"


def pairs_html(pairs: PromptPairs, outputs: Outputs, *, numbers: bool) -> str:
    """The first pairs; `numbers`: answers are numbers, which no token names."""

    def parts() -> Iterator[str]:
        rows = [
            line
            for row in range(min(SHOWN, len(pairs)))
            for line in _pair(pair_in_words(pairs, row, outputs), numbers=numbers)
        ]
        yield f"<table>\n<tbody>\n{chr(10).join(rows)}\n</tbody>\n</table>"
        yield f'<p class="legend">{_MARKS} {hypertext(_more(pairs))}</p>'

    return fragment(parts())


def pairs_text(pairs: PromptPairs, outputs: Outputs, *, numbers: bool) -> str:
    """The same as lines."""
    lines = [SIGNS]
    for row in range(min(SHOWN, len(pairs))):
        pair = pair_in_words(pairs, row, outputs)
        lines += ["", *pair_lines(pair, _WIDTH, numbers=numbers)]
    return "\n".join([*lines, *([_more(pairs)] if _more(pairs) else [])])


def _more(pairs: PromptPairs) -> str:
    more = len(pairs) - SHOWN
    return f"and {more:,} more pairs" if more > 0 else ""


def _pair(pair: Mapping[str, Any], *, numbers: bool) -> Iterator[str]:
    differ, read = set(pair["differ"]), {one["at"] for one in pair["reads"]}
    for twin in ("clean", "corrupted"):
        words = " ".join(
            _word(text, differs=at in differ, read=at in read) for at, text in enumerate(pair[twin])
        )
        number = f'<th rowspan="3" scope="rowgroup">{pair["row"]}</th>' if twin == "clean" else ""
        yield f'<tr>{number}<th scope="row">{twin}</th><td class="tokens">{words}</td></tr>'
    answers = [f"{one['at']}: {answers_text(one)}" for one in pair["reads"][:READS]]
    if len(pair["reads"]) == 1:
        answers = [answers_text(pair["reads"][0])]
    if more := len(pair["reads"]) - READS if len(pair["reads"]) > READS else 0:
        answers.append(f"and {more} more positions")
    said = "numbers" if numbers else "; ".join(answers)
    yield f'<tr><th scope="row">answers</th><td class="tokens">{hypertext(said)}</td></tr>'


def _word(text: str, *, differs: bool, read: bool) -> str:
    shown = hypertext(token(text))
    marked = f"<mark>{shown}</mark>" if differs else shown
    return f'<code class="read">{marked}</code>' if read else f"<code>{marked}</code>"
