"""Building blocks of the `quotes` generator: code-like lines, line heads and string contents.

Blocks are written once, in plain Python, into a bank of ragged character arrays; the
generator then joins them with numpy. Beside each character the bank keeps the kind of the
string that is open after it (-1 = none): the dense training target.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from harness.datasets.pairs import Ints

QUOTES = ("'", '"', "`")
LETTERS = "abcdefghijklmnopqrstuvwxyz"
DIGITS = "0123456789"
# Every character that a prompt can hold.
ALPHABET = tuple("".join(QUOTES) + "\\\n #=+-*/%_,:()[" + DIGITS + LETTERS)

LONGEST_LINE = 24
LINES = 6000
HEADS = 1500
CHUNKS = 600

Block = tuple[str, list[int]]


@dataclass(frozen=True)
class Bank:
    """Ragged blocks in one flat array, sorted by length.

    `letters`, `inside` [sum of lengths]: character ids and open string kind after each.
    `starts`, `lengths` [n]. `count_up_to` [longest + 1]: how many blocks are at most so long.
    """

    letters: Ints
    inside: Ints
    starts: Ints
    lengths: Ints
    count_up_to: Ints

    @classmethod
    def of(cls, blocks: Sequence[Block]) -> Bank:
        """Return the bank of `blocks`."""
        ordered = sorted(blocks, key=lambda block: len(block[0]))
        ids = {letter: index for index, letter in enumerate(ALPHABET)}
        lengths = np.array([len(text) for text, _ in ordered], dtype=np.int64)
        return cls(
            letters=np.array([ids[c] for text, _ in ordered for c in text], dtype=np.int64),
            inside=np.array([kind for _, kinds in ordered for kind in kinds], dtype=np.int64),
            starts=np.cumsum(lengths) - lengths,
            lengths=lengths,
            count_up_to=np.searchsorted(lengths, np.arange(lengths[-1] + 1), side="right"),
        )


@functools.lru_cache(maxsize=4)
def line_bank(seed: int) -> Bank:
    """Return complete lines of every length 1 … `LONGEST_LINE`, ended by a newline."""
    rng = random.Random(f"quotes lines {seed}")
    makers: list[Callable[[random.Random], Block]] = [_comment, _assign, _call, _call, _sum]
    blocks = [
        block for _ in range(LINES) if len((block := rng.choice(makers)(rng))[0]) <= LONGEST_LINE
    ]
    # Comments of every length: whatever space is left can be filled exactly.
    blocks += [_filler(rng, length) for length in range(1, LONGEST_LINE + 1) for _ in range(20)]
    return Bank.of(blocks)


@functools.lru_cache(maxsize=4)
def head_bank(seed: int, longest: int) -> Bank:
    """Return beginnings of the last line, up to where its open string starts."""
    rng = random.Random(f"quotes heads {seed}")
    return Bank.of([block for _ in range(HEADS) if len((block := _head(rng))[0]) <= longest])


@functools.lru_cache(maxsize=4)
def chunk_banks(seed: int) -> tuple[Bank, ...]:
    """Return pieces of string content, one bank per quote kind that may stand unescaped in it.

    Bank s holds pieces valid in strings of both other kinds: kind s bare, any kind escaped.
    No piece ends within an escape.
    """
    rng = random.Random(f"quotes chunks {seed}")
    return tuple(Bank.of([_plain(text) for text in _chunks(rng, bare)]) for bare in QUOTES)


def _chunks(rng: random.Random, bare: str) -> Iterator[str]:
    for _ in range(CHUNKS):
        yield rng.choice(
            [
                _word(rng, 1, 4),
                _word(rng, 1, 2) + " ",
                _word(rng, 1, 3) + bare + rng.choice(("s", "t", "re", " ")),
                bare,
                "\\" + rng.choice(QUOTES),
                "\\" + rng.choice(QUOTES) + _word(rng, 1, 2),
                rng.choice(("\\n", "# ", "12", " = ", "(", "%")),
            ]
        )


def _word(rng: random.Random, shortest: int, longest: int) -> str:
    return "".join(rng.choices(LETTERS, k=rng.randint(shortest, longest)))


def _name(rng: random.Random) -> str:
    return _word(rng, 1, 4) + rng.choice(("", "", "", "_" + _word(rng, 1, 2), rng.choice(DIGITS)))


def _number(rng: random.Random) -> str:
    return "".join(rng.choices(DIGITS, k=rng.randint(1, 2)))


def _plain(text: str) -> Block:
    return text, [-1] * len(text)


def _join(*blocks: Block) -> Block:
    return "".join(text for text, _ in blocks), [kind for _, kinds in blocks for kind in kinds]


def _string(rng: random.Random) -> Block:
    """Return a closed string; inside it other kinds stand bare and its own kind escaped."""
    kind = rng.randrange(len(QUOTES))
    quote = QUOTES[kind]
    others = [other for other in QUOTES if other != quote]
    pieces = ("", _word(rng, 1, 3), rng.choice(others), "\\" + quote, " " + _word(rng, 1, 2))
    body = "".join(rng.choices(pieces, weights=(1, 5, 2, 2, 1), k=rng.randint(1, 3)))
    return quote + body + quote, [kind] * (len(body) + 1) + [-1]


def _value(rng: random.Random) -> Block:
    return _plain(rng.choice((_name, _number))(rng))


def _comment(rng: random.Random) -> Block:
    mark = rng.choice(("don't", "it's", "isn't", "`", '"', "'", "'n'", 'a "', "we'll", "so"))
    words = [_word(rng, 1, 4), mark, _word(rng, 1, 3)]
    rng.shuffle(words)
    return _plain("# " + " ".join(words[: rng.randint(2, 3)]) + "\n")


def _filler(rng: random.Random, length: int) -> Block:
    """Return a comment line of exactly `length` characters."""
    if length == 1:
        return _plain("\n")
    body = "".join(rng.choices(LETTERS + "  " + "".join(QUOTES), k=length - 2))
    return _plain("#" + body + "\n")


def _assign(rng: random.Random) -> Block:
    return _join(_plain(f"{_name(rng)} = "), _string(rng), _plain("\n"))


def _call(rng: random.Random) -> Block:
    first, second = (
        (_string(rng), _value(rng)) if rng.random() < 0.7 else (_value(rng), _string(rng))
    )
    return _join(_plain(f"{_name(rng)}("), first, _plain(", "), second, _plain(")\n"))


def _sum(rng: random.Random) -> Block:
    sign = rng.choice("+-*/%")
    return _join(
        _plain(f"{_name(rng)} = "), _string(rng), _plain(f" {sign} "), _value(rng), _plain("\n")
    )


def _head(rng: random.Random) -> Block:
    name = _name(rng)
    start = _plain(rng.choice((f"{name} = ", f"{name}(", f"{name} = [", f"{name}: ", f"{name}=")))
    middle = rng.random()
    if middle < 0.4:
        return start
    if middle < 0.6:
        return _join(start, _value(rng), _plain(", "))
    return _join(start, _string(rng), _plain(rng.choice((", ", " + "))))
