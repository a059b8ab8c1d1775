"""What the bench runs: a model with random weights, random prompts, and methods on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.circuits.graph import Graph
from harness.circuits.patching import PatchedModel
from harness.circuits.paths import Walks
from harness.circuits.reference import Activations, References
from harness.discovery import prompts
from harness.discovery.acdc import Acdc
from harness.discovery.acdc_cost import sampled_cost
from harness.discovery.edge_pruning import ConstrainedMasks, EdgePruning
from harness.discovery.mask_training import MaskRun, Training, task_of
from harness.discovery.problem import Problem
from harness.discovery.registry import make_method
from harness.models.batch import Batch
from harness.models.config import GPT2_SMALL, TransformerConfig
from harness.models.transformer import Transformer, random_model
from harness.runs.cost import plain_forward_backward

IG_STEPS = 5
KEPT_SHARE = 0.05
SMALL_SHARE = 0.005
SMALL = "@0.5%"
ACDC_THRESHOLD = 1e-3

MODELS = {
    "gpt2-small-random": GPT2_SMALL,
    "small-random": TransformerConfig(
        n_layers=4, n_heads=4, d_model=128, d_head=32, d_mlp=512, d_vocab=512, n_ctx=64
    ),
}


@dataclass(frozen=True)
class Bench:
    """What is measured: a model with random weights, `batch` × `length` random tokens."""

    model: str = "gpt2-small-random"
    batch: int = 8
    length: int = 18
    threads: int = 2
    repeats: int = 5
    device: str = "cpu"


class Subject:
    """The model, one batch of prompts and everything that can be run on them."""

    def __init__(self, bench: Bench) -> None:
        torch.set_num_threads(bench.threads)
        config = MODELS[bench.model]
        self.bench, self.graph = bench, Graph.of(config)
        self.model: Transformer = random_model(config, seed=0).to(bench.device)
        self.model.requires_grad_(False)
        self.batch = _random_batch(bench, config)
        self.references = References(self.model, self.graph, "interchange")
        self.patched = PatchedModel(self.model, self.graph)
        self.mask = _connected(self.graph, KEPT_SHARE)
        self.small = _connected(self.graph, SMALL_SHARE)

    def plain(self) -> None:
        """One plain forward and backward."""
        plain_forward_backward(self.model, self.batch.clean)

    def problem(self) -> Problem:
        """Discovery on the one batch."""
        generator = torch.Generator().manual_seed(0)
        return Problem(self.patched, (self.batch,), self.references, "logit_diff", generator)

    def method(self, kind: str, **params: Any) -> Callable[[], object]:
        """One whole discovery."""
        found, problem = make_method(kind, params), self.problem()
        return lambda: found.discover(problem)

    def pruning_step(self, kept: bool, small: bool = False) -> Callable[[], object]:
        """One optimiser step of Edge Pruning on the whole batch.

        `kept`: the whole model's logits and the counterfactual are there from before. `small`: late
        in a training, when masks are sure of a small circuit.
        """
        problem, settings = self.problem(), EdgePruning()
        law = ConstrainedMasks.new(settings, problem, [1 - KEPT_SHARE])
        if small:
            sure = torch.where(self.small[self.graph.allowed], settings.start, -settings.start)
            law.edges.data.copy_(sure)
        training = Training(settings.steps, self.bench.batch, settings.objective, settings.warmup)
        budget = prompts.BUDGET if kept else 0
        run = MaskRun(law, training, task_of(problem, training, 0, budget), 0, problem.device)
        return lambda: run.step(0)

    def acdc_edge(self) -> float:
        """Seconds of one tested edge of ACDC, the mean over a sample of a whole search."""
        return sampled_cost(self.problem(), Acdc(), ACDC_THRESHOLD).seconds_per_edge

    def evaluate(self, mask: Tensor, reference: Activations | None = None) -> object:
        """One circuit, with its counterfactual if none is given."""
        reference = reference or self.references.of(self.batch)
        return self.patched.logits(self.batch, mask[None], reference)

    def runs(self) -> dict[str, Callable[[], object]]:
        """Everything measured, by row name."""
        reference = self.references.of(self.batch)
        return {
            "eap": self.method("eap"),
            f"eap_ig({IG_STEPS})": self.method("eap_ig", steps=IG_STEPS),
            "edge_pruning step": self.pruning_step(kept=False),
            "edge_pruning step+kept": self.pruning_step(kept=True),
            f"edge_pruning step+kept {SMALL}": self.pruning_step(kept=True, small=True),
            "acdc per edge": self.acdc_edge,
            "evaluation": lambda: self.evaluate(self.mask, reference),
            f"evaluation {SMALL}": lambda: self.evaluate(self.small, reference),
            "evaluation+counterfactual": lambda: self.evaluate(self.mask),
        }


def _connected(graph: Graph, share: float) -> Tensor:
    """A circuit of at least this share of the edges, made of random paths: bool [W, R]."""
    draw, kept = torch.Generator().manual_seed(2), torch.zeros_like(graph.allowed)
    walks = Walks(graph)
    while int(kept.sum()) < share * graph.n_edges:
        for edge in walks.path(draw):
            kept[edge] = True
    return kept


def _random_batch(bench: Bench, config: TransformerConfig) -> Batch:
    draw = torch.Generator().manual_seed(0)

    def tokens(*shape: int) -> Tensor:
        return torch.randint(config.d_vocab, shape, generator=draw).to(bench.device)

    n = bench.batch
    last = torch.full((n, 1), bench.length - 1, device=bench.device)
    rows = torch.arange(n, device=bench.device)
    good = tokens(n, 1, 1)
    bad = (good + 1) % config.d_vocab
    return Batch(tokens(n, bench.length), tokens(n, bench.length), last, good, bad, rows)
