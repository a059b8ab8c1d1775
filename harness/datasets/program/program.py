"""Programs over the tokens of a prompt, after RASP (Weiss et al. 2021).

A step has one value at every token, from values of the same position (`map`) or of selected ones
(`aggregate`, `selector_width`). A `select` says for every query which keys it looks at. Steps are
categorical (a finite set of values, or no value) or numerical (a number, always one).

Rules that hold in the interpreter and in compiled models alike:
- a position without a value is never selected and selects nothing;
- the mean of nothing is 0 for numbers and no value for categories;
- BOS, at position 0, has no values and is never selected.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from harness.datasets.program.expression import Expression, Value
from harness.datasets.tokenizers import BOS

TOKENS, INDICES = "tokens", "indices"

CARRIER = 1
"""The token whose logit carries a numerical output: the first of the vocabulary, after BOS."""


@dataclass(frozen=True)
class Select:
    """Which keys a query looks at; `latest`: only the last position among them."""

    keys: str
    queries: str
    predicate: Expression
    latest: bool = False

    @property
    def inputs(self) -> tuple[str, ...]:
        """The steps whose values decide."""
        return self.keys, self.queries

    def holds(self, key: Value, query: Value) -> bool:
        """Whether a position with this key is selected by one with this query."""
        return bool(self.predicate.evaluate({"keys": key, "queries": query}))


@dataclass(frozen=True)
class Map:
    """A value computed from others at the same position."""

    expression: Expression
    numerical: bool = False

    @property
    def inputs(self) -> tuple[str, ...]:
        """The steps that the expression reads."""
        return self.expression.names


@dataclass(frozen=True)
class Aggregate:
    """The mean of `of` over the selected positions."""

    select: Select
    of: str

    @property
    def inputs(self) -> tuple[str, ...]:
        """The steps that decide what is selected, and the one that is gathered."""
        return *self.select.inputs, self.of


@dataclass(frozen=True)
class SelectorWidth:
    """How many positions are selected."""

    select: Select

    @property
    def inputs(self) -> tuple[str, ...]:
        """The steps that decide what is selected."""
        return self.select.inputs


Step = Map | Aggregate | SelectorWidth


@dataclass(frozen=True)
class Domain:
    """Every value that a step can have (possibly more); None where a number has too many."""

    values: tuple[Value, ...] | None
    numerical: bool = False


@dataclass(frozen=True)
class Program:
    """A checked program.

    `steps` come after those they read, and by name where that leaves a choice, so that the
    order in which a file lists them does not matter. `longest`: tokens of a prompt without BOS.
    """

    vocabulary: tuple[str, ...]
    longest: int
    causal: bool
    steps: Mapping[str, Step]
    domains: Mapping[str, Domain]  # of tokens, indices and every step
    output: str

    @property
    def numerical(self) -> bool:
        """Whether the output is a number."""
        return self.domains[self.output].numerical

    @property
    def answers(self) -> tuple[Value, ...]:
        """Every value of a categorical output, in the order of its dimensions; else empty."""
        values = self.domains[self.output].values
        return () if self.numerical or values is None else values

    @cached_property
    def tokens(self) -> tuple[str, ...]:
        """Every token after BOS: the vocabulary, then answers that are no word of it."""
        names = [str(value) for value in self.answers]
        return tuple(dict.fromkeys([*self.vocabulary, *names]))

    @cached_property
    def answer_ids(self) -> Mapping[Value, int]:
        """The token id of every value of a categorical output; BOS has id 0."""
        ids = {name: index for index, name in enumerate((BOS, *self.tokens))}
        return {value: ids[str(value)] for value in self.answers}
