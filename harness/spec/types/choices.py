"""The choices of an evaluation: what results record of it, and what a record says."""

from __future__ import annotations

from collections.abc import Mapping

from harness.spec.key import at_default, spec_fields
from harness.spec.types.evaluation import Evaluation

CHOICES = tuple(name for name, one in spec_fields(Evaluation).items() if one.key.choice)
"""What has to be equal for two faithfulness numbers to mean the same (Miller et al. 2024)."""


def recorded(evaluation: Evaluation) -> dict[str, str]:
    """The choices as results hold them: a younger one only where it is not at its default.

    So a cell that was computed before there was that choice has the same bytes when computed anew.
    """
    fields = spec_fields(Evaluation)
    return {
        name: getattr(evaluation, name)
        for name in CHOICES
        if not at_default(fields[name], getattr(evaluation, name))
    }


def chosen(record: Mapping[str, str], name: str) -> str:
    """What a result's record says about a choice; the default of a younger one that it lacks."""
    one = spec_fields(Evaluation)[name]
    value: str = record.get(name, one.default) if one.key.younger else record[name]
    return value
