"""Data made by a program: what it computes from random tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from harness.spec.key import About, Key, exactly_one
from harness.spec.types.scalars import DEFAULT_SHARES, DataSeed, Shares, Text

StepName = Annotated[
    str,
    Key(
        pattern=r"^[a-z_][a-z0-9_]*$(?!\n)",
        message="must be lower-case letters, digits or '_', not starting with a digit",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramSelect:
    """Which keys each query selects: those for which the predicate holds, or their latest."""

    ABOUT: ClassVar = About("Select")

    keys: Annotated[Text, Key("Keys", "The value by which a position is selected.", ["indices"])]
    queries: Annotated[Text, Key("Queries", "The value by which a position selects.", ["target"])]
    predicate: Annotated[
        Text,
        Key(
            "Predicate",
            "A comparison of the key (left) with the query (right), `true`, or an expression over "
            "`keys` and `queries`.",
            ["==", "<=", "true", "keys == queries - 1"],
            max_length=500,
        ),
    ]
    which: Annotated[
        Literal["all", "latest"],
        Key(
            "Which",
            "`all` positions for which the predicate holds, or only the `latest` of them.",
            ["latest"],
        ),
    ] = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramStep:
    """One step: exactly one of `map`, `select`, `aggregate` (with `of`), `selector_width`."""

    ABOUT: ClassVar = About(
        "Step of a program",
        rules=(
            exactly_one("map", "select", "aggregate", "selector_width"),
            {
                "if": {"properties": {"numerical": {"const": True}}, "required": ["numerical"]},
                "then": {"required": ["map"], "x-message": "only a map can be numerical"},
            },
        ),
        needs={"aggregate": ["of"], "of": ["aggregate"]},
    )

    map: Annotated[
        Text | None,
        Key(
            "Map",
            "An expression over other steps' values at the same position.",
            ["length - indices", "tokens == 'x'"],
            absent=True,
            max_length=500,
        ),
    ] = None
    numerical: Annotated[
        bool,
        Key(
            "Numerical",
            "Whether the value of a map is one number in one dimension instead of a category with "
            "a dimension for each value.",
            [True],
        ),
    ] = False
    select: Annotated[
        ProgramSelect | None,
        Key(
            "Select",
            "Which positions (keys) each position (query) looks at.",
            [{"keys": "indices", "queries": "target", "predicate": "=="}],
            absent=True,
        ),
    ] = None
    aggregate: Annotated[
        Text | None,
        Key(
            "Aggregate",
            "Name of a select; the step is the mean of `of` over the selected positions, 0 or no "
            "value where nothing is selected.",
            ["flip"],
            absent=True,
        ),
    ] = None
    of: Annotated[
        Text | None,
        Key(
            "Of",
            "What is aggregated; a category must be the same at all positions that are selected "
            "together.",
            ["tokens"],
            absent=True,
        ),
    ] = None
    selector_width: Annotated[
        Text | None,
        Key(
            "Selector width",
            "Name of a select; the step is how many positions it selects.",
            ["same"],
            absent=True,
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramData:
    """Random tokens, and as answers what a program computes from them at every position."""

    ABOUT: ClassVar = About("Data made by a program")

    kind: Literal["program"] = "program"
    vocabulary: Annotated[
        tuple[Text, ...],
        Key(
            "Vocabulary",
            "The tokens that prompts are drawn from, each equally often.",
            [["x", "y", "z"]],
            min_items=2,
            max_items=256,
            unique=True,
        ),
    ]
    lengths: Annotated[
        tuple[Annotated[int, Key(minimum=1, maximum=64)], ...],
        Key(
            "Lengths",
            "Prompt lengths in tokens, without BOS, drawn evenly.",
            [[3, 4, 5]],
            min_items=1,
            unique=True,
        ),
    ]
    causal: Annotated[
        bool,
        Key("Causal", "Whether a position selects only itself and earlier ones.", [False]),
    ] = False
    program: Annotated[
        Mapping[StepName, ProgramStep],
        Key(
            "Program",
            "Steps by name; a step reads `tokens`, `indices` (0 for the first token) and other "
            "steps. Their order in the file does not matter.",
            [
                {
                    "same": {"select": {"keys": "tokens", "queries": "tokens", "predicate": "=="}},
                    "count": {"selector_width": "same"},
                }
            ],
            min_keys=1,
            max_keys=64,
        ),
    ]
    output: Annotated[
        Text,
        Key("Output", "The step whose value at a position is the right answer there.", ["count"]),
    ]
    seed: DataSeed = 0
    shares: Shares = field(default_factory=lambda: dict(DEFAULT_SHARES))


SPEC = ProgramData
