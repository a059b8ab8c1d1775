"""How the value of a site is made of elements: the seam between channels and features.

A `Code` takes the value x of a site apart into its elements' activations c and a rest r that no
element carries, and puts it together again:

    c, r = encode(x)        x = decode(c) + r

A `GatedModel` gates the elements between the two. With m the masks of a site's elements, c̃ and r̃
the counterfactual's, and m_r what becomes of the rest (`Gates.rest`: 1 where it is kept, 0 where it
is dropped, a mask of its own where it is an element),

    x ← decode(m·c + (1-m)·c̃) + m_r·r + (1-m_r)·r̃

The identity is the code of channels: c = x, and there is no rest. A dictionary is a code whose
elements are features and whose rest is its error, so that a granularity of features brings codes,
names (`Gates`), and nothing else: ablations, gradients, files and sizes are those of gates.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor


class Coded(NamedTuple):
    """Activations of a site's elements [..., F], and the rest [..., width] where there is one."""

    elements: Tensor
    rest: Tensor | None = None


class Code(Protocol):
    """Elements of one site. Gradients flow through both directions."""

    def encode(self, x: Tensor) -> Coded:
        """The value [..., width] of a site, taken apart."""
        ...

    def decode(self, elements: Tensor) -> Tensor:
        """What activations [..., F] say of the value: [..., width]."""
        ...


class Channels:
    """Every channel is an element."""

    def encode(self, x: Tensor) -> Coded:
        """The value itself."""
        return Coded(x)

    def decode(self, elements: Tensor) -> Tensor:
        """The value itself."""
        return elements
