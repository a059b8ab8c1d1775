"""The names that specs choose between, and the numbers that stand for a whole choice."""

from __future__ import annotations

from typing import Literal

Ablation = Literal["interchange", "mean", "mean_positional", "optimal", "zero", "resample"]
HeadBias = Literal["unattached", "shared"]
Metric = Literal["logit_diff", "prob_diff", "squared_error"]
Objective = Literal["metric", "logit_diff", "prob_diff", "cross_entropy", "kl", "squared_error"]
DISTANCES: frozenset[str] = frozenset({"kl", "squared_error"})
"""Losses that compare with the whole model: at the whole model they and their gradients are 0."""

ExtraMeasure = Literal["prob_diff", "agreement", "good_mass", "prob_diff_10", "kendall_tau"]
Inputs = Literal["token", "summed", "split", "none"]
EdgePositions = Literal["all", "per_token"]
ModelFormat = Literal["auto", "harness", "huggingface", "transformer_lens"]

MIB_SIZES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
