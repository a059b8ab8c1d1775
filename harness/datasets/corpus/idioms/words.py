"""The content words of the idioms, and which of them belong to which split of a task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from hashlib import sha256

from harness.errors import HarnessError


@dataclass(frozen=True)
class Words:
    """Pools of words; no word is in two of them.

    `names`: variables and parameters. `items`: loop variables. `counters`: loop counters.
    `texts`: what strings are made of. `verbs`: functions that take a string. `functions`,
    `classes`: what `def` and `class` define. `sources`, `targets`: files that are read, and
    written. `numbers`: literals.
    """

    names: tuple[str, ...]
    items: tuple[str, ...]
    counters: tuple[str, ...]
    texts: tuple[str, ...]
    verbs: tuple[str, ...]
    functions: tuple[str, ...]
    classes: tuple[str, ...]
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    numbers: tuple[str, ...]

    def of_split(self, split: str, shares: Mapping[str, float], seed: int) -> Words:
        """Return the words of one split; each word is in one of the splits.

        `shares`: positive shares of the words by split, in order. Raises `HarnessError` if a pool
        has too few words for them.
        """
        return Words(
            **{name: _part(name, pool, split, shares, seed) for name, pool in self.pools.items()}
        )

    @property
    def pools(self) -> dict[str, tuple[str, ...]]:
        """The pools by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


_FEWEST = 2  # words of a pool: pairs need two different ones


def _part(
    name: str, pool: tuple[str, ...], split: str, shares: Mapping[str, float], seed: int
) -> tuple[str, ...]:
    order = sorted(pool, key=lambda word: sha256(f"{seed}/{word}".encode()).digest())
    splits = list(shares)
    before = sum(shares[one] for one in splits[: splits.index(split)])
    first, last = (round(share * len(order)) for share in (before, before + shares[split]))
    if last - first < _FEWEST:
        raise HarnessError(
            f"split {split!r} would have {last - first} of the {len(order)} {name}, and needs "
            f"{_FEWEST}; give it a larger share (data.shares)"
        )
    return tuple(order[first:last])


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


WORDS = Words(
    names=_words(
        "total count value result index number score level price width height depth speed limit "
        "size name title label color city status answer message reply current start"
    ),
    items=_words("item entry row line key part word point"),
    counters=_words("i j k n a b x y"),
    texts=_words(
        "apple river stone cloud green happy small large night music table paper house garden "
        "coffee summer winter bright silver dragon window market orange yellow forest island "
        "rocket bridge castle planet hello world"
    ),
    verbs=_words("print show send log write warn tell call"),
    functions=_words("load save build parse check update create remove find merge reset select"),
    classes=_words("Box Shape Car User Order Node Player Account"),
    sources=_words("input data source config users items words names"),
    targets=_words("output report summary export backup archive copy results"),
    numbers=tuple(str(number) for number in range(20)),
)
"""What the corpus is written with."""
