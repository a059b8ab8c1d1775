"""How many threads cells take where nobody has said it, and which of them know no threads.

Two threads that share small matrix products spend as long in waiting for each other as they save,
and on a machine that other processes use, far longer: they wait for the slower one at every step.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from harness.spec.identity import identity_fields
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


def of_training(runtime: Runtime) -> dict[str, Any]:
    """What of a runtime is in the id of a trained model or dictionary, as plain JSON data.

    Threads move a training in its last digits, but it is not worth doing again: what another
    number of them trained is used, and its record says with how many. Processes share neither a
    training nor its weights.
    """
    usual = Runtime()
    part: dict[str, Any] = identity_fields(
        replace(runtime, threads=usual.threads, processes=usual.processes, shards=usual.shards)
    )
    return part
