"""All Boolean expressions of a size: trees, their truth tables and how they are written.

A tree has a *slot* for every leaf (True or False) and for every operator (and, or), numbered as
they are read: leaf, operator, leaf, operator, … A filling is an integer whose bit k says what
stands in slot k: 1 is True, or "or".
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
from numpy.typing import NDArray

# A leaf is (), a negation (tree,), an operator (left, right).
Tree = tuple["Tree", ...]
Bools = NDArray[np.bool_]

LEAF: Tree = ()
WORDS = ("(", ")", "not", "False", "True", "and", "or")
OPEN, CLOSE, NOT, LEAVES, OPERATORS = 0, 1, 2, 3, 5  # of a slot: the word of bit 0


@cache
def trees(leaves: int, depth: int, nots: int) -> tuple[Tree, ...]:
    """Return every tree with exactly `leaves` leaves.

    On no path from the root to a leaf are more than `depth` operators or `nots` negations; no
    negation stands directly on another.
    """
    negated = () if nots == 0 else tuple((tree,) for tree in _unnegated(leaves, depth, nots - 1))
    return _unnegated(leaves, depth, nots) + negated


def _unnegated(leaves: int, depth: int, nots: int) -> tuple[Tree, ...]:
    if leaves == 1:
        return (LEAF,)
    return tuple(
        (left, right)
        for n in range(1, leaves if depth else 1)
        for left in trees(n, depth - 1, nots)
        for right in trees(leaves - n, depth - 1, nots)
    )


@cache
def count_trees(leaves: int, depth: int, nots: int) -> int:
    """Return how many `trees` there are, without making them."""
    return _count(leaves, depth, nots) + (_count(leaves, depth, nots - 1) if nots else 0)


def _count(leaves: int, depth: int, nots: int) -> int:
    if leaves == 1:
        return 1
    return sum(
        count_trees(n, depth - 1, nots) * count_trees(leaves - n, depth - 1, nots)
        for n in range(1, leaves if depth else 1)
    )


def count_slots(leaves: int) -> int:
    """Return the slots of a tree: its leaves and the operators between them."""
    return 2 * leaves - 1


def written(tree: Tree) -> list[int]:
    """Return the tree as it is read: numbers of `WORDS`, and -1 - slot where a slot stands.

    An operator's operands are in parentheses if they are operators themselves, so the reading
    does not depend on which operator binds more tightly. `not` binds most tightly, as usual.
    """
    return list(_written(tree, 0))


def _written(tree: Tree, first: int) -> Iterator[int]:
    """Write a tree whose slots begin with number `first`."""
    if tree == LEAF:
        yield -1 - first
    elif len(tree) == 1:
        yield NOT
        yield from _operand(tree[0], first)
    else:
        middle = first + _size(tree[0])
        yield from _operand(tree[0], first)
        yield -1 - middle
        yield from _operand(tree[1], middle + 1)


def _operand(tree: Tree, first: int) -> Iterator[int]:
    if len(tree) != 2:
        yield from _written(tree, first)
    else:
        yield OPEN
        yield from _written(tree, first)
        yield CLOSE


def truth_table(tree: Tree) -> Bools:
    """Return the value of the tree for every filling, bool [2^slots]."""
    fillings = np.arange(1 << _size(tree))
    return _values(tree, fillings, 0)


def _values(tree: Tree, fillings: NDArray[np.int64], first: int) -> Bools:
    def bit(slot: int) -> Bools:
        return (fillings >> slot & 1).astype(np.bool_)

    if tree == LEAF:
        return bit(first)
    if len(tree) == 1:
        return ~_values(tree[0], fillings, first)
    middle = first + _size(tree[0])
    left, right = _values(tree[0], fillings, first), _values(tree[1], fillings, middle + 1)
    return np.where(bit(middle), left | right, left & right)


def _size(tree: Tree) -> int:
    """Return the number of slots."""
    if tree == LEAF:
        return 1
    return sum(_size(part) for part in tree) + (len(tree) == 2)
