"""Texts that a model is trained on, where it is not trained on the prompts of a task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from harness.spec.key import About, Key
from harness.spec.types.scalars import Text

_EMPHASIS_FOR_SOURCE = {
    "not": {"required": ["emphasis"], "properties": {"kind": {"const": "python_source"}}},
    "x-message": "`emphasis` is for python_idioms; files are what they are",
}
_FOLDERS_FOR_IDIOMS = {
    "not": {"required": ["folders"], "properties": {"kind": {"const": "python_idioms"}}},
    "x-message": "`folders` are read for python_source; a corpus of python_idioms alone has none",
}

LINES = (
    "say",
    "numbers",
    "strings",
    "empty",
    "plain",
    "swap",
    "ternary",
    "lambda",
    "comprehension",
    "assertion",
    "opening",
    "update",
)
"""Kinds of one-line statements of the idioms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """Python code in windows of `context` tokens; documents begin with the tokenizer's BOS.

    The digest of the files, that of the tokenizer, and the version of the generator stand in the
    model's identity (`harness.datasets.corpus.corpus_content`).
    """

    ABOUT: ClassVar = About(
        "Corpus",
        "Python code that a model is trained on, in windows of a fixed number of tokens.",
        rules=(_FOLDERS_FOR_IDIOMS, _EMPHASIS_FOR_SOURCE),
    )

    kind: Annotated[
        Literal["python_source", "python_idioms", "mix"],
        Key(
            "Kind",
            "`python_source`: the .py files below some folders; `python_idioms`: simple, "
            "repetitive code from a generator that knows its exact entropy; `mix`: both, in "
            "stated shares.",
            ["mix"],
        ),
    ]
    tokenizer: Annotated[
        Text,
        Key(
            "Tokenizer",
            "The tokenizer.json of the model, relative to this file or a folder of HARNESS_FILES; "
            "tasks whose tokenizer is of kind `model` take it.",
            ["../tokenizers/python_2k/tokenizer.json"],
            part="content",
        ),
    ]
    context: Annotated[
        int,
        Key("Context", "Tokens of a window.", [128, 256], minimum=64, maximum=65536),
    ] = 256
    folders: Annotated[
        tuple[Text, ...] | None,
        Key(
            "Folders",
            "For python_source: folders with .py files, relative to this file; left out, the "
            "standard library of the Python that runs, with its tests.",
            [["../code"]],
            absent=True,
            part="content",
            min_items=1,
            unique=True,
        ),
    ] = None
    shares: Annotated[
        Mapping[
            Annotated[str, Key(one_of=["python_source", "python_idioms"])],
            Annotated[float, Key(above=0, below=1)],
        ]
        | None,
        Key(
            "Shares",
            "Share of the windows that each kind has; they add up to 1.",
            [{"python_idioms": 0.6, "python_source": 0.4}],
            absent=True,
            only_for=("mix",),
            min_keys=2,
        ),
    ] = None
    emphasis: Annotated[
        Mapping[Annotated[str, Key(one_of=LINES)], Annotated[float, Key(minimum=0.01, maximum=100)]]
        | None,
        Key(
            "Emphasis",
            "How many times as often as usual the idioms have one-line statements of a kind: "
            '`empty` is `seen = set()` and `text = ""`, `update` their `.add` and `+=`.',
            [{"empty": 3, "update": 4}],
            absent=True,
            younger=True,
            min_keys=1,
        ),
    ] = None
    questions: Annotated[
        bool,
        Key(
            "Questions",
            "Whether the training log holds how often the model makes the right choice in each "
            "task of tasks/code; for tokenizers that have their answers as single tokens.",
            [True],
            part="label",
        ),
    ] = False

    def text_shares(self) -> dict[str, float]:
        """Return the share of each kind of text, in the order written."""
        return {self.kind: 1.0} if self.shares is None else dict(self.shares)
