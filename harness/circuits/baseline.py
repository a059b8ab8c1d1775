"""Constants that dropped elements carry, and what they were taken over: they travel with files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from harness.spec.types import Ablation


@dataclass(frozen=True, eq=False)
class Baseline:
    """`values` [P, N]: N numbers, one for each element (for a rest its width), at P positions.

    Of edges they are what writers write: D numbers of an input or MLP, K of a head before its map.
    P is 1 where all positions share them. `over` says what they are means of: the prompts' digest
    and numbers of prompts and tokens, as plain strings.
    """

    ablation: Ablation
    values: Tensor
    over: Mapping[str, str] = field(default_factory=dict)
