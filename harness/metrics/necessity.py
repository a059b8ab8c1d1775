"""What is left of the task in the model without a circuit, and what its elements carry."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.metrics.calibration import calibrated_task_loss
from harness.metrics.logits import task_loss
from harness.metrics.measure import Inputs, Measure

Floats = NDArray[np.float64]

WITHOUT: Inputs = "runs without the circuit"

NECESSITY = "necessity"
CALIBRATED = "calibrated_necessity"
OF_RANDOM = "random_necessity"
INTERCHANGE = "interchange_share"


def moved_share(clean: Floats, patched: Floats, corrupted: Floats) -> Floats:
    """(clean - patched) / mean(clean - corrupted) of each prompt [..., n]: NaN for no change.

    Its mean is the share of the mean change.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        shares: Floats = (clean - patched) / np.mean(clean - corrupted)
    return shares


MEASURES = (
    Measure(
        NECESSITY,
        "loss without it",
        "up",
        "task loss of the model with only the circuit ablated; ln 2 = 0.693 is chance",
        "Gao et al. 2025",
        WITHOUT,
        task_loss,
        unit="nats",
        roles=frozenset({"extra"}),
    ),
    Measure(
        CALIBRATED,
        "calibrated loss without it",
        "up",
        "the same after calibration on the discovery pairs: what is left may tell the answers "
        "apart and prefer one of them",
        "Gao et al. 2025",
        WITHOUT,
        calibrated_task_loss,
        unit="nats",
        roles=frozenset({"extra"}),
    ),
    Measure(
        OF_RANDOM,
        "loss without random",
        "down",
        "task loss of the model with ten random sets of as many elements ablated, their mean",
        "Gao et al. 2025",
        WITHOUT,
        task_loss,
        unit="nats",
        roles=frozenset({"extra"}),
    ),
    Measure(
        INTERCHANGE,
        "interchange",
        "up",
        "(m(clean) - m(clean, the circuit's elements from the corrupted run)) / (m(clean) - "
        "m(corrupted)) in the model, m the mean metric",
        "Geiger et al. 2021",
        WITHOUT,
        moved_share,
        roles=frozenset({"extra"}),
    ),
)
