"""What the bench runs: a model with random weights, random prompts, and methods on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Literal, cast

import torch
from torch import Tensor

from harness.bench.models import shape_of
from harness.bench.rows import HELD_STEPS, IG_STEPS, KEPT, MASK_STEPS, SMALL
from harness.bench.training import TRAINING
from harness.circuits.edges.counterfactuals import Activations, EdgeCounterfactuals
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.patchable import EdgeModel
from harness.circuits.space import Space
from harness.datasets.batch import Batch
from harness.discovery.acdc.acdc import Acdc
from harness.discovery.acdc.cost import sampled_cost
from harness.discovery.masks import prompts
from harness.discovery.masks.edge_pruning import EdgePruning
from harness.discovery.masks.objective import StepObjective
from harness.discovery.masks.settings import MaskDistribution, MaskMethod, MaskTraining
from harness.discovery.masks.training import MaskRun
from harness.discovery.patching.cost import seconds_per_edge
from harness.discovery.problem import Problem
from harness.discovery.registry import make_method
from harness.errors import HarnessError
from harness.models.attention import attention
from harness.models.config import TransformerConfig
from harness.models.transformer import Transformer, random_model
from harness.runs.compute.cost import plain_forward_backward
from harness.runs.compute.machine import use_runtime
from harness.spec.types import ActivationSparsity, Runtime

KEPT_SHARE = 0.05
SMALL_SHARE = 0.005
ACDC_THRESHOLD = 1e-3
PRICE = 1e-3

Precision = Literal["float32", "bfloat16", "float16"]

Run = Callable[[], object]
"""What is timed. A float that it returns is its own timing, in seconds."""


@dataclass(frozen=True)
class Bench:
    """What is measured: a model with random weights, `batch` × `length` random tokens.

    `tf32`: products of float32 on CUDA are rounded to 11 bits. `beside`: a second precision, in
    which every row is run in turns with that in `dtype`.
    """

    model: str = "gpt2-small-random"
    batch: int = 8
    length: int = 18
    threads: int = 2
    repeats: int = 5
    device: Literal["cpu", "cuda"] = "cpu"
    dtype: Precision = "float32"
    tf32: bool = False
    beside: Precision | None = None

    def prepare(self) -> None:
        """Set device, precision and threads of this process; `HarnessError` if unavailable."""
        if self.tf32 and (self.device != "cuda" or self.dtype != "float32"):
            raise HarnessError(
                "tf32 says how products of float32 are rounded on CUDA; it does not go with "
                f"{self.dtype} on {self.device}"
            )
        if self.beside is not None and (self.tf32 or self.beside == self.dtype):
            own = "float32 rounded to TF32" if self.tf32 else self.dtype
            raise HarnessError(
                f"{self.beside} beside {own} cannot be measured; choose two precisions, "
                "neither of them rounded to TF32"
            )
        use_runtime(Runtime(device=self.device, dtype=self.dtype, threads=self.threads))
        if self.tf32:
            torch.set_float32_matmul_precision("high")


class Subject:
    """The model, one batch of prompts and everything that can be run on them."""

    def __init__(self, bench: Bench) -> None:
        bench.prepare()
        self.config = shape_of(bench.model, bench.length)
        self.bench = bench
        dtype = getattr(torch, bench.dtype)
        self.model: Transformer = random_model(self.config, 0, bench.device, dtype)
        self.model.requires_grad_(False)
        self.batch = _random_batch(bench, self.config)
        self.graph = Graph.of(self.config)
        self.patchable = EdgeModel(self.model, self.graph)
        self.counterfactuals = EdgeCounterfactuals(self.model, self.graph, "interchange")

    @cached_property
    def mask(self) -> Tensor:
        """A circuit of `KEPT_SHARE` of the edges."""
        return _connected(self.patchable.space, KEPT_SHARE)

    @cached_property
    def small(self) -> Tensor:
        """A circuit of `SMALL_SHARE` of the edges."""
        return _connected(self.patchable.space, SMALL_SHARE)

    def plain(self) -> None:
        """One plain forward and backward."""
        plain_forward_backward(self.model, self.batch.clean)

    def problem(self) -> Problem:
        """Discovery on the one batch."""
        generator = torch.Generator().manual_seed(0)
        batches, counterfactuals = (self.batch,), self.counterfactuals
        return Problem(self.patchable, batches, counterfactuals, "logit_diff", generator)

    def method(self, kind: str, **params: Any) -> Run:
        """One whole discovery."""
        method, problem = make_method(kind, params), self.problem()
        return lambda: method.discover(problem)

    def pruning_step(self, kept: bool, small: bool = False) -> Run:
        """One optimiser step of Edge Pruning on the whole batch.

        `kept`: the whole model's logits and the counterfactual are cached. `small`: late in a
        training, when the masks have settled on a small circuit.
        """
        method = EdgePruning()
        masks = method.distribution(self.problem(), [1 - KEPT_SHARE])
        if small:
            sure = torch.where(self.small, method.start, -method.start)
            masks.elements.data.copy_(sure)
        return self._step(masks, method.training(), kept)

    def mask_step(self, kind: str) -> Run:
        """One step of a method that learns masks, nothing being kept from before."""
        method = cast(MaskMethod, make_method(kind, {}))
        masks = method.distribution(self.problem(), [PRICE])
        return self._step(masks, method.training(), kept=False)

    def _step(self, masks: MaskDistribution, training: MaskTraining, kept: bool) -> Run:
        problem, budget = self.problem(), prompts.BUDGET if kept else 0
        training = replace(training, batch_size=self.bench.batch)
        objective = StepObjective(problem, training, 0, budget)
        run = MaskRun(masks, training, objective, 0, problem.device)
        return lambda: run.step(0)

    def acdc_edge(self) -> Run:
        """Seconds of one tested edge of ACDC, the mean over a sample of a whole search."""
        return lambda: sampled_cost(self.problem(), Acdc(), ACDC_THRESHOLD).seconds_per_edge

    def patched_edge(self) -> Run:
        """Seconds of one edge of activation patching, the mean over a sample."""
        return lambda: seconds_per_edge(self.problem())

    def sparse(self, keep: float) -> Run:
        """A plain forward and backward of the model with AbsTopK at every site."""
        config = replace(self.config, activation_sparsity=ActivationSparsity(keep=keep))
        dtype = self.model.embedding.dtype
        model = random_model(config, 0, self.bench.device, dtype)
        return lambda: plain_forward_backward(model, self.batch.clean)

    def attention(self, sinks: bool) -> Run:
        """Causal attention of one layer's heads, forward and backward, with sinks or without."""
        config, like = self.config, self.model.embedding
        shape = (3, *self.batch.clean.shape, config.n_heads, config.d_head)
        reads = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(like)
        sink = like.new_zeros(config.n_heads).requires_grad_() if sinks else None

        def run() -> None:
            q, k, v = reads.requires_grad_().transpose(2, 3)
            attention(q, k, v, causal=True, sink=sink).sum().backward()

        return run

    def evaluation(self, mask: Tensor, cached: bool = True) -> Run:
        """One circuit, and its counterfactual unless that is cached."""
        counterfactual = self.counterfactuals.of(self.batch) if cached else None
        return lambda: self._evaluate(mask, counterfactual)

    def _evaluate(self, mask: Tensor, counterfactual: Activations | None) -> object:
        counterfactual = counterfactual or self.counterfactuals.of(self.batch)
        return self.patchable.logits(self.batch, mask[None], counterfactual)


