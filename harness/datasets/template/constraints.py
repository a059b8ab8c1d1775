"""Constraints of a template.

Between words: `A != B`, `A < B`, `distinct(A, B, C)`. Of tokens, which depend on the tokenizer:
`one_token(names)`, and, which only the rendered prompts show, `aligned` and `whole_tokens(A, B)`.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.datasets.pairs import Ints

_COMPARISON = re.compile(r"\s*(\w+)\s*(!=|<=|>=|<|>)\s*(\w+)\s*")
_DISTINCT = re.compile(r"\s*distinct\s*\(([\w\s,]*)\)\s*")
_TOKENS = re.compile(r"\s*(whole_tokens|one_token)\s*\(([\w\s,.]*)\)\s*")
_NAME = re.compile(r"\w+(\.\d+)?")  # of a slot or a list, or a column of a table

_ORDERS: Mapping[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True)
class Relation:
    """`left sign right` between two slots; `!=` compares words, the others their list places."""

    left: str
    sign: str
    right: str


@dataclass(frozen=True)
class TokenRules:
    """What the tokens of every pair must keep; others are not drawn.

    `aligned`: the two prompts have equally many tokens slot by slot, and the same tokens outside
    of the slots that the corruption changes. `whole`: each of these slots is made of whole tokens
    (a space before it may belong to its first one). `one`: of these lists only the words are used
    that are one token after a space.
    """

    aligned: bool = False
    whole: frozenset[str] = frozenset()
    one: frozenset[str] = frozenset()

    def __or__(self, other: TokenRules) -> TokenRules:
        return TokenRules(
            self.aligned or other.aligned, self.whole | other.whole, self.one | other.one
        )


def parse_constraint(text: str) -> list[Relation] | TokenRules:
    """Return the relations, or the token rules, of one constraint.

    ValueError says what is understood.
    """
    if match := _COMPARISON.fullmatch(text):
        return [Relation(match[1], match[2], match[3])]
    if text.strip() == "aligned":
        return TokenRules(aligned=True)
    if (match := _TOKENS.fullmatch(text)) and (names := _names(match[2])):
        chosen = frozenset(names)
        return TokenRules(whole=chosen) if match[1] == "whole_tokens" else TokenRules(one=chosen)
    if (match := _DISTINCT.fullmatch(text)) and len(names := _names(match[1])) > 1:
        return [
            Relation(left, "!=", right)
            for index, left in enumerate(names)
            for right in names[index + 1 :]
        ]
    raise ValueError(
        f"{text!r} is not understood; write `A != B`, `A < B` (also <=, >, >=: by place in "
        "their list), `distinct(A, B, C)`, `aligned`, `whole_tokens(A, B)` or `one_token(names)`"
    )


def _names(text: str) -> list[str]:
    """Return the names between commas; none if one of them is no name."""
    names = [name.strip() for name in text.split(",")]
    return names if all(map(_NAME.fullmatch, names)) else []


@dataclass(frozen=True)
class Rule:
    """A relation over columns of the free slots."""

    left: int
    sign: str
    right: int


def satisfied(rules: Sequence[Rule], places: Ints, words: Ints) -> NDArray[np.bool_]:
    """Return which rows obey all rules; `places` (in the list) and `words` (ids) are [n, slots]."""
    ok = np.ones(len(places), dtype=np.bool_)
    for rule in rules:
        if rule.sign == "!=":
            ok &= words[:, rule.left] != words[:, rule.right]
        else:
            ok &= _ORDERS[rule.sign](places[:, rule.left], places[:, rule.right])
    return ok
