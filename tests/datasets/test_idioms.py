"""The language of Python idioms: its exact probabilities, and that a text has one derivation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import pytest

from harness.datasets.corpus.idioms import blocks
from harness.datasets.corpus.idioms.document import document, stream
from harness.datasets.corpus.idioms.lines import LINES, line
from harness.datasets.corpus.idioms.page import Page
from harness.datasets.corpus.idioms.pen import Pen
from harness.datasets.corpus.idioms.words import WORDS, Words
from harness.errors import HarnessError
from harness.spec.types import corpus


def few(**pools: str) -> Words:
    """One word in each pool, and those that are asked for."""
    return Words(**{name: tuple(pools.get(name, f"{name}_").split()) for name in WORDS.pools})


class ScriptedPen(Pen):
    """Takes the choices of a script, then always the first; notes how many options there were."""

    def __init__(self, script: Sequence[int]) -> None:
        super().__init__(lambda: math.nan)
        self.script, self.taken, self.chance = script, [], 1.0

    def _index(self, weights: Sequence[float]) -> int:
        place = len(self.taken)
        index = self.script[place] if place < len(self.script) else 0
        self.taken.append((index, len(weights)))
        self.chance *= weights[index] / sum(weights)
        return index

    def pick(self, options: Sequence[Any]) -> Any:
        return options[self._index([1.0] * len(options))]

    def coin(self, chance: float) -> bool:
        return self._index([1 - chance, chance]) == 1

    def weigh(self, options: Sequence[Any], weights: Sequence[float]) -> Any:
        return options[self._index(weights)]


def derivations(write: Callable[[Page], Any], words: Words, **page: Any) -> list[tuple[str, float]]:
    """Every text that can be written, with its probability, by trying all choices."""
    results, script = [], []
    while True:
        pen = ScriptedPen(script)
        rest = write(Page(pen, words, **{name: dict(value) for name, value in page.items()}))
        for _ in rest or ():
            pass
        results.append(("".join(pen.parts), pen.chance))
        while pen.taken and pen.taken[-1][0] == pen.taken[-1][1] - 1:
            pen.taken.pop()
        if not pen.taken:
            return results
        script = [index for index, _ in pen.taken]
        script[-1] += 1


TWO = few(names="total count", numbers="1 2", items="item", texts="apple river", sources="data")
HELD = {"held": {"total": "set", "count": "text"}}


@pytest.mark.parametrize("emphasis", [{}, {"update": 4.0, "say": 0.5}])
@pytest.mark.parametrize("held", [{}, HELD])
def test_every_line_has_one_derivation(held: dict[str, Any], emphasis: dict[str, float]) -> None:
    every = derivations(line, TWO, **held, emphasis=emphasis)
    texts = [text for text, _ in every]
    assert len(every) > 500
    assert len(set(texts)) == len(texts)
    assert math.fsum(chance for _, chance in every) == pytest.approx(1, abs=1e-12)


def test_a_pen_adds_up_the_exact_probability_of_what_it_drew() -> None:
    chances = dict(derivations(line, TWO))
    for seed in range(300):
        pen = Pen.seeded(seed)
        line(Page(pen, TWO))
        text, nats = pen.take()
        assert nats == pytest.approx(-math.log(chances[text]), abs=1e-9)


def test_emphasis_multiplies_the_odds_of_a_kind_of_line() -> None:
    """Exactly: odds against all other lines, by hand from the probabilities of all texts."""

    def odds(mark: str, **emphasis: float) -> float:
        every = derivations(line, TWO, **HELD, emphasis=emphasis)
        share = math.fsum(chance for text, chance in every if mark in text)
        return share / (1 - share)

    for name, mark in (("update", "count += "), ("assertion", "assert ")):
        of_two = 2 if name == "update" else 1  # `total.add(…)` is the other half of the updates
        usual, more = odds(mark), odds(mark, **{name: 3})
        shares = [of_two * one / (1 + one) for one in (usual, more)]
        assert shares[1] / (1 - shares[1]) == pytest.approx(3 * shares[0] / (1 - shares[0]))
    assert odds("assert ", say=1.0) == pytest.approx(odds("assert "), abs=1e-12)


def test_the_schema_knows_every_kind_of_line() -> None:
    assert tuple(LINES) == corpus.LINES


@pytest.mark.parametrize("block", [one for one, _ in blocks.BLOCKS], ids=lambda one: one.__name__)
def test_every_block_has_one_derivation(
    block: blocks.Block, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "LONGEST_BODY", 2 if block.__name__ in ("_for", "_with") else 1)
    bodies = ("pass",) if block.__name__ == "_function" else ("pass", "x = 1")
    monkeypatch.setattr(blocks, "line", lambda page: page.write(page.pen.pick(bodies)))
    names = {"_function": "a b c d", "_class": "a b c"}.get(block.__name__, "a")
    words = few(names=names)
    every = derivations(block, words)
    texts = [text for text, _ in every]
    assert len(texts) > 1
    assert len(set(texts)) == len(texts)
    assert math.fsum(chance for _, chance in every) == pytest.approx(1, abs=1e-12)


def text_of(seed: int) -> str:
    return "".join(one.text for one in document(Pen.seeded(seed)))


def test_documents_are_a_function_of_their_seed_and_compile() -> None:
    texts = [text_of(seed) for seed in range(100)]
    assert texts == [text_of(seed) for seed in range(100)]
    assert len(set(texts)) == len(texts)
    for text in texts:
        compile(text, "idioms", "exec")


def test_a_stream_is_documents_one_after_the_other() -> None:
    pieces = list(islice(stream(Pen.seeded(5)), 2000))
    ends = [place for place, one in enumerate(pieces) if one.ends]
    assert ends
    assert all(one.text.endswith("\n") and one.text.count("\n") == 1 for one in pieces if one.text)
    pen = Pen.seeded(5)
    again = [*document(pen), *document(pen)]
    assert again == pieces[: len(again)]


def test_no_word_is_in_two_pools_and_splits_share_none() -> None:
    every = [word for pool in WORDS.pools.values() for word in pool]
    assert len(set(every)) == len(every)
    shares = {"train": 0.5, "validation": 0.25, "test": 0.25}
    parts = [WORDS.of_split(split, shares, 0) for split in shares]
    for name, pool in WORDS.pools.items():
        split = [word for part in parts for word in part.pools[name]]
        assert sorted(split) == sorted(pool)
    with pytest.raises(HarnessError, match="larger share"):
        WORDS.of_split("test", {"train": 0.9, "test": 0.1}, 0)
