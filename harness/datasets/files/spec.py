"""Data from a file: JSON Lines, CSV or Parquet."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from harness.spec.key import About, Key
from harness.spec.types.scalars import DEFAULT_SHARES, Continues, DataSeed, Shares, Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Names of the columns of a data file; null means there is no such column."""

    ABOUT: ClassVar = About("Columns")

    clean: Annotated[Text, Key("Clean", "Column of the clean prompt.", ["clean"])] = "clean"
    corrupted: Annotated[
        Text, Key("Corrupted", "Column of the corrupted prompt.", ["corrupted"])
    ] = "corrupted"
    good: Annotated[
        Text | None,
        Key(
            "Good",
            "Column of the correct answer(s); null if the prompts mark it as <predict>x</predict>.",
            ["answer"],
        ),
    ] = None
    bad: Annotated[
        Text | None,
        Key(
            "Bad",
            "Column of the answer(s) to compare with; null if the corrupted prompts mark it.",
            ["wrong"],
        ),
    ] = None
    position: Annotated[
        Text | None,
        Key(
            "Position",
            "Column of the token at which the answer is read, counted from 0 with BOS, or from "
            "the end as -1, -2 …; a list reads as many answers, and `good` and `bad` list one "
            "each. Left out, it is the last token.",
            ["position"],
            younger=True,
            absent=True,
        ),
    ] = None
    split: Annotated[
        Text | None,
        Key(
            "Split",
            "Column that names each row's split; null lets the prompt's hash decide.",
            ["split"],
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileData:
    """Prompt pairs read from JSON Lines, CSV or Parquet."""

    ABOUT: ClassVar = About("Data from a file")

    kind: Literal["file"] = "file"
    path: Annotated[Text, Key("Path", "The data file, relative to this file.", ["my_pairs.jsonl"])]
    format: Annotated[
        Literal["jsonl", "csv", "parquet"] | None,
        Key("Format", "Format of the file; null means by its ending.", ["jsonl"]),
    ] = None
    columns: Annotated[
        Columns,
        Key(
            "Columns",
            "What the columns of the file are called.",
            [{"clean": "prompt", "corrupted": "twin"}],
        ),
    ] = Columns()
    shares: Shares = field(default_factory=lambda: dict(DEFAULT_SHARES))
    seed: DataSeed = 0
    continues: Continues = None


SPEC = FileData
