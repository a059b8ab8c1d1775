"""A logit of a prompt, by all parts that write to the stream: direct logit attribution.

The logit is counted from the mean of all outputs, which a softmax does not notice.
"""

from __future__ import annotations

from harness.analyses.local.contributions import Contributions, taken_apart
from harness.analyses.report import Analysis
from harness.analyses.studied import Studied
from harness.tracing.parse import parse_target


def analyse(studied: Studied) -> Analysis:
    """The largest logit where the prompt is read, or the target."""
    row = studied.choices.prompt or 0
    run = studied.prompt(row)
    target = parse_target(run, studied.choices.target, studied.asked_of(row))
    return taken_apart(studied, row, Contributions.of(run, target), "")
