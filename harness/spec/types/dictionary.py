"""Dictionaries of a model, and how they are obtained: trained, loaded, or drawn at random."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from harness.spec.key import About, Key, Kinds
from harness.spec.types.dictionary_training import DictionaryTarget, DictionaryTraining
from harness.spec.types.scalars import (
    Description,
    Name,
    SeedNumber,
    SpecVersion,
    Text,
    Title,
)

SiteName = Annotated[
    str,
    Key(
        pattern=r"^(attention|mlp|embed|position|final"
        r"|[am]\d{1,4}(\.(in|q|k|v|z|out|stream|hidden))?)$(?!\n)",
        message="must be attention, mlp, embed, or a site such as a0, m0 or m0.hidden",
    ),
]
DictionaryTask = Annotated[
    Text,
    Key(
        "Task",
        "Name or path of the task whose model the dictionaries are of, and whose prompts they are "
        "trained and measured on.",
        ["othello_moves"],
        part="content",
    ),
]
DictionaryModel = Annotated[
    Text | None,
    Key(
        "Model",
        "Name or path of a model to use in place of the task's own.",
        ["small-4l-64"],
        absent=True,
        part="content",
    ),
]

DictionarySites = Annotated[
    tuple[SiteName, ...],
    Key(
        "Sites",
        "Where dictionaries are: `attention`, `mlp` (what they write, in every layer), `a0`, "
        "`m0` (in one), `embed`, or any site of the transformer such as `m0.hidden` and "
        "`a0.stream`.",
        [["attention", "mlp"], ["embed", "a0", "m0"]],
        min_items=1,
        unique=True,
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class DictionaryForm:
    """The form of each dictionary."""

    ABOUT: ClassVar = About(
        "Form of a dictionary",
        "How large and how sparse the dictionary of each site is.",
        name="dictionary",
        rules=(
            {
                "if": {"properties": {"activation": {"enum": ["topk", "batchtopk"]}}},
                "then": {"required": ["k"], "x-message": "k is needed by topk and batchtopk"},
                "else": {
                    "not": {"anyOf": [{"required": ["k"]}, {"required": ["k_by_site"]}]},
                    "x-message": "k is for topk and batchtopk; others have `price`",
                },
            },
        ),
    )

    activation: Annotated[
        Literal["relu_l1", "topk", "batchtopk", "jumprelu"],
        Key(
            "Activation",
            "How a code becomes sparse. `relu_l1`: a price on the sum of its values (the preset of "
            "He et al. 2024); `topk`: the k largest of each token; `batchtopk`: k for each token "
            "on average, one threshold once trained; `jumprelu`: a learned threshold for each "
            "feature, with a price on how many are active.",
            ["batchtopk", "relu_l1"],
        ),
    ] = "batchtopk"
    features: Annotated[
        int, Key("Features", "Features of each site.", [512, 1024], minimum=1, maximum=1_000_000)
    ]
    k: Annotated[
        int | None,
        Key(
            "k",
            "Active features of a token: at most (`topk`) or on average (`batchtopk`).",
            [32],
            absent=True,
            minimum=1,
        ),
    ] = None
    k_by_site: Annotated[
        Mapping[SiteName, int],
        Key(
            "k by site",
            "Another k for some sites, by the names of `sites`.",
            [{"a0": 48}],
        ),
    ] = field(default_factory=dict)
    price: Annotated[
        float,
        Key(
            "Price",
            "Of `relu_l1` and `jumprelu`: what sparsity weighs against the squared error of "
            "activations whose mean squared norm is 1.",
            [0.03],
            minimum=0,
        ),
    ] = 0.03
    pre_bias: Annotated[
        bool,
        Key(
            "Pre-bias",
            "Whether the encoder reads activations less the decoder's bias.",
            [True],
        ),
    ] = True


_FORM = Key("Form", "The form of each dictionary.", [{"features": 512, "k": 32}])


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainDictionary:
    """Dictionaries trained on the activations of a task's model, all sites in one training.

    With `weights` they have been trained before; their digests stand in an identity.
    """

    ABOUT: ClassVar = About(
        "Trained dictionary",
        name="train_dictionary",
        rules=(
            {
                "if": {
                    "properties": {
                        "dictionary": {
                            "required": ["activation"],
                            "properties": {"activation": {"enum": ["relu_l1", "jumprelu"]}},
                        }
                    }
                },
                "then": {
                    "properties": {
                        "training": {
                            "properties": {
                                "finetune_tokens": {
                                    "const": 0,
                                    "x-message": "finetune_tokens is for topk and batchtopk, "
                                    "whose codes stay as sparse as they are",
                                }
                            }
                        }
                    }
                },
            },
        ),
    )

    kind: Literal["train"] = "train"
    task: DictionaryTask
    model: DictionaryModel = None
    sites: DictionarySites = ("attention", "mlp")
    dictionary: Annotated[DictionaryForm, _FORM]
    weights: Annotated[
        Text | None,
        Key(
            "Weights",
            "Folder with the dictionaries that this very spec was trained to, as `harness "
            "dictionary NAME --output` writes it, relative to this file or a folder of "
            "HARNESS_FILES: they are loaded, and nothing is trained. Refused where the folder's "
            "training.json names another spec or another model's weights.",
            ["othello6-k32"],
            absent=True,
            younger=True,
            part="content",
        ),
    ] = None
    training: Annotated[
        DictionaryTraining,
        Key("Training", "How directions are learned.", [{"tokens": 4_000_000}]),
    ]
    target: Annotated[
        DictionaryTarget | None,
        Key(
            "Target",
            "Stop early once this is reached; null trains on all tokens.",
            [{"metric": "splice_kl", "value": 0.05}],
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadDictionary:
    """Dictionaries from a folder: ours, or sparse autoencoders in SAELens' form."""

    ABOUT: ClassVar = About("Loaded dictionary", name="load_dictionary")

    kind: Literal["load"] = "load"
    task: DictionaryTask
    model: DictionaryModel = None
    path: Annotated[
        Text,
        Key(
            "Path",
            "Folder with `dictionaries.safetensors`, or with `cfg.json` and "
            "`sae_weights.safetensors` of one site or of one in each folder below; relative to "
            "this file or a folder of HARNESS_FILES.",
            ["../dictionaries/othello6"],
            part="content",
        ),
    ]
    format: Annotated[
        Literal["auto", "harness", "saelens"],
        Key("Format", "Whose form the folder has; `auto` tells it from its files.", ["auto"]),
    ] = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomDictionary:
    """Random unit directions in the shape of trained dictionaries: their baseline."""

    ABOUT: ClassVar = About(
        "Random dictionary",
        name="random_dictionary",
        rules=(
            {
                "properties": {
                    "dictionary": {
                        "required": ["k"],
                        "x-message": "a random dictionary is topk or batchtopk, and needs k",
                    }
                }
            },
        ),
    )

    kind: Literal["random"] = "random"
    task: DictionaryTask
    model: DictionaryModel = None
    sites: DictionarySites = ("attention", "mlp")
    dictionary: Annotated[DictionaryForm, _FORM]
    tokens: Annotated[
        int,
        Key(
            "Tokens",
            "Activations of each site from which its mean is taken, and the threshold that leaves "
            "k features a token active.",
            [16384],
            minimum=1,
            maximum=10_000_000,
        ),
    ] = 16384
    seed: Annotated[SeedNumber, Key("Seed", "Decides directions and prompts.", [0, 7])] = 0


DictionarySpec = Annotated[
    TrainDictionary | LoadDictionary | RandomDictionary,
    Kinds(
        "dictionaries",
        "Dictionaries",
        "Sparse codes of what a model's sites hold, and how they are obtained.",
        Key(
            "Kind",
            "`train`: learn them from the activations of a task's model; `load`: read them from a "
            "folder; `random`: directions that nothing was learned of, as a baseline.",
            ["train"],
        ),
        shared=("task", "model"),
        file="dictionary.schema.json",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class DictionaryLabels:
    """What a dictionary file has beside what says how its dictionaries are obtained."""

    ABOUT: ClassVar = About(
        "Dictionary",
        "Sparse codes of what the sites of a model hold; a file in specs/dictionaries/.",
        part="label",
    )

    spec_version: SpecVersion = 1
    name: Annotated[Name, Key(examples=["othello6-k32"])]
    title: Annotated[Title, Key(examples=["512 features a site, 32 of them active"])]
    description: Annotated[Description, Key(examples=["For feature circuits of the task."])] = ""
