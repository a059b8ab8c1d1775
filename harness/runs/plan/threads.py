"""How many threads a small model's cells take, where nobody has said it.

Two threads that share small matrix products spend as long in waiting for each other as they save,
and on a machine that other processes use, far longer: they wait for the slower one at every step.
"""

from __future__ import annotations

from typing import Literal

from harness.spec.types import CompileModel, Model, Runtime, TrainModel

AUTO: Literal["auto"] = "auto"
SMALL_WIDTH = 64
"""Up to this d_model one thread is as fast as two: training and scoring a model of width 32 took
18.3 s with one and 19.1 s with two; one of width 128 is 1.8 times faster with two."""


def threads_for(model: Model) -> int:
    """Threads for the cells of a model: one where that is as fast, else the default.

    A loaded model counts as large, since its size stands in files alone.
    """
    small = isinstance(model, CompileModel) or (
        isinstance(model, TrainModel) and model.architecture.d_model <= SMALL_WIDTH
    )
    return 1 if small else Runtime().threads
