"""What runs on sharded weights beside the same on whole ones, in a test or in processes."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from harness.circuits.edges.optimal import learn_constants, random_masks
from harness.circuits.patchable import PatchableModel, make_patchable, plain_logits
from harness.datasets.batch import Batches
from harness.discovery.problem import Problem
from harness.discovery.registry import built_in, make_method
from harness.models.checkpoint import load_model
from harness.models.loading.tensors import TensorFiles
from harness.models.transformer import Transformer, random_model
from harness.spec.types import Evaluation
from support import feature_sets
from support.shards import own_block_numbers, sharded
from support.slow_reference import ARCHITECTURES, small_model
from support.toy_task import CHOICES, FirstToken

PAIRS = FirstToken().pairs("train", 6, 0)
GRANULARITIES: Mapping[str, Evaluation] = {
    "edge": CHOICES,
    "channel": replace(CHOICES, granularity="channel", component="channels", ablation="mean"),
    "feature": feature_sets.choices(),
}
FEW_STEPS = {"steps": 2, "batch_size": 4}
"""Of methods that train masks; where `steps` are points of a path these are few too."""


def methods() -> Iterator[tuple[str, dict[str, Any], str]]:
    """Method, params and granularity of all that run on sharded weights."""
    for granularity in GRANULARITIES:
        for info in built_in().values():
            wanted = {None: granularity, "edges": "edge", "dictionaries": "feature"}[info.needs]
            if not info.shards or wanted != granularity:
                continue
            params = {name: FEW_STEPS[name] for name in FEW_STEPS if name in info.defaults}
            yield info.kind, params, granularity
            if info.kind == "eap_ig":
                yield info.kind, {**params, "variant": "activations"}, granularity
                yield info.kind, {**params, "variant": "clean_corrupted"}, granularity


def model_for(granularity: str, name: str = "gpt2-like") -> Transformer:
    if granularity == "feature":
        return random_model(feature_sets.CONFIG, 0, dtype=torch.float64).requires_grad_(False)
    return small_model(name, d_vocab=6)


def problem_on(model: Transformer, granularity: str, **changes: Any) -> Problem:
    choices = replace(GRANULARITIES[granularity], **changes)
    more = {"dictionaries": feature_sets.dictionaries()} if granularity == "feature" else {}
    patchable = make_patchable(model, choices, [PAIRS], **more)
    batches = Batches(PAIRS, 4)
    counterfactuals = patchable.counterfactuals(choices, batches, 0)
    draw = torch.Generator().manual_seed(0)
    sizes = (3, len(patchable.space) // 2)
    return Problem(patchable, batches, counterfactuals, "logit_diff", draw, sizes)


def scores(model: Transformer, kind: str, params: Mapping[str, Any], granularity: str) -> Tensor:
    return make_method(kind, params).discover(problem_on(model, granularity)).scores


def method_differences(mesh: DeviceMesh, *kinds: str) -> dict[str, float]:
    """By method: the largest difference of scores from whole weights, relative to the largest.

    `kinds`: those of edges alone; without any, all of all granularities.
    """
    found = {}
    for kind, params, granularity in methods():
        if kinds and (kind not in kinds or granularity != "edge"):
            continue
        wanted = scores(model_for(granularity), kind, params, granularity)
        model = sharded(model_for(granularity), mesh)
        numbers = own_block_numbers(model)
        got = scores(model, kind, params, granularity)
        check_gathered(model, numbers)
        found[f"{granularity} {kind} {params}"] = apart(got, wanted)
    return found


def pass_differences(mesh: DeviceMesh, *names: str) -> dict[str, float]:
    """By architecture and ablation: passes and gradients, as `method_differences`."""
    found = {}
    for name in names or ARCHITECTURES:
        for ablation in ("interchange", "zero", "mean"):
            whole = passes(model_for("edge", name), ablation)
            model = sharded(model_for("edge", name), mesh)
            numbers = own_block_numbers(model)
            for what, value in passes(model, ablation).items():
                found[f"{name} {ablation} {what}"] = apart(value, whole[what])
            check_gathered(model, numbers)
    return found


def passes(model: Transformer, ablation: str) -> dict[str, Tensor]:
    """The plain run, a patched pass, and the mask's gradient."""
    changes = {"ablation": ablation} | ({"head_bias": "shared"} if ablation == "zero" else {})
    problem = problem_on(model, "edge", **changes)
    batch = problem.batches[0]
    counterfactual = problem.counterfactuals.of(batch)
    graph = problem.edges.graph
    draw = torch.Generator().manual_seed(3)
    kept = random_masks(graph, torch.tensor([0.3, 0.9]), draw)
    masks = problem.edges.space.flat(kept.double() * torch.rand(kept.shape, generator=draw))
    leaf = masks.clone().requires_grad_()
    patchable: PatchableModel = problem.patchable
    logits = patchable.masked_logits(batch, leaf, counterfactual)
    (gradient,) = torch.autograd.grad(logits.square().sum(), leaf)
    return {
        "plain": plain_logits(model, batch),
        "patched": patchable.logits(batch, masks, counterfactual),
        "masked": logits.detach(),
        "gradient": gradient,
    }


