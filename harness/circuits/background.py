"""What a model was trained on, as some of its prompts: means over it replace dropped elements."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness import ranks
from harness.circuits.baseline import Baseline
from harness.errors import HarnessError

Ints = NDArray[np.int64]

Prompts = tuple[Tensor, Tensor | None]
"""Tokens [B, T] and, where these are padded on the right, lengths [B]."""


class Background(Protocol):
    """Prompts of a training; the same each time they are gone through."""

    def prompts(self) -> Iterator[tuple[Ints, Ints]]:
        """Tokens [B, T], padded on the right, and lengths [B], batch by batch."""
        ...

    def described(self) -> Mapping[str, str]:
        """What they are, for the record: their digest, numbers of prompts and tokens."""
        ...


def required(background: Background | Baseline | None) -> Background:
    """The background that `mean_training` needs. Raises `HarnessError` where there is none."""
    if background is None or isinstance(background, Baseline):
        raise HarnessError(
            "ablation 'mean_training' takes means over what the model was trained on, and of this "
            "model that is not known: choose `ablation: mean` (over discovery pairs), train the "
            "model from a spec, or give a circuit file that has the means"
        )
    return background


def own_prompts(prompts: Iterable[Prompts]) -> Iterator[tuple[Tensor, Tensor | None, bool]]:
    """This process's share of prompts (`harness.ranks`), batch by batch, and whether it counts."""
    for tokens, lengths in prompts:
        mine = ranks.rows_to_run(len(tokens))
        rows = slice(mine.start, mine.stop)
        own = None if lengths is None else lengths[rows]
        yield tokens[rows], own, ranks.has_rows(len(tokens))


def prompts_of(background: Background, device: torch.device) -> Iterator[Prompts]:
    """Its prompts as tensors, batch by batch."""
    for tokens, lengths in background.prompts():
        yield torch.from_numpy(tokens).to(device), torch.from_numpy(lengths).to(device)
