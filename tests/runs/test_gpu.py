"""[17] What a GPU computes is what the CPU does; and published numbers, where GPT-2 is there.

The functions that the tests of a GPU call are run on the CPU too, so that they are known to work
where no GPU is.

Numbers in brackets are those of `tests/PROOFS.md`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
import torch
from support.problems import problem_of
from support.slow_reference import small_model
from torch import Tensor

from harness.circuits import hard_concrete
from harness.circuits.edges.counterfactuals import EdgeCounterfactuals
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.patchable import EdgeModel
from harness.circuits.patchable import plain_logits
from harness.datasets.batch import Batch
from harness.datasets.locate import find, needed
from harness.datasets.open import open_data
from harness.discovery.masks.edge_pruning import EdgePruning
from harness.discovery.masks.hard_concrete import ConstrainedHardConcrete
from harness.discovery.masks.objective import StepObjective
from harness.discovery.masks.settings import MaskTraining
from harness.discovery.masks.training import MaskRun
from harness.discovery.problem import Problem
from harness.discovery.registry import make_method
from harness.discovery.sizing import checked, circuit_of
from harness.metrics import logits as of_logits
from harness.models.checkpoint import load_model
from harness.models.config import TransformerConfig
from harness.models.loading.tokenizer import on_model
from harness.models.transformer import Transformer, random_model
from harness.runs.compute.prepare import batched
from harness.spec.load import Library, Loaded
from harness.spec.types import Selection, Task

ARCHITECTURES = ["gpt2-like", "llama-like", "gemma-like"]


def on_a_gpu(test):
    """Left out where there is none."""
    absent = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    return pytest.mark.gpu(absent(test))


def moved(batch: Batch, device: str) -> Batch:
    fields = {name: x.to(device) for name, x in vars(batch).items() if isinstance(x, Tensor)}
    return replace(batch, **fields)


def equal(found: Tensor, wanted: Tensor) -> None:
    """To what single precision leaves, relative to the largest number."""
    assert wanted.abs().max() > 1e-4
    assert (found - wanted).abs().max() <= 1e-4 * wanted.abs().max()


# ---------------------------------------------------------------- the same as on the CPU
def ends_of(name: str, batch: Batch, device: str, dtype: torch.dtype) -> dict[str, list[Tensor]]:
    """Logits [B, P, V] of the plain model and, by both passes, under the mask of that end."""
    problem = problem_of(small_model(name, dtype=dtype).to(device), moved(batch, device))
    (batch,), patchable = problem.batches, problem.patchable
    counterfactual, found = problem.counterfactuals.of(batch), {}
    everything = torch.ones(1, len(problem.space), device=device, dtype=dtype)
    for end, masks in (("all", everything), ("none", 0 * everything)):
        logits = (
            plain_logits(problem.model, batch, corrupted=end == "none"),
            patchable.logits(batch, masks, counterfactual)[0],
            patchable.masked_logits(batch, masks, counterfactual)[0],
        )
        found[end] = [x.cpu().double() for x in logits]
    return found


def check_ends(name: str, batch: Batch, device: str) -> None:
    """In single precision on a device, against double precision on the CPU."""
    found, wanted = (
        ends_of(name, batch, *where) for where in ((device, torch.float32), ("cpu", torch.float64))
    )
    for end in ("all", "none"):
        for logits in found[end]:
            equal(logits, wanted[end][0])
    assert (wanted["all"][0] - wanted["none"][0]).abs().max() > 0.1


@dataclass
class SameNoise(ConstrainedHardConcrete):
    """Masks whose noise is drawn on the CPU in double precision, wherever they live."""

    def draw(self, generator: torch.Generator) -> Tensor:
        noise = torch.Generator().manual_seed(0)
        return hard_concrete.draw(self.elements.cpu().double(), noise).to(self.elements)


def step_of(name: str, batch: Batch, device: str, dtype: torch.dtype) -> list[Tensor]:
    """One step of Edge Pruning: the objective, and the gradients of masks and multipliers."""
    problem = problem_of(small_model(name, dtype=dtype).to(device), moved(batch, device))
    settings = EdgePruning(start=1.0, clamp=None)  # some masks are neither zero nor one
    masks = SameNoise.new(settings, problem, [0.9])
    training = MaskTraining(settings.steps, len(batch), settings.objective)
    objective = StepObjective(problem, training, 0)
    loss = MaskRun(masks, training, objective, 0, problem.device).step(100)
    assert masks.elements.grad is not None
    assert masks.multipliers.grad is not None
    return [x.cpu().double() for x in (loss, masks.elements.grad, masks.multipliers.grad)]


def check_step(name: str, batch: Batch, device: str) -> None:
    found = step_of(name, batch, device, torch.float32)
    for one, wanted in zip(found, step_of(name, batch, "cpu", torch.float64), strict=True):
        equal(one, wanted)


@on_a_gpu
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_both_ends_of_the_mask_on_a_gpu(name, random_batch):
    """[1, 2, 17] All edges are the plain model, none the corrupted run."""
    check_ends(name, random_batch(), "cuda")


@on_a_gpu
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_step_of_edge_pruning_on_a_gpu(name, random_batch):
    """[17] From the same noise."""
    check_step(name, random_batch(), "cuda")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_what_is_compared_on_a_gpu_holds_on_the_cpu(name, random_batch):
    """[1, 2] In single precision against double."""
    check_ends(name, random_batch(), "cpu")
    check_step(name, random_batch(), "cpu")


# ---------------------------------------------------------------- published numbers
# Sparsity of the circuit among the 32,936 edges of GPT-2 small, and bands of held-out means.
PUBLISHED = {
    "ioi_pretrained": (0.965, {"kl": (0.20, 0.30), "accuracy": (0.68, 0.78)}),
    "greater_than_pretrained": (0.985, {"year_kl": (0.05, 0.07), "year_prob_diff": (0.58, 0.64)}),
    "gendered_pronoun_pretrained": (0.985, {"kl": (0.07, 0.10)}),
}


def circuit_numbers(
    task: Loaded[Task], model: Transformer, kind: str, params: dict, sparsity: float, pairs: int
) -> dict[str, float]:
    """A method's circuit of so many edges, on held-out pairs: means of `measures_of`."""
    data, choices, device = open_data(task), task.spec.evaluation, str(model.embedding.device)
    edges = EdgeModel(model, Graph.of(model.config, "split"))
    train, test = (
        batched(edges, data.pairs(split, count, 0, at_most=True), device, 0)
        for split, count in (("train", choices.discovery_pairs), ("test", pairs))
    )
    counterfactuals = EdgeCounterfactuals(model, edges.graph, "interchange")
    generator = torch.Generator().manual_seed(0)
    problem = Problem(edges, train, counterfactuals, choices.metric, generator)
    found = checked(make_method(kind, params).discover(problem), edges.space, kind)
    n = round((1 - sparsity) * len(edges.space))
    kept = circuit_of(found, edges.space, n, Selection(), "interchange")
    totals: dict[str, float] = {}
    for batch in test:
        logits = edges.logits(batch, kept[None], counterfactuals.of(batch))[0]
        for name, values in measures_of(logits, plain_logits(model, batch), batch).items():
            totals[name] = totals.get(name, 0.0) + float(values.sum())
    return {name: total / len(test.pairs) for name, total in totals.items()}