def apart(value: Tensor, wanted: Tensor) -> float:
    return float((value - wanted).abs().max() / wanted.abs().max().clamp(min=1e-12))


def check_gathered(model: Transformer, numbers: int) -> None:
    """At most two blocks were whole at once, some were, and none is any more."""
    counts = model.gatherings
    assert counts is not None
    assert counts.whole == 0
    assert counts.most <= 2
    assert own_block_numbers(model) == numbers


def constant_differences(mesh: DeviceMesh) -> dict[str, float]:
    """The same of learned constants, whose gradients pass through every block."""
    found = {}
    for name in ("gpt2-like", "grouped", "attention-alone"):
        one, other = model_for("edge", name), sharded(model_for("edge", name), mesh)
        numbers = own_block_numbers(other)
        wanted, got = (_learned(model) for model in (one, other))
        check_gathered(other, numbers)
        found[name] = apart(got, wanted)
    return found


def all_differences(mesh: DeviceMesh) -> dict[str, float]:
    """All of these together."""
    differences = (pass_differences, method_differences, constant_differences)
    return {name: value for one in differences for name, value in one(mesh).items()}


def _learned(model: Transformer) -> Tensor:
    problem = problem_on(model, "edge")
    learned = learn_constants(problem.edges.patched, problem.batches, 0, steps=3)
    return learned.constants.flat(problem.edges.graph)


# ---------------------------------------------------------------- loading
def loaded(
    mesh: DeviceMesh, folder: Path, dtype: torch.dtype | None = None, *, counting: bool = True
) -> dict[str, Any]:
    """A sharded model from a folder: its weights, gathered here, and how much was ever held."""
    held, numbers = [live_numbers()] if counting else [0], list[int]()
    plain_read = TensorFiles.read

    def read(self: TensorFiles, name: str, rows: range | None = None) -> Tensor:
        tensor = plain_read(self, name, rows)
        if "blocks" in name:
            numbers.append(tensor.numel())
        if name.endswith("mlp_out.weight"):  # the last of a block; counting takes a second
            held.append(live_numbers())
        return tensor

    with pytest.MonkeyPatch.context() as patch:
        if counting:
            patch.setattr(TensorFiles, "read", read)
        model = load_model(folder, mesh=mesh, dtype=dtype)
    weights = {name: x.clone() for name, x in model.named_parameters() if "blocks" not in name}
    own = own_block_numbers(model)
    for block in model.layers():
        for name, x in block.named_parameters():
            weights[f"blocks.{block.layer}.{name}"] = x.detach().clone()
    check_gathered(model, own)
    return {"weights": weights, "own": own, "peak": max(held) - held[0], "read": sum(numbers)}


def all_loaded(mesh: DeviceMesh, folders: list[Path]) -> list[dict[str, Any]]:
    """The same of several folders."""
    return [loaded(mesh, folder, counting=False) for folder in folders]


def live_numbers() -> int:
    """Numbers in all tensors of this process, those of one storage counted once."""
    gc.collect()
    sizes = {}
    for one in gc.get_objects():
        if issubclass(type(one), Tensor) and one.device.type != "meta":
            local = one.to_local() if hasattr(one, "to_local") else one
            storage = local.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes() // local.element_size()
    return sum(sizes.values())
