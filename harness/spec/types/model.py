"""A model, and how it is obtained: trained, loaded or compiled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from harness.spec.key import About, Key, Kinds, at_most_one, exactly_one
from harness.spec.types.architecture import Architecture
from harness.spec.types.corpus import Corpus
from harness.spec.types.names import ModelFormat
from harness.spec.types.scalars import (
    Description,
    FileStem,
    Name,
    SpecVersion,
    Text,
    Title,
)
from harness.spec.types.sparsity import Sparsity
from harness.spec.types.training import Training

ModelName = Annotated[
    FileStem | None,
    Key(
        "Name",
        "What tables call the model; null means the task's name.",
        ["ioi-2l-128"],
        part="label",
        max_length=64,
    ),
]


TokenId = Annotated[int, Key(minimum=0, maximum=2**31 - 1)]
_CORPUS_RULES = (
    {
        "if": {"required": ["corpus"]},
        "then": {
            "properties": {
                "training": {
                    "properties": {
                        "objective": {
                            "const": "next_token",
                            "x-message": "must be next_token: a corpus has no answers",
                        }
                    }
                }
            }
        },
    },
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainModel:
    """A model trained on the data of the task that uses it, of the one that `task` names, or texts.

    With `weights` it has been trained before; their digests stand in a cell's identity.
    """

    ABOUT: ClassVar = About(
        "Trained model", name="train", rules=(at_most_one("task", "corpus"), *_CORPUS_RULES)
    )

    kind: Literal["train"] = "train"
    name: ModelName = None
    # What the model is made of that task's data stands in a cell's identity.
    task: Annotated[
        Text | None,
        Key(
            "Task to train on",
            "Name or path of the task whose data the model is trained on, with the same tokens; "
            "without it, the task that uses the model. Only tasks that share their splits keep "
            "test prompts out of the training.",
            ["boolean_forms"],
            absent=True,
            part="content",
        ),
    ] = None
    # What its texts are made of stands in a cell's identity.
    corpus: Annotated[
        Corpus | None,
        Key(
            "Corpus",
            "Texts that the model is trained on in place of a task's prompts; needs the objective "
            "`next_token`. Tasks whose tokenizer is of kind `model` take the corpus's.",
            [{"kind": "python_idioms", "tokenizer": "python/tokenizer.json", "context": 128}],
            absent=True,
            younger=True,
            part="content",
        ),
    ] = None
    architecture: Annotated[
        Architecture,
        Key(
            "Architecture",
            "Shape of the transformer.",
            [{"n_layers": 2, "n_heads": 4, "d_model": 64}],
        ),
    ]
    weights: Annotated[
        Text | None,
        Key(
            "Weights",
            "Folder with the weights that this very spec was trained to, as `harness train` writes "
            "it, relative to this file or a folder of HARNESS_FILES: they are loaded, and nothing "
            "is trained. Refused where the folder's training.json names another spec.",
            ["othello6-2l-128"],
            absent=True,
            younger=True,
            part="content",
        ),
    ] = None
    training: Annotated[
        Training,
        Key("Training", "How the weights are found.", [{"objective": "answer", "steps": 2000}]),
    ]
    sparsity: Annotated[
        Sparsity | None,
        Key(
            "Sparsity",
            "Keeps most weights zero; without it all weights are trained.",
            [{"nonzero_fraction": 0.0625}],
            absent=True,
            younger=True,
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadModel:
    """A model from a folder with `config.json` and safetensors, or from the Hugging Face hub.

    Exactly one of `path` and `hub` is given; `revision` goes with `hub`. Digests of the weights
    stand in a cell's identity for where they come from and whose form they have.
    """

    ABOUT: ClassVar = About(
        "Loaded model",
        name="load",
        rules=(exactly_one("path", "hub"),),
        needs={"revision": ["hub"]},
    )

    kind: Literal["load"] = "load"
    name: ModelName = None
    path: Annotated[
        Text | None,
        Key(
            "Path",
            "Folder with `config.json` and `model.safetensors` (or the shards that "
            "`model.safetensors.index.json` names), relative to this file or a folder of "
            "HARNESS_FILES.",
            ["../models/my_model", "gpt2"],
            absent=True,
            part="content",
        ),
    ] = None
    hub: Annotated[
        str | None,
        Key(
            "Hub",
            "In place of a path: a model of the Hugging Face hub, fetched once into its cache. "
            "Nothing is fetched from any network unless this is given.",
            ["openai-community/gpt2"],
            absent=True,
            part="content",
            pattern=r"^[\w.-]+(/[\w.-]+)?$(?!\n)",
            message="must be an id on the hub, like owner/name",
        ),
    ] = None
    revision: Annotated[
        Text | None,
        Key(
            "Revision",
            "Commit, tag or branch on the hub; without it, the main branch.",
            ["607a30d783dfa663caf39e06633721c8d4cfcd7e"],
            absent=True,
            part="content",
        ),
    ] = None
    format: Annotated[
        ModelFormat,
        Key(
            "Format",
            "Whose form the folder has: ours, a model of Hugging Face's transformers, a state dict "
            "in the names of TransformerLens or minGPT, or a weight-sparse model of "
            "openai/circuit_sparsity (beeg_config.json, final_model.pt); `auto` tells it from "
            "these files.",
            ["auto", "huggingface"],
            part="content",
        ),
    ] = "auto"
    without_tokens: Annotated[
        tuple[TokenId, ...] | None,
        Key(
            "Without tokens",
            "Tokens of the checkpoint that are left out of its embedding and unembedding; those "
            "after them move up. For Othello-GPT's padding symbol, say.",
            [[0]],
            absent=True,
            younger=True,
            min_items=1,
            unique=True,
        ),
    ] = None
    # A task that puts BOS before its prompts holds this in its own identity.
    bos: Annotated[
        Text | None,
        Key(
            "BOS",
            "The token that is BOS for tasks with the tokenizer of this model and `bos: true`; "
            "needed where the folder does not say which one it is.",
            ["<|endoftext|>"],
            absent=True,
            part="content",
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompileModel:
    """A model whose weights are made from the task's program.

    `hardness`: attention scores are this far apart, in nats.
    """

    ABOUT: ClassVar = About("Compiled model", name="compile")

    kind: Literal["compile"] = "compile"
    name: ModelName = None
    hardness: Annotated[
        float,
        Key(
            "Hardness",
            "By how much attention scores are apart, in nats, between what is selected, the "
            "default (BOS) and the rest; below about 20 outputs are no longer exact.",
            [50.0],
            above=0,
            maximum=1000,
        ),
    ] = 50.0


Model = Annotated[
    TrainModel | LoadModel | CompileModel,
    Kinds(
        "inline",
        "Model",
        "A transformer and how it is obtained.",
        Key(
            "Kind",
            "`train`: train it on the data of a task, by default the one that uses it; `load`: "
            "read it from a folder; `compile`: make its weights from the task's program.",
            ["train"],
        ),
        shared=("name",),
        file="model.schema.json",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLabels:
    """What a model file has in common with all spec files; a task's inline model has none of it."""

    ABOUT: ClassVar = About(
        "Model",
        "A transformer and how it is obtained; a file in specs/models/. A task may hold the same, "
        "without spec_version, title and description, under `model`.",
        part="label",
    )

    spec_version: SpecVersion = 1
    name: Annotated[Name, Key(examples=["toy-2l-64"])]
    title: Annotated[Title, Key(examples=["Two layers, 64 wide"])]
    description: Annotated[Description, Key(examples=["Small enough to train in a minute."])] = ""
