"""By how few parts targets are driven: logits, and features of MLPs and attention, and scores.

Of the positive contributions to a target: the share of the largest (`top-1`), and the fewest that
make up four fifths of them (`k80`). Targets are every logit that is the largest at its token, and
features and scores at every fifth token.
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import torch
from torch import Tensor

from harness.analyses.groups import PartGroups
from harness.analyses.reading import all_features, feature_writers, features_read, logits_read
from harness.analyses.report import Analysis, AnalysisTable
from harness.analyses.studied import Studied
from harness.tracing.query_key import score_pairs
from harness.tracing.run import FrozenRun

STEP = 5
"""Every so many tokens, features and scores are taken apart."""

MASS = 0.8


class Concentration(NamedTuple):
    """Of N targets [N] each: share of the largest positive contribution, and how many make `MASS`.

    `parts`: how many contribute at all.
    """

    top: Tensor
    fewest: Tensor
    parts: Tensor


def concentration(contributions: Tensor) -> Concentration:
    """Of contributions [N, P]; 0 where nothing is positive."""
    positive = contributions.clamp(min=0).double().sort(-1, descending=True).values
    total = positive.sum(-1, keepdim=True)
    before = positive.cumsum(-1) - positive
    count = ((before < MASS * total) & (positive > 0)).sum(-1)
    top = positive[:, 0] / total[:, 0].clamp(min=1e-30)
    return Concentration(top, count, (contributions != 0).sum(-1))


class _Rows:
    def __init__(self) -> None:
        self.of: dict[tuple[str, str], list[Concentration]] = defaultdict(list)

    def add(self, kind: str, module: str, contributions: Tensor) -> None:
        if len(contributions):
            self.of[kind, module].append(concentration(contributions))

    def table(self) -> AnalysisTable:
        rows = []
        for (kind, module), some in sorted(self.of.items(), key=lambda item: _ORDER[item[0][0]]):
            top, count, parts = (torch.cat(column).double() for column in zip(*some, strict=True))
            rows.append(
                (
                    kind,
                    module,
                    len(top),
                    float(top.mean()),
                    float(count.median()),
                    float(parts.mean()),
                    float(count.mean() / parts.mean()),
                )
            )
        columns = ("target", "module", "n", "top-1", "k80", "parts", "k80 of parts")
        return AnalysisTable(
            "Of the positive contributions to a target",
            columns,
            tuple(rows),
            ("top-1", "k80 of parts"),
        )


_ORDER = {"logit": 0, "mlp": 1, "ov": 2, "qk": 3}


def analyse(studied: Studied) -> Analysis:
    """Concentration by kind of target and module, and what the largest part of a logit is."""
    rows, groups = _Rows(), PartGroups(studied)
    output_of = outputs_of_concepts(studied)
    from_last, fits, logits = 0, 0, 0
    for run, _ in studied.games("counting large contributions"):
        tokens = torch.arange(run.length)
        read = logits_read(run, tokens, run.frozen.raw.argmax(-1))
        rows.add("logit", "logits", read.parts)
        largest = read.parts.argmax(-1).cpu()
        concepts = groups.concepts_of_parts(run)[tokens, largest]
        last = run.offsets[feature_writers(run)[-1]]
        from_last += int((largest >= last).sum())
        about = output_of[concepts.clamp(min=0)].masked_fill(concepts < 0, -1)
        fits += int((about == read.units.cpu()).sum())
        logits += run.length
        for at in feature_writers(run):
            _of_features(rows, run, at)
        _of_scores(rows, run)
    notes = [
        f"{studied.choices.sequences} held-out games. The largest part of a logit is written by "
        f"the last module in {from_last / max(1, logits):.0%} of {logits:,} cases, and is a "
        f"feature named after that very output in {fits / max(1, logits):.0%}."
    ]
    return Analysis([rows.table()], notes)


def outputs_of_concepts(studied: Studied) -> Tensor:
    """The output that each concept is about [C], -1 where it is about none."""
    outputs: list[int] = []
    for family in studied.features.families:
        outputs += family.outputs or [-1] * len(family.concepts)
    return torch.tensor(outputs)


def _of_features(rows: _Rows, run: FrozenRun, at: int) -> None:
    tokens, columns = all_features(run, at)
    chosen = tokens % STEP == STEP - 1
    name = run.writers[at].name
    for read in features_read(run, at, tokens[chosen], columns[chosen]):
        rows.add("ov" if name.startswith("a") else "mlp", name, read.parts.flatten(1))


def _of_scores(rows: _Rows, run: FrozenRun) -> None:
    """The score of the key that each head weighs most, as pairs of parts."""
    for layer, scores in enumerate(run.frozen.scores):
        for token in range(STEP - 1, run.length, 2 * STEP):
            for head in range(len(scores.pattern)):
                key = int(scores.pattern[head, token].argmax())
                pairs = score_pairs(run, layer, head, token, key).pairs
                rows.add("qk", f"a{layer}", pairs.flatten()[None])
