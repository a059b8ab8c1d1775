"""Total influence of features, traced without patching (He et al. 2024).

score[f] = mean over pairs of |Σ_positions activity · ∂(target)/∂(activity)|, everything else frozen

on the clean prompt: norm scales, attention patterns, gates and the choice of active features are
held, and the gradient is that of the whole frozen model, one pass backward (`harness.tracing`). The
target is the mean logit of the right answers minus that of the wrong ones, or minus the mean of all
where there are no wrong ones, added up over the read positions. A feature that the clean prompt
does not use has no influence, and corrupted prompts are not looked at: the score says what taking a
feature away does, to first order, and knows nothing of the ablation. `signed` keeps the sign: then
features that work against the right answers rank last.

Cost: about 3 plain forward+backwards, prompt by prompt: the frozen run, and one pass back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar

from harness.discovery.info import MethodInfo
from harness.discovery.problem import Discovery, Problem
from harness.errors import HarnessError
from harness.progress import through
from harness.spec.key import About, Key

if TYPE_CHECKING:
    from torch import Tensor

    from harness.circuits.gates.model import GatedModel
    from harness.datasets.batch import Batch
    from harness.dictionaries.dictionary import Dictionary
    from harness.tracing.run import FrozenRun
    from harness.tracing.target import Target


@dataclass(frozen=True)
class TracedInfluence:
    """`signed`: whether influences against the right answers count as such."""

    ABOUT: ClassVar = About("Parameters of `traced_influence`", name="traced_influence")

    signed: Annotated[
        bool,
        Key(
            "Signed",
            "Whether influences keep their sign, so that what works against the right answers "
            "ranks last; else the larger of either sign ranks first.",
            [True],
        ),
    ] = False

    def discover(self, problem: Problem) -> Discovery:
        """Score all features, and errors where these are elements.

        Raises `HarnessError` where circuits are not made of features of modules' outputs.
        """
        import torch

        from harness.tracing.run import frozen_run

        model, codes = _features_of(problem)
        total = torch.zeros(len(model.space), dtype=torch.float64)
        for batch in through(problem.batches, "traced_influence", "batch"):
            for row in range(len(batch)):
                run = frozen_run(model.model, batch.clean[row], codes)
                scores = _influences(model, run, _target(run, batch, row))
                total += scores if self.signed else scores.abs()
        return Discovery(total / problem.n_pairs)


def _features_of(problem: Problem) -> tuple[GatedModel, dict[str, Dictionary]]:
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


def _target(run: FrozenRun, batch: Batch, row: int) -> Target:
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


def _influences(model: GatedModel, run: FrozenRun, target: Target) -> Tensor:
    """Influence of every element, added up over positions, [E] float64."""
    import torch

    from harness.tracing.influence import total_influence

    parts = total_influence(run, target).parts.double().cpu()
    scores = []
    for gates in model.space.gates:
        at = next(
            place
            for place, writer in enumerate(run.writers)
            if gates.name.startswith(f"{writer.name}.")
        )
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


INFO = MethodInfo(
    kind="traced_influence",
    title="Total influence of features in the frozen model, one pass backward, nothing patched",
    method=TracedInfluence,
    cost="about 3, prompt by prompt",
    needs="dictionaries",
    per_token=False,
    passes=lambda params, extent: 3.0,
)
