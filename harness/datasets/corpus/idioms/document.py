"""Documents of idioms, and the endless stream of them: lines with their exact −log p."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from harness.datasets.corpus.idioms.blocks import BLOCKS
from harness.datasets.corpus.idioms.lines import comment, line
from harness.datasets.corpus.idioms.page import Page
from harness.datasets.corpus.idioms.pen import Pen
from harness.datasets.corpus.idioms.words import WORDS, Words

VERSION = "1"
"""Of the language: another text for the same seed, or another probability, needs another one."""

_WEIGHTS = {"line": 0.75, "comment": 0.01, "block": 0.24}
_END = 0.05
_AS_USUAL: Mapping[str, float] = {}
_BLOCKS = tuple(block for block, _ in BLOCKS)
_BLOCK_WEIGHTS = tuple(weight for _, weight in BLOCKS)


class Written(NamedTuple):
    """A piece of text and its −log p in nats, after what stands before it.

    A line with its line break, or no text where a document ends; its end is part of the −log p.
    """

    text: str
    nats: float

    @property
    def ends(self) -> bool:
        """Whether a document ends here."""
        return not self.text


def statement(page: Page) -> Iterator[None]:
    """Write one statement of a document's top level; yields at the end of every line."""
    kind = page.pen.weigh(tuple(_WEIGHTS), tuple(_WEIGHTS.values()))
    if kind == "block":
        yield from page.pen.weigh(_BLOCKS, _BLOCK_WEIGHTS)(page)
    else:
        (line if kind == "line" else comment)(page)
        page.write("\n")
        yield


def document(
    pen: Pen, words: Words = WORDS, emphasis: Mapping[str, float] = _AS_USUAL
) -> Iterator[Written]:
    """Yield the lines of one document, and its end; `emphasis` as in `Page`."""
    page = Page(pen, words, emphasis=emphasis)
    first = True
    while first or not pen.coin(_END):
        first = False
        for _ in statement(page):
            yield Written(*pen.take())
    yield Written(*pen.take())


def stream(
    pen: Pen, words: Words = WORDS, emphasis: Mapping[str, float] = _AS_USUAL
) -> Iterator[Written]:
    """Yield documents for ever."""
    while True:
        yield from document(pen, words, emphasis)
