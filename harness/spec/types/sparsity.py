"""How the weights of a model are kept sparse while it is trained (Gao et al. 2025)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from harness.spec.key import About, Key


@dataclass(frozen=True, slots=True, kw_only=True)
class Anneal:
    """From dense to the final budget, between two shares of the training's steps."""

    ABOUT: ClassVar = About(
        "Anneal",
        "When weights become sparse: from all of them at `start` to the final budget at `end`.",
        name="anneal",
    )

    start: Annotated[
        float,
        Key(
            "Start",
            "Share of the steps that are trained dense.",
            [0.01],
            minimum=0,
            below=1,
        ),
    ] = 0.01
    end: Annotated[
        float,
        Key(
            "End",
            "Share of the steps after which the budget is the final one; equal to `start` it is a "
            "single jump. The paper uses 0.5, and 0.8 for its largest and sparsest models.",
            [0.5],
            minimum=0,
            maximum=1,
        ),
    ] = 0.5
    shape: Annotated[
        Literal["linear", "log_linear"],
        Key(
            "Shape",
            "`linear`: the fraction falls by the same amount each step; `log_linear`: by the same "
            "factor.",
            ["linear"],
        ),
    ] = "linear"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sparsity:
    """Budgets of nonzero weights; after each step only the largest of each tensor stay."""

    ABOUT: ClassVar = About(
        "Sparsity",
        "Keeps most weights zero: after each optimiser step every weight tensor keeps its entries "
        "of largest magnitude, as many as its budget says, and all others become exactly zero "
        "(Gao et al. 2025). Gradients and moments stay dense, so that an entry can come back. "
        "Norms, attention sinks and the bigram table are never sparse.",
        name="sparsity",
    )

    nonzero_fraction: Annotated[
        float,
        Key(
            "Nonzero fraction",
            "Share of entries that each matrix of attention and MLPs keeps, and of a table of "
            "positions.",
            [0.015625, 0.0625],
            above=0,
            maximum=1,
        ),
    ]
    embedding_fraction: Annotated[
        float | None,
        Key(
            "Embedding fraction",
            "The same of the token embedding and the unembedding; null means nonzero_fraction. "
            "The paper says that all matrices have one fraction; its script leaves embeddings "
            "d_model/256 times the others'.",
            [0.125],
            above=0,
            maximum=1,
        ),
    ] = None
    biases: Annotated[
        Literal["dense", "sparse"],
        Key(
            "Biases",
            "`sparse`: biases of linear maps keep nonzero_fraction too, as the paper says; "
            "`dense`: all of them, as its script does, which is slightly better.",
            ["dense"],
        ),
    ] = "dense"
    min_per_neuron: Annotated[
        int,
        Key(
            "Fewest per neuron",
            "Entries that every query, key, value channel and MLP neuron keeps: of what the first "
            "three and neurons read, and of what values and neurons write. They are part of the "
            "budget, and a training says how much of it; 0 lets neurons die. The script has 4.",
            [0, 4],
            minimum=0,
            maximum=65536,
        ),
    ] = 0
    rate_follows_sparsity: Annotated[
        bool,
        Key(
            "Rate follows sparsity",
            "Whether the learning rate is also multiplied by √(final fraction / present fraction) "
            "of the blocks, so that it rises while weights become sparse.",
            [True],
        ),
    ] = True
    anneal: Annotated[
        Anneal,
        Key(
            "Anneal",
            "When and how the budget falls.",
            [{"start": 0.01, "end": 0.5, "shape": "linear"}],
        ),
    ] = field(default_factory=Anneal)
