"""What a model was trained on, as some of its prompts: means over it replace dropped elements."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


class Background(Protocol):
    """Prompts of a training; the same each time they are gone through."""

    def prompts(self) -> Iterator[tuple[Ints, Ints]]:
        """Tokens [B, T], padded on the right, and lengths [B], batch by batch."""
        ...

    def described(self) -> Mapping[str, str]:
        """What they are, for the record: their digest, numbers of prompts and tokens."""
        ...
