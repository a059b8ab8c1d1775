"""Data made by a generator: registered Python code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from harness.spec.key import About, Key
from harness.spec.types.scalars import DEFAULT_SHARES, Continues, DataSeed, Shares, Text


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorData:
    """Prompt pairs made by registered Python code; `params` are the generator's own.

    For the built-in generators a loaded spec holds all params, also those left to their default.
    """

    ABOUT: ClassVar = About("Data made by a generator", params_of="generator")

    kind: Literal["generator"] = "generator"
    generator: Annotated[
        Text,
        Key(
            "Generator",
            "Name of the code that makes the prompts: {kinds}, or one that an installed package "
            "adds.",
            ["brackets", "quotes", "othello"],
            max_length=128,
        ),
    ]
    params: Annotated[
        Mapping[str, Any],
        Key("Parameters", "The generator's own parameters.", [{"max_depth": 4}]),
    ] = field(default_factory=dict)
    seed: DataSeed = 0
    shares: Shares = field(default_factory=lambda: dict(DEFAULT_SHARES))
    continues: Continues = None


SPEC = GeneratorData
