"""Hidden neurons of an MLP: those of maps, and the look-up that ends a selector width.

Of categories: a neuron per combination of values, relu(Σ one-hots - (k-1)·one) for k inputs, which
is 1 for this combination and 0 for every other.

Of a number x with possible values v_0 < v_1 < …: between neighbours with different results a step
falls from 1 to 0 in the middle half of the gap,
    down(x) = relu(g·(t⁺·one - x)) - relu(g·(t⁻·one - x)),     g = 1 / (t⁺ - t⁻),
and the result is f_last + Σ (f_left - f_right)·down. Left of all steps the first value's result
holds. Falling steps are exactly 0 on their right, where x is large: rounding stays small.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor

from harness.datasets.program import Map, Program
from harness.datasets.program.domains import map_table
from harness.datasets.program.expression import Value
from harness.models.compile.attention import Read, vector
from harness.models.compile.basis import ONE, Basis, share_of

Amounts = dict[int, float]
Points = Sequence[tuple[Fraction, Amounts]]  # (number, what to write), ascending


@dataclass(frozen=True)
class Neurons:
    """N hidden neurons: weights in [N, D] and out [N, D], float64, and what they read."""

    weight_in: Tensor
    weight_out: Tensor
    reads: tuple[Read, ...]

    @classmethod
    def of(
        cls, basis: Basis, neurons: Iterable[tuple[Amounts, Amounts]], reads: tuple[Read, ...]
    ) -> Neurons:
        """From (amounts read, amounts written) of every neuron; silent ones are left out."""
        active = [one for one in neurons if any(one[1].values())]
        empty = torch.zeros(0, basis.width, dtype=torch.float64)
        ins = [vector(basis, read) for read, _ in active]
        outs = [vector(basis, written) for _, written in active]
        return cls(torch.stack(ins) if ins else empty, torch.stack(outs) if outs else empty, reads)


def map_neurons(program: Program, basis: Basis, name: str, step: Map) -> Neurons:
    """The neurons that compute a map."""
    table = [(row, basis.written(name, value)) for row, value in map_table(step, program.domains)]
    if program.domains[step.inputs[0]].numerical:
        number = basis.dimension(step.inputs[0])
        points = sorted((Fraction(cast("int", row[0])), written) for row, written in table)
        return Neurons.of(basis, _look_up(basis, number, points), _reads(*step.inputs, ONE))
    with_one = [ONE] if len(step.inputs) > 1 else []
    neurons = ((_all_of(basis, step.inputs, row), written) for row, written in table)
    return Neurons.of(basis, neurons, _reads(*step.inputs, *with_one))


def width_neurons(program: Program, basis: Basis, name: str) -> Neurons:
    """The neurons that turn 1 / (1 + width) into the width."""
    share = share_of(name)
    points = [
        (Fraction(1, 1 + width), basis.written(name, width))
        for width in reversed(range(program.longest + 1))
    ]
    return Neurons.of(basis, _look_up(basis, basis.dimension(share), points), _reads(share, ONE))


def _reads(*variables: str) -> tuple[Read, ...]:
    return tuple(Read("mlp", one) for one in variables)


def _all_of(basis: Basis, names: Sequence[str], row: Sequence[Value]) -> Amounts:
    """A neuron that is on where all these variables have these values."""
    amounts = {basis.dimension(name, value): 1.0 for name, value in zip(names, row, strict=True)}
    return amounts | ({basis.one: 1.0 - len(names)} if len(names) > 1 else {})


def _look_up(basis: Basis, number: int, points: Points) -> Iterable[tuple[Amounts, Amounts]]:
    """Neurons that write what belongs to the number in dimension `number`."""
    yield {basis.one: 1.0}, points[-1][1]
    for (low, left), (high, right) in pairwise(points):
        if left == right:
            continue
        change = {one: left.get(one, 0.0) - right.get(one, 0.0) for one in {**left, **right}}
        margin = (high - low) / 4
        gain = float(1 / (2 * margin))
        for end, sign in ((high - margin, 1.0), (low + margin, -1.0)):
            written = {one: sign * amount for one, amount in change.items()}
            yield {basis.one: gain * float(end), number: -gain}, written
