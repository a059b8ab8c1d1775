"""The names of what the bench can measure; needs no torch, so that `--help` can list them."""

from __future__ import annotations

from harness.discovery.registry import built_in

IG_STEPS = 5
KEPT = 0.25
FRACTION = 1 / 64
HELD_STEPS = 2
SMALL = "@0.5%"

STANDARD = (
    "eap",
    f"eap_ig({IG_STEPS})",
    "edge_pruning step",
    "edge_pruning step+kept",
    f"edge_pruning step+kept {SMALL}",
    "acdc per edge",
    "evaluation",
    f"evaluation {SMALL}",
    "evaluation+counterfactual",
)
"""Measured where no rows are named."""

MASK_STEPS = {
    f"{kind} step": kind
    for kind, info in built_in().items()
    if info.trains_masks and f"{kind} step" not in STANDARD
}
"""A step of every other method that trains masks, and its kind."""

OF_TRAINING = ("training step", "training step+budgets", "projection")
"""A step of training a model with AbsTopK: weights dense, sparse, and the projection alone."""

OF_DENSE_TRAINING = ("dense training step", "dense training step+bfloat16")
"""A step of training the model as it is: products in float32, and in bfloat16."""

OTHERS = (
    "eap_ig_clean_corrupted",
    f"eap_ig_activations({HELD_STEPS})",
    f"mask_gradient_ig({IG_STEPS})",
    "node_attribution",
    "node_patching",
    "information_flow_routes",
    "activation_patching per edge",
    f"abs_topk({KEPT})",
    "attention",
    "attention+sinks",
    *OF_TRAINING,
    *OF_DENSE_TRAINING,
    *MASK_STEPS,
)
"""Measured where they are named."""

NAMES = (*STANDARD, *OTHERS)

SHARED = (
    *("eap", f"eap_ig({IG_STEPS})", f"mask_gradient_ig({IG_STEPS})", "node_attribution"),
    *("edge_pruning step", "edge_pruning step+kept"),
    *(row for row, kind in MASK_STEPS.items() if built_in()[kind].processes),
)
"""Whose prompts several processes can share."""

OF_PROMPTS = ("pairs", "eap", "edge_pruning epoch")
"""The rows of `bench --prompts`."""

BUILT_IN = ("gpt2-small-random", "small-random", "codellama-13b-random", "llama3-8b-random")
"""Models of the bench's own; see `harness.bench.models`."""
