"""Alignment slot by slot, on tokens written by hand."""

from __future__ import annotations

import pytest

from harness.datasets.template.align import Piece, Prompt, misaligned


def prompt(pieces: str, tokens: str) -> Prompt:
    """`pieces`: texts between bars, a slot's word begins with its name and "="; `tokens` likewise.

    A token's id is its text's hash, so equal texts have equal ids.
    """
    made = []
    for text in pieces.split("|"):
        origin, _, word = text.rpartition("=")
        made.append(Piece(word, origin or f"={word}"))
    texts = tokens.split("|")
    assert "".join(piece.text for piece in made) == "".join(texts)
    ends = [sum(map(len, texts[: index + 1])) for index in range(len(texts))]
    spans = [(end - len(text), end) for end, text in zip(ends, texts, strict=True)]
    return Prompt(made, ([hash(text) for text in texts], spans))


CLEAN = prompt("So |A=Ann| met |B=Bo|.", "So| Ann| met| B|o|.")


@pytest.mark.parametrize(
    ("pieces", "tokens", "reason"),
    [
        ("So |C=Eve| met |B=Bo|.", "So| Eve| met| B|o|.", None),
        ("So |A=Ann| met |C=Cy|.", "So| Ann| met| C|y|.", None),
        ("So |B=Bo| met |A=Ann|.", "So| B|o| met| Ann|.", "'Ann' is 1 tokens and 'Bo' is 2"),
        ("So |C=Flo| met |B=Bo|.", "So| F|lo| met| B|o|.", "'Ann' is 1 tokens and 'Flo' is 2"),
        # the same length in all, but not slot by slot
        ("So |C=Flo| met |D=Jo|.", "So| F|lo| met| Jo|.", "'Ann' is 1 tokens and 'Flo' is 2"),
        # a token that joins the word and what follows
        ("So |C=Eve| met |D=Jo|.", "So| Eve| met| J|o.", "one has 6 tokens and the other 5"),
        ("So |C=Eve| met |B=Bo|.", "So| Eve| me|t B|o|.", "tokens outside"),
    ],
)
def test_misaligned(pieces: str, tokens: str, reason: str | None) -> None:
    other = prompt(pieces, tokens)
    for found in (misaligned(CLEAN, other), misaligned(other, CLEAN)):
        assert (found is None) == (reason is None)
    assert reason is None or reason in str(misaligned(CLEAN, other))


def test_a_token_of_two_replaced_words_is_aligned_with_the_like_alone() -> None:
    joined = prompt("in |C=17|Y=32| to", "in| 1732| to")
    same = prompt("in |D=15|Z=00| to", "in| 1500| to")
    apart = prompt("in |D=16|Z=01| to", "in| 16|01| to")
    assert misaligned(joined, same) is None
    assert misaligned(joined, apart) == "one has 3 tokens and the other 4"


@pytest.mark.parametrize(
    ("tokens", "whole"),
    [
        ("in| 17|32| to", (True, True)),
        ("in| |17|32| to", (True, True)),
        ("in| |1|7|3|2| to", (True, True)),
        ("in| 1732| to", (False, False)),
        ("in| 173|2| to", (False, False)),
        ("in 17|32| to", (False, True)),
        ("in| 17|32 to", (True, False)),
        ("in| 17|32 |to", (True, False)),
    ],
)
def test_whole_tokens(tokens: str, whole: tuple[bool, bool]) -> None:
    found = prompt("in |C=17|Y=32| to", tokens)
    assert (found.is_whole(1), found.is_whole(2)) == whole


def test_a_slot_at_the_start_is_whole() -> None:
    assert prompt("A=Ann| met", "Ann| met").is_whole(0)
    assert not prompt("A=Ann| met", "Ann met").is_whole(0)
