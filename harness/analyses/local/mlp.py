"""A feature of an MLP, by what is written at its token: approximate direct contributions.

Gates are held at their values (act(z) / z), so that contributions sum to the feature's activity;
what a part does by opening or closing a gate is not seen (`harness trace --validity` measures it).
"""

from __future__ import annotations

from harness.analyses.local.contributions import of_feature
from harness.analyses.report import Analysis
from harness.analyses.studied import Studied


def analyse(studied: Studied) -> Analysis:
    """The strongest named feature of the family that is asked for, or the target."""
    return of_feature(studied, "m", "MLP")
