"""What methods that train masks take under `params`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from harness.spec.key import About, Key
from harness.spec.types.names import Objective

KeptSmall = Annotated[
    Objective,
    Key(
        "Objective",
        "What is kept small: the task's own metric, or another; `kl` and `squared_error` compare "
        "with the whole model.",
        ["kl"],
    ),
]
Steps = Annotated[
    int,
    Key("Steps", "Optimiser steps of each training.", [1000], minimum=1, maximum=1_000_000),
]
LearningRate = Annotated[
    float,
    Key("Learning rate", "Step size of the masks' parameters.", above=0, maximum=100),
]
BatchSize = Annotated[
    int,
    Key("Batch size", "Prompt pairs of each step.", [32], minimum=1, maximum=65536),
]
Draws = Annotated[
    int,
    Key(
        "Draws",
        "Masks drawn in each step, each run on all its prompts; their objectives are averaged. A "
        "step costs that many times as much.",
        [8],
        minimum=1,
        maximum=1024,
    ),
]
Price = Annotated[float, Key(minimum=0)]
PRICES = (0.001, 0.003, 0.01, 0.03, 0.1)


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgePruningParams:
    """Those of `edge_pruning`."""

    ABOUT: ClassVar = About("Parameters of `edge_pruning`", name="edge_pruning")

    sparsities: Annotated[
        tuple[Annotated[float, Key(above=0, maximum=2)], ...] | None,
        Key(
            "Sparsities",
            "Targets of the trained share of dropped edges, one training each; above 1 presses on "
            "to the end. Null trains one per measured size.",
            [[0.97]],
            min_items=1,
            max_items=100,
        ),
    ] = None
    steps: Steps = 1000
    learning_rate: Annotated[LearningRate, Key(examples=[0.8])] = 0.8
    multiplier_rate: Annotated[
        float,
        Key(
            "Multiplier rate",
            "Step size of the Lagrange multipliers, which climb.",
            [0.8],
            above=0,
            maximum=100,
        ),
    ] = 0.8
    warmup: Annotated[
        float,
        Key(
            "Warm-up",
            "Share of the steps in which the learning rate rises.",
            [0.07],
            minimum=0,
            maximum=1,
        ),
    ] = 0.07
    sparsity_warmup: Annotated[
        float,
        Key(
            "Sparsity warm-up",
            "Share of the steps in which the target rises from 0.",
            [0.8],
            minimum=0,
            maximum=1,
        ),
    ] = 0.8
    batch_size: BatchSize = 32
    draws: Draws = 1
    objective: KeptSmall = "kl"
    control: Annotated[
        Literal["expected", "sampled"],
        Key(
            "Control",
            "Which sparsity is steered: the closed-form expected one, or that of the mask drawn "
            "at each step, as published.",
            ["expected"],
        ),
    ] = "expected"
    nodes: Annotated[
        bool,
        Key("Nodes", "Whether every writer has a mask of its own beside its edges'.", [False]),
    ] = False
    weight_decay: Annotated[
        float,
        Key(
            "Weight decay",
            "AdamW's; with `sampled` control it is what moves masks out of saturation.",
            [0.01],
            minimum=0,
            maximum=10,
        ),
    ] = 0.0
    start: Annotated[
        float,
        Key(
            "Start",
            "Mean of the masks' parameters at the start.",
            [10.0],
            minimum=-20,
            maximum=20,
        ),
    ] = 10.0
    clamp: Annotated[
        float | None,
        Key(
            "Clamp",
            "Largest magnitude of the masks' parameters; null sets none.",
            [5.0, None],
            above=0,
        ),
    ] = 10.0
    beta2: Annotated[
        float,
        Key(
            "Adam's second beta",
            "How slowly the size of past gradients is forgotten: over about 1/(1 - beta2) steps.",
            [0.99],
            minimum=0,
            below=1,
        ),
    ] = 0.999


@dataclass(frozen=True, slots=True, kw_only=True)
class SubnetworkProbingParams:
    """Those of `subnetwork_probing`."""

    ABOUT: ClassVar = About("Parameters of `subnetwork_probing`", name="subnetwork_probing")

    prices: Annotated[
        tuple[Price, ...],
        Key(
            "Prices",
            "What each edge expected to be kept costs, in units of the objective (nats for kl); "
            "one training each.",
            [[0.01]],
            min_items=1,
            max_items=100,
        ),
    ] = PRICES
    steps: Steps = 1000
    learning_rate: Annotated[LearningRate, Key(examples=[0.1])] = 0.1
    batch_size: BatchSize = 32
    draws: Draws = 1
    objective: KeptSmall = "kl"


@dataclass(frozen=True, slots=True, kw_only=True)
class UniformGradientSamplingParams:
    """Those of `uniform_gradient_sampling`."""

    ABOUT: ClassVar = About(
        "Parameters of `uniform_gradient_sampling`", name="uniform_gradient_sampling"
    )

    prices: Annotated[
        tuple[Price, ...],
        Key(
            "Prices",
            "What the keeping probability of each edge costs, in units of the objective (nats for "
            "kl); one training each.",
            [[0.01]],
            min_items=1,
            max_items=100,
        ),
    ] = PRICES
    steps: Steps = 1000
    learning_rate: Annotated[LearningRate, Key(examples=[0.1])] = 0.1
    batch_size: BatchSize = 32
    draws: Draws = 1
    objective: KeptSmall = "kl"
