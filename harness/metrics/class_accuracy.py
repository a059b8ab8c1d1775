"""Accuracy by class: how often each answer is given where it is the right one.

Where one answer is right far more often than another, a circuit that always gives it has a high
accuracy and knows nothing. A class is the one good answer of a read position; with a_c the accuracy
over the n_c positions of class c, over all prompts, class accuracy is the mean of a_c over classes.

Each is a ratio over all N prompts. Per prompt i it is linearised, so that it has a mean and a
bootstrap like any other measure: with x the positions answered rightly,
    v_i = a_c + N/n_c · Σ_(positions p of i with class c) (x_ip - a_c)
The mean of v is a_c, and resampled means spread as the ratio does, to first order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.metrics.measure import Measure

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]


def accuracies(correct: ArrayLike, classes: Ids) -> dict[int, Floats]:
    """Per class its linearised accuracy [..., n], the class of a read position by its id.

    `correct` [..., n, P] is 1 where the answer is right, else 0; `classes` [n, P] are ids, -1 where
    nothing is read. Classes that no position has are left out.
    """
    x = np.asarray(correct, dtype=np.float64)
    result = {}
    for one in np.unique(classes[classes >= 0]).tolist():
        inside = classes == one
        count = int(inside.sum())
        share = (x * inside).sum((-2, -1)) / count  # [...]
        surplus = ((x - share[..., None, None]) * inside).sum(-1)  # [..., n]
        result[int(one)] = share[..., None] + surplus * (len(classes) / count)
    return result


def class_accuracy(correct: ArrayLike, classes: Ids) -> Floats:
    """Mean of `accuracies` over the classes that prompts have: [..., n]."""
    mean: Floats = np.mean(list(accuracies(correct, classes).values()), axis=0)
    return mean


MEASURES = (
    Measure(
        "class_accuracy",
        "class accuracy",
        "up",
        "mean over classes c of the accuracy where c is the good answer: every class counts alike, "
        "however often it is asked for",
        "standard (balanced accuracy)",
        "correct answers by class",
        class_accuracy,
        roles=frozenset({"extra"}),
    ),
)
