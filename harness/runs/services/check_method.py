"""Try a method on a tiny random model, in seconds: does it do what a method has to?"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from harness.datasets.open import open_data
from harness.discovery.problem import Discovery, Problem
from harness.discovery.refusals import method_problem
from harness.discovery.registry import make_method
from harness.discovery.sizing import checked
from harness.errors import HarnessError
from harness.models.config import TransformerConfig
from harness.models.transformer import Transformer, random_model
from harness.runs.compute.plug_in_frames import described
from harness.runs.compute.prepare import Drawn, check_lengths, prepare
from harness.spec.load import Library
from harness.spec.shipped import shipped_root
from harness.spec.types import Architecture, Evaluation, Method

TASK = "tasks/ioi_t1.yaml"
PAIRS = 16
SHAPE = Architecture(n_layers=2, n_heads=2, d_model=16)
ABLATIONS = ("interchange", "zero", "mean")
EXACT = "activation_patching"


@dataclass(frozen=True)
class MethodCheck:
    """One check: `problem` is None if it passed."""

    check: str
    problem: str | None = None
    note: str = ""


class Trial:
    """A method's spec, a tiny model with random weights, and a few prompt pairs."""

    def __init__(self, method: Method) -> None:
        self.method = method
        loaded = Library().task(str(shipped_root() / TASK))
        self.data = open_data(loaded)
        self.choices = replace(
            loaded.spec.evaluation, discovery_pairs=PAIRS, test_pairs=PAIRS, sizes=(0.1, 0.5)
        )
        tokens = self.data.tokenizer.size, self.data.longest
        self.model: Transformer = random_model(
            TransformerConfig.from_architecture(SHAPE, *tokens), 0
        )
        self.model.requires_grad_(False).eval()

    def outcomes(self) -> Iterator[MethodCheck]:
        """The checks one after another; the rest is left out where the first ones fail."""
        method, before = self.method, self._weights()
        began = time.perf_counter()
        try:
            discovery = self._discover(self.choices)
        except Exception as error:
            yield MethodCheck("finds scores", _reason(error))
            return
        seconds = time.perf_counter() - began
        note = f"{seconds:.2f} s, {PAIRS} pairs, {len(discovery.scores)} elements"
        yield MethodCheck("finds scores", None, note)
        yield MethodCheck("scores tell elements apart", _all_equal(discovery))
        yield MethodCheck("leaves the model as it was", self._changed(before))
        yield self._again(discovery)
        for ablation in ABLATIONS[1:]:
            yield self._under(f"ablation {ablation}", replace(self.choices, ablation=ablation))
        one = replace(self.choices, positions="per_token")
        yield self._under("edges of each position", one)
        if method.kind != EXACT and not _all_equal(discovery):
            yield MethodCheck("agrees with exact patching", None, self._agreement(discovery))

    def _discover(self, choices: Evaluation, kind: str = "", seed: int = 0) -> Discovery:
        drawn = Drawn(self.data.pairs("train", PAIRS, seed), self.data.pairs("test", PAIRS, 0))
        check_lengths(choices, drawn)
        setup = prepare(self.model, choices, drawn, device="cpu", seed=seed).discovery
        total = len(setup.space)
        problem = Problem(
            setup.patchable,
            setup.batches,
            setup.counterfactuals,
            choices.metric,
            torch.Generator().manual_seed(seed),
            (total // 10, total // 2),
        )
        method = make_method(kind or self.method.kind, {} if kind else self.method.params)
        return checked(method.discover(problem), setup.space, kind or self.method.name)

    def _again(self, discovery: Discovery) -> MethodCheck:
        name = "gives the same twice for one seed"
        try:
            return MethodCheck(name, _differs(discovery, self._discover(self.choices)))
        except Exception as error:
            return MethodCheck(name, _reason(error))

    def _under(self, name: str, choices: Evaluation) -> MethodCheck:
        """Other choices; a method may refuse them with an error of its own."""
        refusal = method_problem(self.method.kind, self.method.params, choices, post_norms=False)
        if refusal is None:
            try:
                self._discover(choices)
            except HarnessError as error:
                refusal = str(error)
            except Exception as error:
                return MethodCheck(name, _reason(error))
        return MethodCheck(name, None, "" if refusal is None else f"refused: {refusal}")

    def _agreement(self, discovery: Discovery) -> str:
        from scipy.stats import spearmanr

        exact = self._discover(self.choices, EXACT).scores.abs()
        value = float(spearmanr(discovery.scores.abs(), exact).statistic)
        return f"rank correlation of magnitudes {value:.2f}; 1 is exact, random scores have 0"

    def _weights(self) -> list[Tensor]:
        return [parameter.clone() for parameter in self.model.parameters()]

    def _changed(self, before: list[Tensor]) -> str | None:
        parameters = list(self.model.parameters())
        if any(parameter.requires_grad for parameter in parameters):
            return "parameters of the model require gradients afterwards"
        same = all(torch.equal(one, own) for one, own in zip(before, parameters, strict=True))
        return None if same else "weights of the model have changed"


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, HarnessError) else described(error)


def _all_equal(discovery: Discovery) -> str | None:
    if discovery.circuits or float(discovery.scores.std()) > 0:
        return None
    scores = discovery.scores
    return f"all {len(scores)} scores are {float(scores[0]):g}: nothing can be ranked"


def _differs(one: Discovery, other: Discovery) -> str | None:
    pairs: list[tuple[Any, Any]] = [(one.scores, other.scores)]
    pairs += zip(one.circuits, other.circuits, strict=False)
    if len(one.circuits) == len(other.circuits) and all(torch.equal(a, b) for a, b in pairs):
        return None
    return "scores differ: draw everything random from problem.generator"
