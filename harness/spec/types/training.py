"""How the weights of a model are trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from harness.spec.key import About, Key
from harness.spec.types.scalars import SeedNumber


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingTarget:
    """Training stops early once `metric` on the validation split reaches `value`."""

    ABOUT: ClassVar = About(
        "Target",
        "When training may stop early.",
        name="target",
        rules=(
            {
                "if": {"properties": {"metric": {"const": "accuracy"}}},
                "then": {
                    "properties": {"value": {"maximum": 1, "x-message": "an accuracy is at most 1"}}
                },
            },
        ),
    )

    metric: Annotated[
        Literal["accuracy", "loss"],
        Key("Metric", "What is watched on the validation split.", ["accuracy"]),
    ] = "accuracy"
    value: Annotated[
        float,
        Key(
            "Value",
            "Training stops once accuracy is at least, or loss at most, this.",
            [0.99, 0.05],
            minimum=0,
        ),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """AdamW with linear warm-up and cosine or linear decay."""

    ABOUT: ClassVar = About("Training", "AdamW with linear warm-up and cosine or linear decay.")

    objective: Annotated[
        Literal["next_token", "answer"],
        Key(
            "Objective",
            "`answer`: the loss is taken where the task reads its answer; `next_token`: at every "
            "token.",
            ["answer"],
        ),
    ]
    steps: Annotated[
        int,
        Key(
            "Steps",
            "Most optimiser steps; the learning rate reaches its end there.",
            [2000],
            minimum=1,
            maximum=10_000_000,
        ),
    ]
    batch_size: Annotated[
        int, Key("Batch size", "Prompts per step.", [64, 128], minimum=1, maximum=65536)
    ] = 128
    learning_rate: Annotated[
        float,
        Key(
            "Learning rate",
            "Highest learning rate of AdamW, reached after the warm-up.",
            [0.001, 0.0003],
            above=0,
            maximum=10,
        ),
    ] = 1e-3
    final_learning_rate: Annotated[
        float,
        Key(
            "Final learning rate",
            "Share of learning_rate that is left at the last step of the schedule.",
            [0.1, 0.0],
            minimum=0,
            maximum=1,
        ),
    ] = 0.1
    warmup_steps: Annotated[
        int,
        Key(
            "Warm-up steps",
            "Steps over which the learning rate rises linearly.",
            [0, 100],
            minimum=0,
            maximum=1_000_000,
        ),
    ] = 100
    weight_decay: Annotated[
        float,
        Key(
            "Weight decay",
            "Decoupled weight decay of AdamW.",
            [0.0, 0.01],
            minimum=0,
            maximum=100,
        ),
    ] = 0.01
    beta1: Annotated[
        float, Key("Beta 1", "Decay of AdamW's mean gradient.", [0.9], minimum=0, below=1)
    ] = 0.9
    beta2: Annotated[
        float,
        Key("Beta 2", "Decay of AdamW's mean squared gradient.", [0.98, 0.999], minimum=0, below=1),
    ] = 0.98
    clip: Annotated[
        float,
        Key(
            "Gradient clipping",
            "Longest norm of a gradient; with `clip_rms`, its largest root mean square.",
            [1.0],
            above=0,
        ),
    ] = 1.0
    initial_scale: Annotated[
        float | None,
        Key(
            "Initial scale",
            "Standard deviation of the initial weights of all matrices but the bigram table, 0.02 "
            "in the script of Gao et al.; of what attention and MLPs write it is divided by √(2 · "
            "layers). null means 1/√fan-in, and 0.02 for embeddings.",
            [0.02],
            younger=True,
            above=0,
            maximum=10,
        ),
    ] = None
    schedule: Annotated[
        Literal["cosine", "linear"],
        Key(
            "Schedule",
            "How the learning rate falls after the warm-up.",
            ["cosine"],
            younger=True,
        ),
    ] = "cosine"
    epsilon: Annotated[
        float,
        Key(
            "Epsilon",
            "Added to the root of AdamW's mean squared gradient. Gao et al. use 0.1, with "
            "gradients divided by their root mean square.",
            [1e-8, 0.1],
            above=0,
            maximum=10,
            younger=True,
        ),
    ] = 1e-8
    gradient: Annotated[
        Literal["clip_norm", "divide_by_rms", "clip_rms"],
        Key(
            "Gradient",
            "What happens to the gradient of all parameters together, before AdamW sees it. "
            "`clip_norm`: one longer than `clip` is shortened to that; `divide_by_rms`: it is "
            "always divided by its root mean square (plus 1e-5), as the script of Gao et al. does; "
            "`clip_rms`: only one whose root mean square is above `clip`, as their paper says, "
            "which hardly ever happens, so that with a large epsilon nothing is learned.",
            ["clip_norm"],
            younger=True,
        ),
    ] = "clip_norm"
    decay: Annotated[
        Literal["before_step", "after_step"],
        Key(
            "Decay",
            "When weight decay is applied: `before_step` as in AdamW, `after_step` after the step "
            "and, in a sparse model, after the projection, as the script of Gao et al. does. "
            "Matrices decay, but for the bigram table; biases, norms and attention sinks do not.",
            ["before_step"],
            younger=True,
        ),
    ] = "before_step"
    precision: Annotated[
        Literal["float32", "bfloat16"],
        Key(
            "Precision",
            "In which precision the products of matrices in the blocks are computed. Weights, the "
            "residual stream, norms, logits and all that is kept or measured are in float32 "
            "anyway. `bfloat16` is faster on GPUs, and on CPUs that have it.",
            ["float32"],
            younger=True,
        ),
    ] = "float32"
    seed: Annotated[
        SeedNumber,
        Key("Seed", "Decides the initial weights and the order of the training data.", [0, 7]),
    ] = 0
    evaluate_every: Annotated[
        int,
        Key(
            "Evaluate every",
            "Steps between evaluations on the validation split; checkpoints are written by time.",
            [200],
            minimum=1,
            maximum=10_000_000,
        ),
    ] = 200
    target: Annotated[
        TrainingTarget | None,
        Key(
            "Target",
            "Stop early once this is reached; null trains all steps.",
            [{"metric": "accuracy", "value": 0.99}],
        ),
    ] = None
