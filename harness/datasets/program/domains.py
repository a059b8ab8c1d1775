"""Which values the steps of a program can have, found without running it.

Domains may be larger than what occurs (no step knows what another one rules out), never smaller.
They are the dimensions of a compiled model, so maps are evaluated here on every combination.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from itertools import product
from math import prod

from harness.datasets.program.expression import Value, shown
from harness.datasets.program.program import Aggregate, Domain, Map, Select, Step

MOST_VALUES = 512
MOST_COMBINATIONS = 1 << 14
MOST_MEANS = 4096

Domains = Mapping[str, Domain]


def step_domain(step: Step, domains: Domains, longest: int) -> Domain:
    """Return the domain of a step whose inputs have `domains`; ValueError if there is none."""
    if isinstance(step, Map):
        return _map_domain(step, domains)
    _check_select(step.select, domains)
    if not isinstance(step, Aggregate):
        return Domain(tuple(range(longest + 1)))
    gathered = domains[step.of]
    if not gathered.numerical:
        return gathered
    return Domain(_means(gathered.values, longest), numerical=True)


def map_table(step: Map, domains: Domains) -> list[tuple[tuple[Value, ...], Value | None]]:
    """Return (values of the inputs, value of the map) for every combination of the inputs.

    ValueError if an input has too many values or the expression fails for some.
    """
    columns = []
    for name in step.inputs:
        values = domains[name].values
        if values is None:
            raise ValueError(f"{name!r} can have too many values to be mapped")
        columns.append(values)
    if prod(map(len, columns)) > MOST_COMBINATIONS:
        raise ValueError(f"its inputs have more than {MOST_COMBINATIONS} combinations of values")
    return [
        (row, step.expression.evaluate(dict(zip(step.inputs, row, strict=True))))
        for row in product(*columns)
    ]


def _map_domain(step: Map, domains: Domains) -> Domain:
    numbers = [name for name in step.inputs if domains[name].numerical]
    if not step.inputs:
        raise ValueError("it reads no other step")
    if numbers and len(step.inputs) > 1:
        raise ValueError(
            f"{numbers[0]!r} is numerical and can only be mapped alone; turn it into a category "
            "with a map of its own first"
        )
    results = [value for _, value in map_table(step, domains)]
    if step.numerical:
        return Domain(_ascending(set(map(_number, results))), numerical=True)
    return Domain(_few(dict.fromkeys(value for value in results if value is not None)))


def _check_select(select: Select, domains: Domains) -> None:
    pairs = []
    for name in select.inputs:
        values = domains[name].values
        if domains[name].numerical or values is None:
            raise ValueError(f"{name!r} is numerical; only categories can be keys or queries")
        pairs.append(values)
    for key, query in product(*pairs):
        select.holds(key, query)


def _few(values: Iterable[Value]) -> tuple[Value, ...]:
    distinct = tuple(values)
    if not distinct:
        raise ValueError("it never has a value")
    if len(distinct) > MOST_VALUES:
        raise ValueError(f"it has more than {MOST_VALUES} values")
    return distinct


def _means(values: tuple[Value, ...] | None, longest: int) -> tuple[Value, ...] | None:
    """Every mean of up to `longest` numbers, and 0, the mean of nothing; ascending."""
    if values is None:
        return None
    numbers = {_number(value) for value in values}
    means, sums = {Fraction(0)}, {Fraction(0)}
    for count in range(1, longest + 1):
        sums = {total + number for total in sums for number in numbers}
        means |= {total / count for total in sums}
        if len(sums) * len(numbers) > MOST_MEANS or len(means) > MOST_MEANS:
            return None
    return _ascending(means)


def _ascending(numbers: Iterable[Fraction]) -> tuple[Value, ...]:
    return tuple(int(one) if one.denominator == 1 else one for one in sorted(numbers))


def _number(value: Value | None) -> Fraction:
    if not isinstance(value, int | Fraction):
        raise ValueError(f"a numerical map gives numbers, not {shown(value)}")
    return Fraction(value)
