"""Every measure in one registry: name, formula, source, direction, unit and the function itself.

Families of measures are modules; `registry` lists them all. Nothing here imports torch, so specs
and the command line can read names; statistics of estimates are in `statistics`.
"""

from harness.metrics.measure import Measure
from harness.metrics.registry import (
    DISTANCES,
    EXTRA_MEASURES,
    LOSSES,
    MEASURES,
    NEGATED,
    OBJECTIVES,
    RECORDED,
    TASK_METRICS,
    names,
)

__all__ = [
    "DISTANCES",
    "EXTRA_MEASURES",
    "LOSSES",
    "MEASURES",
    "NEGATED",
    "OBJECTIVES",
    "RECORDED",
    "TASK_METRICS",
    "Measure",
    "names",
]
