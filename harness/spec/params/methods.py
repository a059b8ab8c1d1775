"""What the built-in kinds of methods take under `params`.

A method whose class has an `ABOUT` and annotated fields of its own (`harness.spec.key`) needs no
entry here: schemas take its params from the class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from harness.spec.key import About, Key
from harness.spec.params.masks import (
    EdgePruningParams,
    KeptSmall,
    SubnetworkProbingParams,
    UniformGradientSamplingParams,
)
from harness.spec.types.names import Objective

Attributed = Annotated[
    Objective,
    Key(
        "Objective",
        "What is attributed: the task's own metric, or another; `kl` and `squared_error` compare "
        "with the whole model, where their gradient is zero.",
        ["metric"],
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class NoParams:
    """Methods without parameters."""

    ABOUT: ClassVar = About("No parameters", name="none")


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectiveParams:
    """Methods that take an objective alone."""

    ABOUT: ClassVar = About("Objective alone", name="objective")

    objective: Attributed = "metric"


@dataclass(frozen=True, slots=True, kw_only=True)
class EapIgParams:
    """Those of `eap_ig`."""

    ABOUT: ClassVar = About("Parameters of `eap_ig`", name="eap_ig")

    steps: Annotated[
        int,
        Key(
            "Steps",
            "Points on the line at which the gradient is taken.",
            [5, 20],
            minimum=1,
            maximum=10_000,
        ),
    ] = 5
    variant: Annotated[
        Literal["inputs", "activations", "clean_corrupted"],
        Key(
            "Variant",
            "What the gradient is averaged over: runs between the two `inputs`, runs in which one "
            "layer's `activations` lie between, or the two ends alone (`clean_corrupted`).",
            ["inputs"],
        ),
    ] = "inputs"
    objective: Attributed = "metric"


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskGradientIgParams:
    """Those of `mask_gradient_ig`."""

    ABOUT: ClassVar = About("Parameters of `mask_gradient_ig`", name="mask_gradient_ig")

    steps: Annotated[
        int,
        Key(
            "Steps",
            "Points between the empty and the full mask at which the gradient is taken.",
            [10],
            minimum=1,
            maximum=10_000,
        ),
    ] = 10
    objective: Attributed = "metric"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeAttributionParams:
    """Those of `node_attribution`."""

    ABOUT: ClassVar = About("Parameters of `node_attribution`", name="node_attribution")

    steps: Annotated[
        int,
        Key(
            "Steps",
            "Points between the corrupted and the clean input at which the gradient is taken; 1 "
            "takes the clean run alone.",
            [1],
            minimum=1,
            maximum=10_000,
        ),
    ] = 1
    objective: Attributed = "metric"


@dataclass(frozen=True, slots=True, kw_only=True)
class AcdcParams:
    """Those of `acdc`."""

    ABOUT: ClassVar = About("Parameters of `acdc`", name="acdc")

    thresholds: Annotated[
        tuple[float, ...],
        Key(
            "Thresholds",
            "An edge goes when the objective grows by less than this; one circuit for each.",
            [[0.01]],
            min_items=1,
            max_items=100,
            unique=True,
        ),
    ] = (0.0001, 0.000316, 0.001, 0.00316, 0.01, 0.0316, 0.1, 0.316)
    sizes: Annotated[
        tuple[Annotated[float, Key(above=0, below=1)], ...] | None,
        Key(
            "Sizes",
            "Shares of all edges to reach instead, by bisection of the threshold; null uses the "
            "thresholds.",
            [[0.03]],
            min_items=1,
            max_items=100,
        ),
    ] = None
    objective: KeptSmall = "kl"
    speculate: Annotated[
        int,
        Key(
            "Speculate",
            "Most deletions that are tried in one batch; the circuit is the same for any number.",
            [1, 16],
            minimum=1,
            maximum=1024,
        ),
    ] = 16


METHOD_PARAMS: dict[str, type] = {
    "random": NoParams,
    "random_paths": NoParams,
    "activation_patching": ObjectiveParams,
    "eap": ObjectiveParams,
    "eap_ig": EapIgParams,
    "mask_gradient_ig": MaskGradientIgParams,
    "information_flow_routes": NoParams,
    "node_patching": ObjectiveParams,
    "node_attribution": NodeAttributionParams,
    "acdc": AcdcParams,
    "edge_pruning": EdgePruningParams,
    "subnetwork_probing": SubnetworkProbingParams,
    "uniform_gradient_sampling": UniformGradientSamplingParams,
}
