"""What several methods say of their parameters, as `harness.spec.key` has it; needs no torch."""

from __future__ import annotations

from typing import Annotated

from harness.spec.key import About, Key
from harness.spec.types.names import Objective

NO_PARAMS = About("No parameters", name="none")
OBJECTIVE_ALONE = About("Objective alone", name="objective")

Attributed = Annotated[
    Objective,
    Key(
        "Objective",
        "What is attributed: the task's own metric, or another; `kl` and `squared_error` compare "
        "with the whole model, where their gradient is zero.",
        ["metric"],
    ),
]
Minimised = Annotated[
    Objective,
    Key(
        "Objective",
        "What is kept small: the task's own metric, or another; `kl` and `squared_error` compare "
        "with the whole model.",
        ["kl"],
    ),
]
