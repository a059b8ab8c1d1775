"""From the program in a task's YAML to a checked `Program`, or everything that is wrong with it."""

from __future__ import annotations

import keyword
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter

from harness.datasets.problems import Place, Problem
from harness.datasets.program.domains import step_domain
from harness.datasets.program.expression import FUNCTIONS, Expression, parse_expression
from harness.datasets.program.program import (
    INDICES,
    TOKENS,
    Aggregate,
    Domain,
    Map,
    Program,
    Select,
    SelectorWidth,
    Step,
)
from harness.datasets.program.spec import ProgramData, ProgramSelect, ProgramStep
from harness.datasets.tokenizers import BOS, split_words
from harness.spec.issues import unknown

COMPARISONS = ("==", "!=", "<=", ">=", "<", ">")
_RESERVED = {TOKENS, INDICES, "keys", "queries", *FUNCTIONS}


def read_program(data: ProgramData) -> tuple[Program | None, list[Problem]]:
    """Return the program of a task, or None and every problem with its place in the task file."""
    reader = _Reader(data)
    problems = [*_word_problems(data), *reader.problems]
    if problems:
        return None, problems
    order, problems = _in_order(reader.steps)
    if problems:
        return None, problems
    steps = {name: reader.steps[name] for name in order}
    domains, problems = _domains(data, steps)
    if problems:
        return None, problems
    program = Program(data.vocabulary, max(data.lengths), data.causal, steps, domains, data.output)
    problems = [(("data", "output"), text) for text in _output_problems(program)]
    return (None if problems else program), problems


class _Reader:
    """Turns every step into its class; `problems` collects what cannot be read."""

    def __init__(self, data: ProgramData) -> None:
        self.problems: list[Problem] = []
        self.values = {TOKENS, INDICES}
        self.values |= {name for name, step in data.program.items() if step.select is None}
        self.written = data.program
        self.selects = {
            name: select
            for name, step in data.program.items()
            if step.select is not None
            and (select := self._select(("data", "program", name, "select"), step.select))
        }
        self.steps: dict[str, Step] = {}
        for name, step in data.program.items():
            self._check_name(name)
            if step.select is None and (read := self._step(("data", "program", name), step)):
                self.steps[name] = read
        self._check_value(("data", "output"), data.output)

    def _step(self, place: Place, step: ProgramStep) -> Step | None:
        if step.map is not None:
            return self._map((*place, "map"), step.map, step.numerical)
        if step.selector_width is not None:
            select = self._selected((*place, "selector_width"), step.selector_width)
            if select is not None and select.latest:
                text = "the width of a select of the latest is not understood; select `all`"
                self.problems.append(((*place, "selector_width"), text))
            return None if select is None else SelectorWidth(select)
        assert step.aggregate is not None
        assert step.of is not None
        select = self._selected((*place, "aggregate"), step.aggregate)
        valid = self._check_value((*place, "of"), step.of)
        return Aggregate(select, step.of) if select is not None and valid else None

    def _map(self, place: Place, text: str, numerical: bool) -> Map | None:
        expression = self._parsed(place, text)
        if expression is None:
            return None
        valid = [self._check_value(place, name) for name in expression.names]
        return Map(expression, numerical) if all(valid) else None

    def _select(self, place: Place, spec: ProgramSelect) -> Select | None:
        valid = [self._check_value((*place, part), getattr(spec, part)) for part in _ENDS]
        place = (*place, "predicate")
        predicate = self._parsed(place, _predicate(spec.predicate))
        if predicate is None:
            return None
        odd = [name for name in predicate.names if name not in _ENDS]
        self.problems += [(place, unknown("name", name, _ENDS)) for name in odd]
        if odd or not all(valid):
            return None
        return Select(spec.keys, spec.queries, predicate, spec.which == "latest")

    def _parsed(self, place: Place, text: str) -> Expression | None:
        try:
            return parse_expression(text)
        except ValueError as error:
            self.problems.append((place, str(error)))
            return None

    def _selected(self, place: Place, name: str) -> Select | None:
        if name in self.written and self.written[name].select is None:
            self.problems.append((place, f"{name!r} is no select but a value"))
        elif name not in self.written:
            selects = [one for one, step in self.written.items() if step.select is not None]
            self.problems.append((place, unknown("select", name, selects)))
        return self.selects.get(name)

    def _check_value(self, place: Place, name: str) -> bool:
        if name in self.values:
            return True
        is_select = name in self.written
        text = f"{name!r} is a select; aggregate it first" if is_select else ""
        self.problems.append((place, text or unknown("step", name, sorted(self.values))))
        return False

    def _check_name(self, name: str) -> None:
        if name in _RESERVED or keyword.iskeyword(name):
            self.problems.append((("data", "program", name), f"the name {name!r} is taken"))


_ENDS = ("keys", "queries")


def _predicate(text: str) -> str:
    """The short forms written out: `<=` is `keys <= queries`, `true` holds always."""
    short = text.strip()
    if short in COMPARISONS:
        return f"keys {short} queries"
    return "True" if short == "true" else text


def _word_problems(data: ProgramData) -> Iterator[Problem]:
    for index, word in enumerate(data.vocabulary):
        if split_words(word) != [word] or word == BOS:
            text = f"{word!r} must be one word or one sign"
            yield ("data", "vocabulary", index), text


def _in_order(steps: Mapping[str, Step]) -> tuple[list[str], list[Problem]]:
    """Every step after those it reads; by name where that leaves a choice."""
    reads = {
        name: {one for one in step.inputs if one not in (TOKENS, INDICES)}
        for name, step in sorted(steps.items())
    }
    sorter = TopologicalSorter(reads)
    try:
        sorter.prepare()
    except CycleError as error:
        circle = error.args[1]
        text = f"steps read each other in a circle: {' -> '.join(reversed(circle))}"
        return [], [(("data", "program", circle[0]), text)]
    order: list[str] = []
    while ready := sorted(sorter.get_ready()):
        order += ready
        sorter.done(*ready)
    return order, []


def _domains(
    data: ProgramData, steps: Mapping[str, Step]
) -> tuple[dict[str, Domain], list[Problem]]:
    longest = max(data.lengths)
    domains = {TOKENS: Domain(data.vocabulary), INDICES: Domain(tuple(range(longest)))}
    problems: list[Problem] = []
    for name, step in steps.items():
        if any(one not in domains for one in step.inputs):
            continue  # what it reads is broken, and reported
        try:
            domains[name] = step_domain(step, domains, longest)
        except ValueError as error:
            problems.append((("data", "program", name), f"step {name!r}: {error}"))
    return domains, problems


def _output_problems(program: Program) -> Iterator[str]:
    if program.numerical:
        return
    if any(isinstance(value, tuple) for value in program.answers):
        yield f"{program.output!r} can be a tuple; an answer is a text or a number"
    elif len(set(map(str, program.answers))) < 2:
        yield f"{program.output!r} is always the same"
