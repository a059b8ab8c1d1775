"""A method, and how its scores become circuits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from harness.spec.key import About, Key
from harness.spec.types.scalars import Description, Name, SpecVersion, Text, Title, Version

Range = Annotated[tuple[float, ...], Key(min_items=2, max_items=2)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ParamSearch:
    """A search over a method's params for the smallest circuits that reach the targets."""

    ABOUT: ClassVar = About(
        "Search",
        "Trials of the method at other params and start noise, for the smallest circuits that "
        "reach `targets`. All trials are part of the cost.",
        name="search",
    )

    trials: Annotated[
        int, Key("Trials", "Trainings, one after the other.", [16], minimum=1, maximum=10_000)
    ]
    ranges: Annotated[
        Mapping[Text, Range],
        Key(
            "Ranges",
            "Params that are searched, with the smallest and the largest value; on a log scale "
            "unless the smallest is 0. A param that is a list gets one value.",
            [{"prices": [0.3, 10], "learning_rate": [0.01, 0.1]}],
            min_keys=1,
        ),
    ]
    sampler: Annotated[
        Literal["tpe", "random"],
        Key(
            "Sampler",
            "`tpe`: params are drawn where earlier trials gave small circuits (optuna's "
            "tree-structured Parzen estimator); `random`: anywhere.",
            ["tpe"],
        ),
    ] = "tpe"


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """How scores become circuits of a wanted size."""

    ABOUT: ClassVar = About("Selection")

    rule: Annotated[
        Literal["top_n", "greedy"],
        Key(
            "Rule",
            "`top_n`: the edges with the highest scores; `greedy`: grown backwards from the "
            "logits, always connected.",
            ["top_n"],
        ),
    ] = "top_n"
    order: Annotated[
        Literal["absolute", "signed"],
        Key(
            "Order",
            "Whether edges are ranked by the magnitude of their score or by the score with its "
            "sign.",
            ["absolute"],
        ),
    ] = "absolute"
    clean_up: Annotated[
        bool,
        Key(
            "Clean-up",
            "Whether elements are dropped one by one, the weakest first, from the circuits of "
            "`targets` while they still reach them.",
            [True],
            younger=True,
        ),
    ] = False
    search: Annotated[
        ParamSearch | None,
        Key(
            "Search",
            "For methods whose circuits are cut inside active sets, under `targets`.",
            [{"trials": 16, "ranges": {"prices": [0.3, 10]}}],
            younger=True,
            absent=True,
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A way to score or find edges; `params` are the method's own."""

    ABOUT: ClassVar = About(
        "Method",
        "A way to score the edges of a graph, and how scores become circuits.",
        params_of="kind",
    )

    spec_version: SpecVersion = 1
    name: Annotated[Name, Key(examples=["eap_ig"], part="label")]
    title: Annotated[Title, Key(examples=["Attribution patching with integrated gradients"])]
    description: Annotated[
        Description,
        Key(examples=["Averages the gradient over runs between the two prompts."]),
    ] = ""
    version: Version = "1"
    kind: Annotated[
        Text,
        Key(
            "Kind",
            "The code: {kinds}, or one that an installed package adds.",
            ["eap", "eap_ig"],
            max_length=128,
        ),
    ]
    params: Annotated[
        Mapping[str, Any], Key("Parameters", "The method's own parameters.", [{"steps": 5}])
    ] = field(default_factory=dict)
    selection: Annotated[
        Selection,
        Key(
            "Selection",
            "How scores become circuits of a wanted size.",
            [{"rule": "top_n", "order": "absolute"}],
        ),
    ] = Selection()