def measures_of(logits: Tensor, whole: Tensor, batch: Batch) -> dict[str, Tensor]:
    """Of each prompt [B]; `year_`: of probabilities among its answers alone, good and bad."""
    answers, n_good = torch.cat([batch.good, batch.bad], -1), batch.good.shape[-1]

    def among_answers(x: Tensor) -> Tensor:
        values = x.double().gather(-1, answers.clamp(min=0))
        return values.masked_fill(answers < 0, -torch.inf).log_softmax(-1)

    p, q = among_answers(whole), among_answers(logits)
    share = q.exp()
    difference = share[..., :n_good].sum(-1) - share[..., n_good:].sum(-1)
    divergence = (p.exp() * (p - q)).where(answers >= 0, 0).sum(-1)
    return {
        "kl": of_logits.kl(logits, whole, batch),
        "accuracy": of_logits.accuracy(logits, batch),
        "year_kl": of_logits.over_positions(divergence, batch),
        "year_prob_diff": of_logits.over_positions(difference, batch),
    }


@on_a_gpu
@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_numbers_of_edge_pruning(name, record_property):
    """[17] GPT-2 small, pruned with the published settings, near the published numbers.

    Wide evidence, no more: the bands are those of the published sentences, and these are this
    project's own, of the same forms. A number outside says that tasks differ as much as it says
    that methods do. The number of the first year counts as wrong here; as published it counts as
    neither right nor wrong. EAP's numbers on the same graph are noted in the report; ACDC's are
    not, whose search of this graph takes hours.
    """
    task = Library().task(name)
    for file in ("model.safetensors", "config.json", "tokenizer.json"):
        if find(f"models/gpt2/{file}", task.folder) is None:
            pytest.skip(needed(f"models/gpt2/{file}", task.folder))
    task = on_model(task, task.spec.model, task.folder)
    folder = find("models/gpt2", task.folder)
    model = load_model(folder, dtype=torch.float32, device="cuda").requires_grad_(False)
    sparsity, bands = PUBLISHED[name]
    shipped = Library().method("edge_pruning_published").spec
    params = {**shipped.params, "sparsities": [sparsity]}
    record_property("eap", circuit_numbers(task, model, "eap", {}, sparsity, 2000))
    found = circuit_numbers(task, model, shipped.kind, params, sparsity, 2000)
    record_property("edge_pruning", found)
    for measure, (low, high) in bands.items():
        assert low <= found[measure] <= high, found


@pytest.mark.parametrize("name", ["ioi_t1", "greater_than"])
def test_what_is_measured_there_can_be_measured_of_a_small_model(name):
    """The whole model's own numbers where all edges stay, and others where few do."""
    task = Library().task(name)
    data = open_data(task)
    config = TransformerConfig(
        n_layers=2,
        n_heads=2,
        d_model=16,
        d_head=8,
        d_mlp=32,
        d_vocab=data.tokenizer.size,
        n_ctx=data.longest,
    )
    model = random_model(config, 0).requires_grad_(False)
    model.final_norm.weight.mul_(20)
    params = {"sparsities": [0.5], "steps": 2}
    all_edges, few = (
        circuit_numbers(task, model, "edge_pruning", params, sparsity, 40)
        for sparsity in (0.0, 0.9)
    )
    for distance in ("kl", "year_kl"):
        assert abs(all_edges[distance]) < 1e-9
        assert few[distance] > 1e-4
    assert 0 <= few["accuracy"] <= 1
    (batch,) = batched(EdgeModel(model, Graph.of(config)), data.pairs("test", 1, 0), "cpu", 0)
    whole = plain_logits(model, batch)
    found = measures_of(whole, whole, batch)
    good, bad = ({int(i) for i in ids.flatten() if i >= 0} for ids in (batch.good, batch.bad))
    sizes = {i: math.exp(whole[0, 0, i]) for i in good | bad}
    by_hand = sum(sizes[i] for i in good) - sum(sizes[i] for i in bad)
    assert float(found["year_prob_diff"]) == pytest.approx(by_hand / sum(sizes.values()), rel=1e-5)
