"""Every measure of the harness in one list: what `harness list metrics` shows."""

from __future__ import annotations

from harness.evaluation import answer_measures, ground_truth, measures

MEASURES = (*measures.MEASURES, *answer_measures.MEASURES, *ground_truth.MEASURES)
