"""How dictionaries are trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from harness.spec.key import About, Key
from harness.spec.types.scalars import SeedNumber


@dataclass(frozen=True, slots=True, kw_only=True)
class DictionaryTraining:
    """Adam with linear warm-up and decay, on shuffled activations of all sites at once."""

    ABOUT: ClassVar = About(
        "Training of dictionaries",
        "Adam on shuffled activations, of all sites in one pass over the model.",
        name="dictionary_training",
    )

    tokens: Annotated[
        int,
        Key(
            "Tokens",
            "Activations of each site that are trained on; one that is used again counts again.",
            [4_000_000],
            minimum=1,
            maximum=10**12,
        ),
    ]
    batch_tokens: Annotated[
        int,
        Key("Batch", "Activations per step.", [4096], minimum=1, maximum=1_000_000),
    ] = 4096
    buffer_tokens: Annotated[
        int,
        Key(
            "Buffer",
            "Activations of each site that are held and shuffled; at least a batch.",
            [65536],
            minimum=1,
            maximum=100_000_000,
        ),
    ] = 65536
    buffer_uses: Annotated[
        int,
        Key(
            "Uses of the buffer",
            "How often its activations are trained on before new ones are taken from the model.",
            [1, 3],
            minimum=1,
            maximum=1000,
        ),
    ] = 3
    learning_rate: Annotated[
        float,
        Key("Learning rate", "Highest learning rate of Adam.", [0.002], above=0, maximum=10),
    ] = 2e-3
    warmup_steps: Annotated[
        int,
        Key(
            "Warm-up steps",
            "Steps over which the learning rate rises linearly.",
            [200],
            minimum=0,
            maximum=1_000_000,
        ),
    ] = 200
    decay: Annotated[
        float,
        Key(
            "Decay",
            "Share of the steps, the last ones, over which the learning rate falls to a fiftieth.",
            [0.3],
            minimum=0,
            maximum=1,
        ),
    ] = 0.3
    beta1: Annotated[
        float, Key("Beta 1", "Decay of Adam's mean gradient.", [0.9], minimum=0, below=1)
    ] = 0.9
    beta2: Annotated[
        float, Key("Beta 2", "Decay of Adam's mean squared gradient.", [0.99], minimum=0, below=1)
    ] = 0.99
    precision: Annotated[
        Literal["float32", "bfloat16"],
        Key(
            "Precision",
            "Of the matrix products; bfloat16 pays on GPUs and on processors with AMX.",
            ["float32"],
        ),
    ] = "float32"
    resample_every: Annotated[
        int,
        Key(
            "Resample every",
            "Steps after which features that were never active since the last time are moved to "
            "activations that are badly decoded; 0: never.",
            [100],
            minimum=0,
            maximum=10_000_000,
        ),
    ] = 100
    resample_until: Annotated[
        float,
        Key(
            "Resample until",
            "Share of the steps after which dead features stay dead.",
            [0.8],
            minimum=0,
            maximum=1,
        ),
    ] = 0.8
    finetune_tokens: Annotated[
        int,
        Key(
            "Tokens of the fine-tuning",
            "Tokens of whole prompts on which all dictionaries are trained together at the end, "
            "with every site replaced at once, to leave the model's answers as they are (the "
            "divergence from them in nats); 0: none. For topk and batchtopk.",
            [500_000],
            younger=True,
            minimum=0,
            maximum=10**12,
        ),
    ] = 0
    finetune_learning_rate: Annotated[
        float,
        Key(
            "Learning rate of the fine-tuning",
            "Highest learning rate of Adam there.",
            [3e-4],
            younger=True,
            above=0,
            maximum=10,
        ),
    ] = 3e-4
    finetune_sharpness: Annotated[
        float,
        Key(
            "Sharpness of the fine-tuning",
            "Above 1, answers are compared there a second time, at this many times their logits: "
            "at 4 what counts are the best answer and those nearly as good. It keeps the model's "
            "choices, for more divergence in all.",
            [4.0],
            younger=True,
            minimum=1,
            maximum=100,
        ),
    ] = 1.0
    finetune_reconstruction: Annotated[
        float,
        Key(
            "Reconstruction in the fine-tuning",
            "Weight there of what sites hold that is not decoded, the mean over sites of its share "
            "of the variance, beside the divergences in nats. At 0 dictionaries fit each other, "
            "and each of them alone fits the model less.",
            [0.2],
            younger=True,
            minimum=0,
            maximum=1e6,
        ),
    ] = 0.0
    evaluate_every: Annotated[
        int,
        Key(
            "Evaluate every",
            "Steps between measurements on held-out prompts.",
            [250],
            minimum=1,
            maximum=10_000_000,
        ),
    ] = 250
    seed: Annotated[
        SeedNumber,
        Key("Seed", "Decides the first directions, the prompts and their order.", [0, 7]),
    ] = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DictionaryTarget:
    """Training stops early once `metric` on held-out prompts is at most `value`."""

    ABOUT: ClassVar = About(
        "Target of a dictionary", "When training may stop early.", name="dictionary_target"
    )

    metric: Annotated[
        Literal["splice_kl"],
        Key(
            "Metric",
            "`splice_kl`: mean divergence (nats) of the next-token probabilities from the model's "
            "when every site is replaced by what its dictionary decodes, all at once.",
            ["splice_kl"],
        ),
    ] = "splice_kl"
    value: Annotated[
        float, Key("Value", "Training stops once the metric is at most this.", [0.05], minimum=0)
    ]
