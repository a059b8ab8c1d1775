"""A task: its tokens, its data, its evaluation and its model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from harness.spec.data_kinds import DataSpec, data_classes
from harness.spec.key import About, Key, Kinds
from harness.spec.types.evaluation import Evaluation
from harness.spec.types.model import Model
from harness.spec.types.scalars import (
    Description,
    FileStem,
    Name,
    SpecVersion,
    Text,
    Title,
    Version,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerSpec:
    """How text becomes tokens.

    `path` is for kind `file` (a `tokenizer.json`). Kind `model` is the file of the model that
    a cell uses: its `path` is filled in when a model is chosen, never in a spec. `bos: auto` puts
    BOS where the file itself does; any other text names the token.
    """

    ABOUT: ClassVar = About("Tokenizer", "How text becomes tokens.", name="tokenizer")

    kind: Annotated[
        Literal["words", "characters", "moves", "file", "model"],
        Key(
            "Kind",
            "`words`, `characters` and `moves` take their vocabulary from the task; `file` reads "
            "a tokenizer.json; `model` takes that of the model the task is run with.",
            ["words"],
        ),
    ]
    bos: Annotated[
        bool | Text,
        Key(
            "BOS",
            "Whether every prompt begins with a fixed token. For kinds `file` and `model` also "
            "`auto`, as the tokenizer.json itself begins a text, or the token's own text, where "
            "the file and the tokenizer_config.json beside it do not say which one is BOS.",
            [False, "auto", "<|startoftext|>"],
        ),
    ] = False
    path: Annotated[
        Text | None,
        Key(
            "Path",
            "The tokenizer.json; looked for beside this file, in the folders of HARNESS_FILES, "
            "and in the current folder.",
            ["gpt2/tokenizer.json"],
            absent=True,
            only_for=("file",),
        ),
    ] = None


Data = Annotated[
    DataSpec,
    Kinds(
        "data",
        "Data",
        "Where prompt pairs come from.",
        Key(
            "Kind",
            "`generator`: registered Python code; `template`: sentence frames in this file; "
            "`file`: JSON Lines, CSV or Parquet; `program`: what a small program computes from "
            "random tokens.",
            ["generator"],
        ),
        members=data_classes,
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A behaviour: prompt pairs, answer tokens, where they are read, and how it is scored."""

    ABOUT: ClassVar = About(
        "Task",
        "A behaviour: prompt pairs, answer tokens, where they are read, the model that shows it, "
        "and how circuits are scored.",
    )

    spec_version: SpecVersion = 1
    name: Annotated[Name, Key(examples=["bracket_matching"])]
    title: Annotated[Title, Key(examples=["Close the innermost open bracket"])]
    description: Annotated[
        Description,
        Key(examples=["The corrupted twin has another bracket at the innermost opener."]),
    ] = ""
    version: Version = "1"
    tags: Annotated[
        tuple[FileStem, ...],
        Key(
            "Tags",
            "Words to filter lists by.",
            [["headline", "language"]],
            part="label",
            unique=True,
        ),
    ] = ()
    tokenizer: Annotated[
        TokenizerSpec,
        Key("Tokenizer", "How text becomes tokens.", [{"kind": "characters", "bos": True}]),
    ]
    data: Annotated[
        Data,
        Key(
            "Data",
            "Where prompt pairs come from.",
            [{"kind": "generator", "generator": "brackets"}],
        ),
    ]
    answers: Annotated[
        tuple[Text, ...] | None,
        Key(
            "Answers",
            "Names of the classes that the model answers in, in the order of its outputs, for a "
            "model whose outputs are not its tokens; left out, it answers in tokens. For data of "
            "kinds `template` and `file`.",
            [["unbalanced", "balanced"]],
            younger=True,
            absent=True,
            min_items=2,
            unique=True,
        ),
    ] = None
    evaluation: Annotated[
        Evaluation,
        Key(
            "Evaluation",
            "What a faithfulness score of this task means.",
            [{"ablation": "interchange", "positions": "all"}],
        ),
    ]
    # Identified on its own, because a suite may choose another model.
    model: Annotated[
        Model,
        Key(
            "Model",
            "The model itself, or the name (or path) of a model spec.",
            ["toy-2l-64", {"kind": "load", "path": "my_model"}],
            or_name=True,
            part="grid",
        ),
    ]
