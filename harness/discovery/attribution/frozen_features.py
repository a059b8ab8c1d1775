"""Features of a problem in frozen runs of its prompts: what methods that patch nothing share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from harness.discovery.problem import Problem
from harness.errors import HarnessError
from harness.progress import through

if TYPE_CHECKING:
    from torch import Tensor

    from harness.circuits.gates.model import GatedModel
    from harness.datasets.batch import Batch
    from harness.dictionaries.dictionary import Dictionary
    from harness.tracing.run import FrozenRun
    from harness.tracing.target import Target

    Score = Callable[[GatedModel, FrozenRun, Target], Tensor]
    """Numbers of all elements for the prompts of a run, [B, E] float64."""


PACK = 128
"""Tokens of a run, where there are prompts enough: a run's attention grows with their square."""


def mean_over_prompts(
    problem: Problem, name: str, score: Score, *, signed: bool, pack: int = PACK
) -> Tensor:
    """The mean over clean prompts of what `score` says of each, or of its magnitude: [E] float64.

    Prompts of one length share frozen runs of at most `pack` tokens, but for a longer prompt.
    Raises `HarnessError` where circuits are not made of features of modules' outputs.
    """
    import torch

    from harness.tracing.run import frozen_run

    model, codes = features_of(problem)
    total = torch.zeros(len(model.space), dtype=torch.float64)
    for batch in through(problem.batches, name, "batch"):
        for rows in torch.arange(len(batch)).split(max(1, pack // batch.clean.shape[1])):
            part = batch.take(rows)
            run = frozen_run(model.model, part.clean, codes)
            scores = score(model, run, answers_target(run, part))
            total += (scores if signed else scores.abs()).sum(0)
    return total / problem.n_pairs


def features_of(problem: Problem) -> tuple[GatedModel, dict[str, Dictionary]]:
    """The gated model, and its dictionaries by site. Raises as `mean_over_prompts`."""
    from harness.circuits.gates.features import Features
    from harness.circuits.gates.model import GatedModel

    model = problem.patchable
    if not isinstance(model, GatedModel) or not all(
        isinstance(code, Features) for code in model.codes.values()
    ):
        raise HarnessError(
            f"this method finds circuits of features; these are made of {problem.space.unit}"
        )
    codes = {
        site: code.dictionary for site, code in model.codes.items() if isinstance(code, Features)
    }
    return model, codes


def answers_target(run: FrozenRun, batch: Batch) -> Target:
    """Right minus wrong answers of the prompts of a run, added up over the read positions."""
    import torch

    from harness.tracing.target import logits_target

    read = batch.read.cpu()
    weights = torch.zeros(int(read.sum()), run.model.config.n_outputs, dtype=torch.float64)
    for sign, answers in ((1, batch.good), (-1, batch.bad)):
        chosen = answers.cpu()[read]  # [N, ·]
        present = (chosen >= 0).double()
        share = present / present.sum(-1, keepdim=True).clamp(min=1)
        weights.scatter_add_(1, chosen.clamp(min=0), sign * share)
    starts = torch.arange(len(batch))[:, None] * batch.clean.shape[1]
    tokens = (batch.positions.cpu() + starts)[read].to(batch.clean.device)
    centred = weights - weights.mean(-1, keepdim=True)
    return logits_target(run, "logit_diff", centred, tokens)


def by_element(model: GatedModel, run: FrozenRun, parts: Tensor) -> Tensor:
    """Numbers of all parts [T, C] by prompt and element, summed over positions: [B, E] float64."""
    import torch

    scores = []
    for gates in model.space.gates:
        at = writer_of(run, gates.name)
        writer, start = run.writers[at], run.offsets[at]
        own = parts[:, start : start + writer.own].double()
        scores.append(writer.main.by_unit(own, run.prompts, gates.size))
        if gates.rest == "element":
            error = start + writer.own + writer.tail_kinds.index("error")
            scores.append(parts[:, error].double().view(run.prompts, -1).sum(1, keepdim=True))
    return torch.cat(scores, 1).cpu()


def writer_of(run: FrozenRun, site: str) -> int:
    """The place of the writer that a site's features are of."""
    return next(place for place, one in enumerate(run.writers) if site.startswith(f"{one.name}."))
