"""The parts that a number of a run is made of, as a table: the largest, and sums by family."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from harness.analyses.groups import PartGroups
from harness.analyses.report import Analysis, AnalysisTable, Picture
from harness.analyses.studied import Studied
from harness.tracing.parse import parse_target
from harness.tracing.run import FrozenRun, Place
from harness.tracing.target import Target, part_target

GAME = 40
"""Tokens of a prompt that are shown."""


@dataclass(frozen=True)
class Contributions:
    """What each part [T, C] of a run contributes to a target, and what no part does.

    `value` = Σ parts + constant.
    """

    run: FrozenRun
    target: Target
    parts: Tensor

    @classmethod
    def of(cls, run: FrozenRun, target: Target) -> Contributions:
        """All direct contributions to a target."""
        return cls(run, target, run.influence(target.stream[None], target.below)[0])

    def largest(self, n: int) -> list[tuple[int, int, float]]:
        """Token, column and contribution of the n largest in magnitude."""
        flat = self.parts.flatten()
        chosen = flat.abs().topk(min(n, int((flat != 0).sum()))).indices.tolist()
        width = self.parts.shape[1]
        return [(at // width, at % width, float(flat[at])) for at in chosen]


def taken_apart(studied: Studied, row: int, one: Contributions, about: str) -> Analysis:
    """An analysis of one target: its largest parts, and the sums of each family."""
    target, rows = one.target, studied.choices.rows
    size = one.parts.abs().sum()
    table_rows = []
    bars = []
    for token, column, weight in one.largest(rows):
        name, text = (
            one.run.name(one.run.place(column, token)),
            studied.text_of(one.run, column, token),
        )
        activity = _activity(one.run, token, column)
        distance = target.token - token
        share = abs(weight) / float(size)
        table_rows.append((name, activity, distance, weight, share, text))
        bars.append([f"{name} {text}".rstrip(), weight])
    positive, negative = one.parts.clamp(min=0).sum(), one.parts.clamp(max=0).sum()
    title = f"{about} {target.name}".strip()
    notes = [
        prompt_line(studied, row, one.run),
        f"{title} = {target.value:.3f}: {float(positive):+.3f} {float(negative):+.3f}, constant "
        f"{target.constant:+.3f}",
    ]
    largest = AnalysisTable(
        f"The {len(table_rows)} largest contributions",
        ("part", "activity", "back", "contribution", "of all", "stands for"),
        tuple(table_rows),
        ("of all",),
    )
    slug = target.name.replace(":", "-").replace(".", "-").replace("@", "-at-")
    return Analysis(
        [largest, by_family(studied, one)],
        notes,
        (Picture(slug, "bars", {"unit": title, "bars": bars}),),
        {"prompt": row, "value": target.value, "constant": target.constant},
    )


def by_family(studied: Studied, one: Contributions) -> AnalysisTable:
    """Positive and negative contributions of each family."""
    groups = PartGroups(studied)
    of_parts = groups.of_parts(one.run)[:, : one.parts.shape[1]].flatten()[None]
    flat = one.parts.flatten()[None]
    positive = groups.summed(flat.clamp(min=0), of_parts)[0]
    negative = groups.summed(flat.clamp(max=0), of_parts)[0]
    whole = float(one.parts.double().abs().sum())
    rows = [
        (
            groups.names[at],
            float(positive[at]),
            float(negative[at]),
            float(positive[at] - negative[at]) / whole,
        )
        for at in range(len(groups))
        if positive[at] or negative[at]
    ]
    return AnalysisTable(
        "By family", ("from", "positive", "negative", "of all"), tuple(rows), ("of all",)
    )


def _activity(run: FrozenRun, token: int, column: int) -> float | None:
    place = run.place(column, token)
    if run.kind(place) not in ("feature", "neuron"):
        return None
    return float(run.writers[place.writer].values[token, place.column])


def prompt_line(studied: Studied, row: int, run: FrozenRun) -> str:
    """The tokens of a prompt."""
    texts = token_texts(studied, run)
    shown = " ".join(texts[:GAME]) + (" …" if len(texts) > GAME else "")
    return f"test prompt {row}: {shown}"


def token_texts(studied: Studied, run: FrozenRun) -> Sequence[str]:
    """Each token of a run as text."""
    names, tokens = studied.data.tokenizer.tokens, run.tokens.tolist()
    return [names[token] if token < len(names) else f"<{token}>" for token in tokens]


def strongest_feature(studied: Studied, run: FrozenRun, kind: str) -> tuple[int, int, int] | None:
    """Writer, token and column of the feature to take apart: None where none is active.

    Of the modules of a kind (`a` or `m`) the strongest named feature of the last that has any; only
    of the family and at the token that were asked for, and confirmed labels before others. Of
    attention, one at the first token, where nothing can come from other tokens, is the last choice.
    """
    choices, best = studied.choices, None
    for at, writer in enumerate(run.writers):
        if writer.kind != "feature" or not writer.name.startswith(kind):
            continue
        site = studied.site_of(run, at)
        named = studied.features.by_site.get(site, {})
        rows, columns = (writer.main.units >= 0).nonzero(as_tuple=True)
        for token, column in zip(rows.tolist(), columns.tolist(), strict=True):
            unit = int(writer.main.units[token, column])
            if choices.token not in (None, token) or unit not in named:
                continue
            if choices.family not in (None, studied.features.family(site, unit)):
                continue
            value = float(writer.main.values[token, column])
            rank = kind != "a" or token > 0, named[unit].confirmed, at, value
            if best is None or rank > best[0]:
                best = rank, (at, token, column)
    return None if best is None else best[1]


def of_feature(studied: Studied, kind: str, about: str) -> Analysis:
    """What a feature of a module of a kind is made of: the target's, or the strongest."""
    choices = studied.choices
    if choices.target is not None:
        row = choices.prompt or 0
        run = studied.prompt(row)
        target = parse_target(run, choices.target, studied.asked_of(row))
    else:
        which = "" if choices.family is None else f" of family {choices.family!r}"
        row, run, place = studied.first_prompt(
            lambda one: strongest_feature(studied, one, kind), f"named feature{which} of {about}"
        )
        target = part_target(run, Place(*place))
    contributions = Contributions.of(run, target)
    text = target_text(studied, run, target)
    return taken_apart(studied, row, contributions, f"{about} {text}".strip())


def target_text(studied: Studied, run: FrozenRun, target: Target) -> str:
    """What a target that is a feature stands for, in brackets; "" for other targets."""
    writer = target.name.partition(".")[0]
    if target.kind not in ("mlp", "ov"):
        return ""
    text = studied.features.text(studied.site_of(run, run.writer_of(writer)), target.unit)
    return f"({text})" if text else ""
