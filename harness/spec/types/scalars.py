"""Kinds of text and number, and the keys, that several spec classes share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from harness.spec.key import About, Key

Text = Annotated[str, Key(min_length=1)]
Word = Annotated[str, Key(pattern=r"^\w+$(?!\n)", message="must be letters, digits or '_'")]
FileStem = Annotated[
    str,
    Key(
        pattern=r"^[a-z0-9][a-z0-9_-]*$(?!\n)",
        message="must be lower-case letters, digits, '_' or '-', starting with a letter or digit",
    ),
]
References = Annotated[tuple[Text, ...], Key(unique=True, max_items=1_000)]
SeedNumber = Annotated[int, Key(minimum=0, maximum=2**32 - 1)]

# ---------------------------------------------------------------- the head of a spec file
SpecVersion = Annotated[
    int,
    Key(
        "Spec version",
        "Version of the spec format.",
        [1],
        const=1,
        required=True,
        part="label",
        message="only version 1 of the spec format is known",
    ),
]
Name = Annotated[
    FileStem,
    Key("Name", "Equal to the file's name without .yaml; tables show it.", max_length=64),
]
Title = Annotated[
    Text,
    Key("Title", "One line that says what this is.", max_length=120, part="label"),
]
Description = Annotated[
    str, Key("Description", "More about it, for readers; changes no number.", part="label")
]
Version = Annotated[
    Text,
    Key(
        "Version",
        "Raise it when a change makes old numbers incomparable; results of two versions are never "
        "ranked together.",
        ["1", "1.2"],
        max_length=32,
    ),
]


# ---------------------------------------------------------------- what all data has
@dataclass(frozen=True, slots=True, kw_only=True)
class SplitShares:
    """The keys of `shares`."""

    ABOUT = About("Shares", name="shares")

    train: Annotated[
        float, Key("Train", "Share of the split `train`.", [0.8], minimum=0, maximum=1)
    ]
    validation: Annotated[
        float, Key("Validation", "Share of the split `validation`.", [0.1], minimum=0, maximum=1)
    ]
    test: Annotated[float, Key("Test", "Share of the split `test`.", [0.1], minimum=0, maximum=1)]


DEFAULT_SHARES: Mapping[str, float] = {"train": 0.8, "validation": 0.1, "test": 0.1}

Shares = Annotated[
    Mapping[str, float],
    Key(
        "Shares",
        "Share of all prompts in each split; they add up to 1. Each prompt's hash decides its "
        "split, so splits are disjoint.",
        [DEFAULT_SHARES],
        keys_of=SplitShares,
    ),
]
DataSeed = Annotated[
    SeedNumber,
    Key("Seed", "Decides the splits and everything drawn from the data.", [0, 7]),
]
# Only says what is refused: where both are accepted, the numbers are the same.
Continues = Annotated[
    bool | None,
    Key(
        "Answers go on",
        "Whether every answer has to be how its prompt goes on in a text (left out: yes). With a "
        "tokenizer.json, the tokens of both together are those of the prompt, then the answer's. "
        "`false` takes answers that are not; results say so.",
        [False],
        absent=True,
        part="label",
        younger=True,
    ),
]
