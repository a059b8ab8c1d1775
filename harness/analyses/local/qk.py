"""An attention score of a prompt, as pairs of a part of the query and a part of the keys.

The score is counted from the mean over the keys that the query sees, which the softmax does not
notice. Without a target: the head that tells even distances from odd ones most, its last query, and
the key that it weighs most of those that are not its own token.
"""

from __future__ import annotations

import torch

from harness.analyses.distance.attention import parity_scores
from harness.analyses.groups import PartGroups
from harness.analyses.local.contributions import prompt_line
from harness.analyses.report import Analysis, AnalysisTable, Picture
from harness.analyses.studied import Studied
from harness.errors import HarnessError
from harness.tracing.parse import parse_target
from harness.tracing.query_key import BIASES, ScorePairs, score_pairs
from harness.tracing.run import FrozenRun


def analyse(studied: Studied) -> Analysis:
    """The largest pairs, and sums over pairs of families."""
    row = studied.choices.prompt or 0
    run = studied.prompt(row)
    layer, head, query, key = _place(studied, run, row)
    pairs = score_pairs(run, layer, head, query, key)
    named = _Named(studied, run)
    size = float(pairs.pairs.abs().sum())
    rows, bars = [], []
    for one, other, weight in pairs.largest(studied.choices.rows):
        texts = [f"{name} {named.text(name)}".rstrip() for name in (one, other)]
        rows.append((texts[0], texts[1], weight, abs(weight) / size))
        bars.append([" × ".join(texts), weight])
    name = f"a{layer}.h{head}:{query}:{key}"
    weight = float(run.frozen.scores[layer].pattern[head, query, key])
    notes = [
        prompt_line(studied, row, run),
        f"score of head a{layer}.h{head}, query {query}, key {key}, less the mean over keys: "
        f"{pairs.score:.3f}, sum of {pairs.pairs.numel():,} pairs; weight {weight:.3f}",
    ]
    table = AnalysisTable(
        f"The {len(rows)} largest pairs",
        ("query", "key", "contribution", "of all"),
        tuple(rows),
        ("of all",),
    )
    picture = Picture(
        name.replace(":", "-").replace(".", "-"), "bars", {"unit": name, "bars": bars}
    )
    return Analysis([table, named.by_family(pairs)], notes, (picture,), {"score": pairs.score})


def _place(studied: Studied, run: FrozenRun, row: int) -> tuple[int, int, int, int]:
    choices = studied.choices
    if choices.target is not None:
        target = parse_target(run, choices.target, studied.asked_of(row))
        if target.pair is None:
            raise HarnessError(
                f"{choices.target!r} is no attention score; one is attention:a1.h0:15:14"
            )
        return target.pair
    scores = parity_scores([one.pattern for one in run.frozen.scores])
    layer, head = divmod(int(scores.abs().flatten().argmax()), scores.shape[1])
    query = run.length - 1 if choices.token is None else choices.token
    if not 0 < query < run.length:
        raise HarnessError(f"no token before {query} in a prompt of {run.length}")
    weights = run.frozen.scores[layer].pattern[head, query, :query]
    return layer, head, query, int(weights.argmax())


class _Named:
    """What names of parts stand for: `m0.17@5`, or `m0.17` of keys."""

    def __init__(self, studied: Studied, run: FrozenRun) -> None:
        self.studied, self.run = studied, run
        self.groups = PartGroups(studied)

    def _feature(self, name: str) -> tuple[str, int] | None:
        writer, _, unit = name.partition("@")[0].partition(".")
        return (writer, int(unit)) if unit.isdecimal() else None

    def text(self, name: str) -> str:
        feature = self._feature(name)
        if feature is None:
            return ""
        return self.studied.features.text(self._site(feature[0]), feature[1])

    def _site(self, writer: str) -> str:
        return self.studied.site_of(self.run, self.run.writer_of(writer))

    def group(self, name: str) -> str:
        if name == BIASES:
            return "biases"
        feature = self._feature(name)
        if feature is not None:
            return self.studied.features.family(self._site(feature[0]), feature[1])
        last = name.partition("@")[0].rpartition(".")[2]
        return {"embed": "embeddings", "position": "positions", "error": "errors"}.get(
            last, "biases" if last == "bias" else "heads" if last.startswith("h") else "MLPs"
        )

    def by_family(self, pairs: ScorePairs) -> AnalysisTable:
        """Sums of pairs, of the families of either side; those of the largest magnitude."""
        names = self.groups.names
        index = [
            torch.tensor([names.index(self.group(one)) for one in side])
            for side in (pairs.queries, pairs.keys)
        ]
        summed = torch.zeros(len(names), len(names), dtype=torch.float64)
        summed.index_put_((index[0][:, None], index[1][None]), pairs.pairs.double().cpu(), True)
        order = summed.abs().flatten().argsort(descending=True)[: self.studied.choices.rows]
        rows = tuple(
            (
                names[int(at) // len(names)],
                names[int(at) % len(names)],
                float(summed.flatten()[at]),
                float(summed.flatten()[at]) / pairs.score,
            )
            for at in order
            if summed.flatten()[at]
        )
        columns = ("query", "key", "contribution", "of the score")
        return AnalysisTable("By families of query and key", columns, rows, ("of the score",))
