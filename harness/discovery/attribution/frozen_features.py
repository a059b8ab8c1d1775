"""Features of a problem in frozen runs of its prompts: what methods that patch nothing share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
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


def frozen_runs(problem: Problem, name: str) -> Iterator[tuple[FrozenRun, Target]]:
    """A frozen run of every clean prompt, and its target, see `answers_target`.

    Raises `HarnessError` where circuits are not made of features of modules' outputs.
    """
    from harness.tracing.run import frozen_run

    model, codes = features_of(problem)
    for batch in through(problem.batches, name, "batch"):
        for row in range(len(batch)):
            run = frozen_run(model.model, batch.clean[row], codes)
            yield run, answers_target(run, batch, row)


def features_of(problem: Problem) -> tuple[GatedModel, dict[str, Dictionary]]:
    """The gated model, and its dictionaries by site. Raises as `frozen_runs`."""
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


def answers_target(run: FrozenRun, batch: Batch, row: int) -> Target:
    """Right minus wrong answers of a prompt, added up over the read positions."""
    import torch

    from harness.tracing.target import logit_target

    outputs = run.model.config.n_outputs
    targets = []
    for slot in batch.read[row].nonzero().flatten().tolist():
        weights = torch.zeros(outputs, dtype=torch.float64)
        for sign, answers in ((1, batch.good[row, slot]), (-1, batch.bad[row, slot])):
            chosen = answers[answers >= 0].cpu()
            weights[chosen] += sign / max(1, len(chosen))
        token = int(batch.positions[row, slot])
        targets.append(logit_target(run, "logit_diff", weights - weights.mean(), token))
    stream = sum((one.stream for one in targets[1:]), targets[0].stream)
    return replace(
        targets[0],
        stream=stream,
        value=sum(one.value for one in targets),
        constant=sum(one.constant for one in targets),
    )


def by_element(model: GatedModel, run: FrozenRun, parts: Tensor) -> Tensor:
    """Numbers of all parts [T, C] by element, added up over positions: [E] float64."""
    import torch

    parts = parts.double().cpu()
    scores = []
    for gates in model.space.gates:
        at = writer_of(run, gates.name)
        writer, start = run.writers[at], run.offsets[at]
        own = parts[:, start : start + writer.own]
        units = writer.main.units.cpu()
        present = units >= 0
        by_unit = torch.zeros(gates.size, dtype=torch.float64)
        by_unit.index_add_(0, units[present], own[present])
        scores.append(by_unit)
        if gates.rest == "element":
            error = start + writer.own + writer.tail_kinds.index("error")
            scores.append(parts[:, error].sum()[None])
    return torch.cat(scores)


def writer_of(run: FrozenRun, site: str) -> int:
    """The place of the writer that a site's features are of."""
    return next(place for place, one in enumerate(run.writers) if site.startswith(f"{one.name}."))
