"""A feature of attention, by what is written at all tokens that its heads look at.

Patterns are held; the heads of a layer are summed. `back`: how many tokens before the feature's a
part is written.
"""

from __future__ import annotations

from harness.analyses.local.contributions import of_feature
from harness.analyses.report import Analysis
from harness.analyses.studied import Studied


def analyse(studied: Studied) -> Analysis:
    """The strongest named feature of the family that is asked for, or the target.

    Without a token, one of the first token is taken only where no other is active.
    """
    return of_feature(studied, "a", "attention")
