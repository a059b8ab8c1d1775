"""Targets as a user writes them.

logit:a4, logit:a4@15     a logit less the mean of all, at the read position or at a token
logit:#17                 the same, by the output's number
logit_diff, logit_diff@15 mean logit of the right answers minus that of the wrong ones
feature:m1.357@15         a feature's activity (a neuron's without a dictionary); m1.out.357 too
attention:a1.h0:15:14     a head's score of a query and a key, less the mean over keys
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from harness.errors import HarnessError
from harness.spec.issues import unknown
from harness.tracing.run import FrozenRun
from harness.tracing.target import (
    Target,
    find_unit,
    logit_target,
    part_target,
    score_target,
    single_logit,
)

FORMS = (
    "logit:TOKEN, logit:TOKEN@15, logit_diff, feature:m1.357@15 or attention:a1.h0:15:14 (layer "
    "and head, then the tokens of query and key)"
)
_UNIT = re.compile(r"([am]\d+)(?:\.out)?\.(\d+)@(\d+)")
_SCORE = re.compile(r"a(\d+)\.h(\d+):(\d+):(\d+)")


@dataclass(frozen=True)
class PromptOutputs:
    """What a model answers with: names of all outputs, and where and what a prompt asks.

    `good`, `bad`: outputs that are right and wrong at token `read`.
    """

    names: Sequence[str]
    read: int
    good: Sequence[int]
    bad: Sequence[int]


def parse_target(run: FrozenRun, text: str | None, outputs: PromptOutputs) -> Target:
    """The target of a text; None is the largest logit at the read position.

    Raises `HarnessError` for what is not a target, or not one of this run.
    """
    if text is None:
        output = int(run.frozen.raw[outputs.read].argmax())
        return single_logit(run, f"logit:{outputs.names[output]}", output, outputs.read)
    kind, _, rest = text.partition(":")
    if kind == "logit" and rest:
        return _logit(run, rest, outputs)
    if kind.partition("@")[0] == "logit_diff" and not rest:
        return _difference(run, kind.partition("@")[2], outputs)
    if kind == "feature" and (unit := _UNIT.fullmatch(rest)):
        place = find_unit(run, unit[1], int(unit[2]), int(unit[3]))
        return part_target(run, place)
    if kind == "attention" and (score := _SCORE.fullmatch(rest)):
        layer, head, query, key = map(int, score.groups())
        return score_target(run, layer, head, query, key)
    raise HarnessError(f"no target: {text!r}; there are {FORMS}")


def _logit(run: FrozenRun, text: str, outputs: PromptOutputs) -> Target:
    output = _output(text, outputs)
    if output is not None:
        return single_logit(run, f"logit:{text}", output, outputs.read)
    name, _, token = text.rpartition("@")
    output = _output(name, outputs) if name and token.isdecimal() else None
    if output is None:
        raise HarnessError(unknown("output", name or text, outputs.names))
    return single_logit(run, f"logit:{text}", output, int(token))


def _output(name: str, outputs: PromptOutputs) -> int | None:
    if name.startswith("#") and name[1:].isdecimal() and int(name[1:]) < len(outputs.names):
        return int(name[1:])
    for one in (name, f" {name}"):
        if one in outputs.names:
            return outputs.names.index(one)
    return None


def _difference(run: FrozenRun, token: str, outputs: PromptOutputs) -> Target:
    if not outputs.good or not outputs.bad:
        raise HarnessError("the prompt has no right or no wrong answers to take a difference of")
    weights = torch.zeros(len(outputs.names), dtype=torch.float64)
    for sign, answers in ((1, outputs.good), (-1, outputs.bad)):
        for answer in answers:
            weights[answer] += sign / len(answers)
    if token and not token.isdecimal():
        raise HarnessError(f"logit_diff@{token}: {token!r} is no token's number")
    at = int(token) if token else outputs.read
    return logit_target(run, "logit_diff" + (f"@{token}" if token else ""), weights, at)
