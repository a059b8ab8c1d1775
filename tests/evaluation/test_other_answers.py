"""Controls with other answers: the same prompts, answers that nobody would give."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.datasets.pairs import PromptPairs
from harness.errors import HarnessError
from harness.evaluation.controls.other_answers import answered


def pairs() -> PromptPairs:
    """Two prompts of 8 and 9, 9 and 8, the second padded; token 5 is the most frequent, then 4."""
    return PromptPairs(
        clean=np.array([[5, 5, 4, 8], [4, 5, 3, 0]]),
        corrupted=np.array([[5, 5, 4, 9], [4, 5, 2, 0]]),
        lengths=np.array([4, 3]),
        positions=np.array([[3, -1], [2, 1]]),
        good=np.array([[[8], [-1]], [[9], [8]]]),
        bad=np.array([[[9, -1], [-1, -1]], [[8, -1], [9, -1]]]),
    )


def test_right_answers_are_those_of_the_task():
    parts = (pairs(), pairs())
    assert answered(parts, "right") is parts


def test_swapped_answers_change_sides():
    (one,) = answered((pairs(),), "swapped")
    assert (one.good == pairs().bad).all()
    assert (one.bad == pairs().good).all()
    assert (one.clean == pairs().clean).all()
    (back,) = answered((one,), "swapped")
    assert back.digest() == pairs().digest()


def test_nonsense_keeps_the_choice_and_replaces_its_words():
    one, same = answered((pairs(), pairs()), "nonsense")
    assert one.good[..., 0].tolist() == [[5, -1], [4, 5]]
    assert one.bad[..., 0].tolist() == [[4, -1], [5, 4]]
    assert one.digest() == same.digest() != pairs().digest()


def test_what_has_no_two_sides_is_refused():
    nothing = replace(pairs(), bad=np.full((2, 2, 1), -1))
    for which in ("swapped", "nonsense"):
        with pytest.raises(HarnessError, match=rf"answers: {which} needs good and bad answers"):
            answered((pairs(), nothing), which)
    few = replace(pairs(), clean=np.array([[5, 5, 8, 8], [5, 9, 5, 0]]))
    with pytest.raises(HarnessError, match="nonsense needs two tokens"):
        answered((few,), "nonsense")


def test_a_classifier_has_no_output_for_nonsense():
    with pytest.raises(HarnessError, match=r"nonsense takes two tokens.*answers in the classes"):
        answered((pairs(),), "nonsense", in_classes=True)
    (one,) = answered((pairs(),), "swapped", in_classes=True)
    assert (one.good == pairs().bad).all()
