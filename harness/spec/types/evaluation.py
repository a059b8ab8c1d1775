"""What a faithfulness score means, and what a suite may change in it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Annotated, ClassVar, Literal

from harness.spec.key import About, Key, at_most_one, exactly_one
from harness.spec.types.names import (
    MIB_SIZES,
    Ablation,
    EdgePositions,
    ExtraMeasure,
    HeadBias,
    Inputs,
    KeyValueEdges,
    Metric,
)
from harness.spec.types.scalars import Text

Size = Annotated[float, Key(above=0, maximum=1)]
Count = Annotated[int, Key(minimum=1, maximum=1_000_000_000)]

HOW_LARGE = ("sizes", "counts", "targets")
"""What says how large the measured circuits are: one of these."""

ONE_HOW_LARGE = tuple(at_most_one(one, other) for one, other in combinations(HOW_LARGE, 2))


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class CircuitTarget:
    """What a circuit has to reach: a faithfulness, or a loss that it may not exceed.

    Exactly one of its fields is not None.
    """

    ABOUT: ClassVar = About(
        "Target",
        "What the smallest circuit is searched for: a faithfulness, or a loss not to exceed.",
        name="circuit_target",
        rules=(exactly_one("faithfulness", "kl", "cross_entropy", "squared_error", "task_loss"),),
    )

    faithfulness: Annotated[
        float | None,
        Key("Faithfulness", "Least faithfulness; 1 is the model.", [0.95], above=0, maximum=1),
    ] = None
    kl: Annotated[
        float | None,
        Key("KL", "Largest mean KL(model ‖ circuit), in nats.", [0.1], minimum=0),
    ] = None
    cross_entropy: Annotated[
        float | None,
        Key("Cross-entropy", "Largest mean loss of correct answers, in nats.", [0.2], minimum=0),
    ] = None
    squared_error: Annotated[
        float | None,
        Key("Squared error", "Largest mean squared distance of the logits.", [0.01], minimum=0),
    ] = None
    task_loss: Annotated[
        float | None,
        Key(
            "Task loss",
            "Largest mean loss of the choice between good and bad answers, in nats.",
            [0.15],
            younger=True,
            minimum=0,
        ),
    ] = None

    def __repr__(self) -> str:
        """As titles of cells and tables show it: `kl 0.1`."""
        return f"{self.measure} {self.value:g}"

    @property
    def measure(self) -> str:
        """The measure that is to reach `value`."""
        return self._said[0]

    @property
    def value(self) -> float:
        """What it has to reach."""
        return self._said[1]

    @property
    def _said(self) -> tuple[str, float]:
        names = ("faithfulness", "kl", "cross_entropy", "squared_error", "task_loss")
        return next((n, x) for n in names if (x := getattr(self, n)) is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The choices that define a faithfulness score, the metric, and how much is measured.

    `measures`: what rows and tables show besides. `sizes` are empty where `counts` or `targets`
    say how large circuits are.
    """

    ABOUT: ClassVar = About(
        "Evaluation",
        "The choices that define a faithfulness score, the metric, and how much is measured.",
        rules=ONE_HOW_LARGE,
    )

    granularity: Annotated[
        str,
        Key("Granularity", "What a circuit consists of.", ["edge"], choice=True, changeable=True),
    ] = "edge"
    component: Annotated[
        str,
        Key(
            "Component",
            "Which parts are the ends of edges: heads with Q, K and V apart, and MLPs.",
            ["heads_qkv_mlps"],
            choice=True,
            changeable=True,
            by_granularity=True,
        ),
    ] = "heads_qkv_mlps"
    dictionary: Annotated[
        Text | None,
        Key(
            "Dictionary",
            "Of granularity `feature`: name or path of the dictionaries whose features circuits "
            "consist of.",
            ["othello6-k32"],
            changeable=True,
            younger=True,
            absent=True,
            part="content",
        ),
    ] = None
    ablation: Annotated[
        Ablation,
        Key(
            "Ablation",
            "What replaces a dropped edge: the corrupted run's activation, the mean (over all "
            "positions, or at each), a learned constant, zero, or that of a random other prompt.",
            ["interchange"],
            choice=True,
            changeable=True,
            by_granularity=True,
        ),
    ]
    positions: Annotated[
        EdgePositions,
        Key(
            "Positions",
            "Where edges are dropped: `all`: an edge is kept or dropped at all token positions at "
            "once; `per_token`: at each position on its own, so that there are as many times more "
            "edges as a prompt has tokens, and all prompts must have one length.",
            ["all"],
            choice=True,
            changeable=True,
            by_granularity=True,
        ),
    ]
    direction: Annotated[
        Literal["noising"],
        Key(
            "Direction",
            "`noising`: run the clean prompt and put the replacement in.",
            ["noising"],
            choice=True,
        ),
    ] = "noising"
    set: Annotated[
        Literal["complement"],
        Key(
            "Set",
            "Which edges are replaced: everything but the circuit.",
            ["complement"],
            choice=True,
        ),
    ] = "complement"
    inputs: Annotated[
        Inputs,
        Key(
            "Inputs",
            "Which writers the embeddings are: the token embedding (positions stay), token and "
            "position summed, both apart, or none (always clean).",
            ["token"],
            choice=True,
            changeable=True,
        ),
    ] = "token"
    head_bias: Annotated[
        HeadBias,
        Key(
            "Head bias",
            "Whether attention's output bias belongs to no head (and stays) or in equal parts to "
            "the heads; `folded`: it stays and so do the heads' value biases, as if folded into "
            "it. Matters under zero ablation only.",
            ["unattached"],
            choice=True,
            changeable=True,
        ),
    ] = "unattached"
    key_value_edges: Annotated[
        KeyValueEdges,
        Key(
            "Key and value edges",
            "Where heads share keys and values in groups: `grouped`: the heads of a group read "
            "them by the same edges; `per_head`: each query head has key and value edges of its "
            "own, as in MIB's graph. Without shared heads both are the same.",
            ["per_head"],
            choice=True,
            changeable=True,
            younger=True,
        ),
    ] = "grouped"
    answers: Annotated[
        Literal["right", "swapped", "nonsense"],
        Key(
            "Answers",
            "Which answers circuits are found for and measured on: the task's, or as a control "
            "`swapped` (good for bad) or `nonsense` (two tokens that answer no prompt stand for "
            "the two sides). A search that succeeds with these says little by succeeding.",
            ["swapped"],
            choice=True,
            changeable=True,
            younger=True,
        ),
    ] = "right"
    metric: Annotated[
        Metric,
        Key(
            "Metric",
            "Behaviour that is compared: difference of logits or of probabilities between good "
            "and bad answers, or squared distance to the model's outputs (for outputs that are "
            "numbers).",
            ["logit_diff"],
            changeable=True,
        ),
    ] = "logit_diff"
    measures: Annotated[
        tuple[ExtraMeasure, ...],
        Key(
            "Measures",
            "What rows and tables show besides: `agreement` (the exact match of Edge Pruning) and "
            "other measures of every task; of tasks with ordered answers `prob_diff_10` (±10) and "
            "`kendall_tau`. `harness list metrics` defines them.",
            [["prob_diff_10", "kendall_tau", "agreement"]],
            changeable=True,
            unique=True,
        ),
    ] = ()
    sizes: Annotated[
        tuple[Size, ...],
        Key(
            "Sizes",
            "Circuit sizes as shares of all elements, ascending.",
            [[0.01, 0.1, 1.0]],
            changeable=True,
            min_items=1,
            max_items=1000,
            unique=True,
        ),
    ] = MIB_SIZES
    counts: Annotated[
        tuple[Count, ...] | None,
        Key(
            "Counts",
            "Circuit sizes as numbers of elements, ascending, instead of `sizes`.",
            [[10, 30, 100]],
            changeable=True,
            younger=True,
            absent=True,
            min_items=1,
            max_items=1000,
            unique=True,
        ),
    ] = None
    targets: Annotated[
        tuple[CircuitTarget, ...] | None,
        Key(
            "Targets",
            "Instead of `sizes`: for each the smallest circuit that reaches it is searched for, by "
            "bisection along the method's own order, and measured.",
            [[{"faithfulness": 0.95}, {"kl": 0.1}]],
            changeable=True,
            younger=True,
            absent=True,
            min_items=1,
            max_items=100,
        ),
    ] = None
    searched_on: Annotated[
        Literal["test", "discovery"],
        Key(
            "Searched on",
            "On which pairs the circuits of `targets` are searched for. `discovery`: the test "
            "pairs are fresh, and results say whether a circuit reaches its target on them too.",
            ["discovery"],
            changeable=True,
            younger=True,
        ),
    ] = "test"
    margin: Annotated[
        float,
        Key(
            "Margin",
            "By how much more than their values circuits have to reach `targets` on the pairs they "
            "are searched for on, so that these hold on fresh ones: with 0.02 a task loss of 0.15 "
            "is searched for at 0.13.",
            [0.02],
            changeable=True,
            younger=True,
            minimum=0,
            maximum=1,
        ),
    ] = 0.0
    discovery_pairs: Annotated[
        int,
        Key(
            "Discovery pairs",
            "Prompt pairs (split train) that methods may use.",
            [128],
            changeable=True,
            minimum=1,
            maximum=1_000_000,
        ),
    ] = 128
    discovery_repeats: Annotated[
        bool,
        Key(
            "Discovery repeats",
            "Whether clean prompts may come again among the discovery pairs where the split has "
            "fewer: all once, then all again in another order, with new twins where the "
            "corruption draws words. If not, asking for more than there are is an error.",
            [True],
            changeable=True,
        ),
    ] = False
    test_pairs: Annotated[
        int,
        Key(
            "Test pairs",
            "Prompt pairs (split test) on which circuits are measured.",
            [256],
            changeable=True,
            minimum=2,
            maximum=1_000_000,
        ),
    ] = 256

    def __post_init__(self) -> None:
        if self.counts is not None or self.targets is not None:
            object.__setattr__(self, "sizes", ())
