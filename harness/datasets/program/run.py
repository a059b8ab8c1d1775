"""The interpreter: what a program computes, in plain Python and exact numbers.

This is the ground truth of a program's behaviour; compiled models are tested against it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import cast

from harness.datasets.program.expression import Value, shown
from harness.datasets.program.program import (
    INDICES,
    TOKENS,
    Map,
    Program,
    Select,
    SelectorWidth,
    Step,
)
from harness.errors import HarnessError

Row = list[Value | None]  # one value per token, None where there is none


def run_program(program: Program, tokens: Sequence[str]) -> Mapping[str, Row]:
    """Return the values of every step at every token of a prompt (without BOS).

    HarnessError if an aggregate selects different categories at one position.
    """
    values: dict[str, Row] = {TOKENS: list(tokens), INDICES: list(range(len(tokens)))}
    for name, step in program.steps.items():
        try:
            values[name] = _run(step, program, values)
        except ValueError as error:
            raise HarnessError(f"step {name!r} on {' '.join(tokens)!r}: {error}") from None
    return values


def _run(step: Step, program: Program, values: Mapping[str, Row]) -> Row:
    if isinstance(step, Map):
        return _map(step, values)
    chosen = _selected(step.select, program.causal, values)
    if isinstance(step, SelectorWidth):
        return [len(keys) for keys in chosen]
    gathered = values[step.of]
    average = _mean if program.domains[step.of].numerical else _only
    return [average([gathered[key] for key in keys]) for keys in chosen]


def _map(step: Map, values: Mapping[str, Row]) -> Row:
    results: Row = []
    for row in zip(*(values[name] for name in step.inputs), strict=True):
        defined = all(value is not None for value in row)
        inputs = cast("Mapping[str, Value]", dict(zip(step.inputs, row, strict=True)))
        results.append(step.expression.evaluate(inputs) if defined else None)
    return results


def _selected(select: Select, causal: bool, values: Mapping[str, Row]) -> list[list[int]]:
    """The positions that each position selects, ascending."""
    keys, queries = values[select.keys], values[select.queries]
    chosen = []
    for position, query in enumerate(queries):
        seen = keys[: position + 1] if causal else keys
        selected = [
            place
            for place, key in enumerate(seen)
            if key is not None and query is not None and select.holds(key, query)
        ]
        chosen.append(selected[-1:] if select.latest else selected)
    return chosen


def _mean(values: Row) -> Value:
    numbers = [Fraction(cast("int | Fraction", value)) for value in values]
    return sum(numbers, Fraction(0)) / max(1, len(numbers))


def _only(values: Row) -> Value | None:
    different = list(dict.fromkeys(values))
    if len(different) > 1:
        shown_values = " and ".join(map(shown, different[:3]))
        raise ValueError(f"a category cannot be the mean of {shown_values}; select equal ones only")
    return different[0] if different else None