ROWS: dict[str, Callable[[Subject], Run]] = {
    "eap": lambda subject: subject.method("eap"),
    f"eap_ig({IG_STEPS})": lambda subject: subject.method("eap_ig", steps=IG_STEPS),
    "edge_pruning step": lambda subject: subject.pruning_step(kept=False),
    "edge_pruning step+kept": lambda subject: subject.pruning_step(kept=True),
    f"edge_pruning step+kept {SMALL}": lambda subject: subject.pruning_step(True, small=True),
    "acdc per edge": Subject.acdc_edge,
    "evaluation": lambda subject: subject.evaluation(subject.mask),
    f"evaluation {SMALL}": lambda subject: subject.evaluation(subject.small),
    "evaluation+counterfactual": lambda subject: subject.evaluation(subject.mask, cached=False),
    "eap_ig_clean_corrupted": lambda subject: subject.method("eap_ig", variant="clean_corrupted"),
    f"eap_ig_activations({HELD_STEPS})": lambda subject: subject.method(
        "eap_ig", variant="activations", steps=HELD_STEPS
    ),
    f"mask_gradient_ig({IG_STEPS})": lambda subject: subject.method(
        "mask_gradient_ig", steps=IG_STEPS
    ),
    "node_attribution": lambda subject: subject.method("node_attribution"),
    "node_patching": lambda subject: subject.method("node_patching"),
    "information_flow_routes": lambda subject: subject.method("information_flow_routes"),
    "activation_patching per edge": Subject.patched_edge,
    f"abs_topk({KEPT})": lambda subject: subject.sparse(KEPT),
    "attention": lambda subject: subject.attention(sinks=False),
    "attention+sinks": lambda subject: subject.attention(sinks=True),
    **TRAINING,
    **{name: partial(Subject.mask_step, kind=kind) for name, kind in MASK_STEPS.items()},
}
"""The run of each row; caches that a row may use are filled when its run is created."""


def _connected(space: Space, share: float) -> Tensor:
    """Random paths that make up at least this share of the space: bool [E]."""
    draw, kept = torch.Generator().manual_seed(2), torch.zeros(len(space), dtype=torch.bool)
    walks = space.walks()
    while int(kept.sum()) < share * len(space):
        kept[torch.tensor(walks.path(draw))] = True
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
