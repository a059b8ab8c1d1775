"""What nodes write to the answers, and what heads look at, in the run of the whole model.

With the scale of the last norm held at that of the run, the difference between the mean logits of
right and wrong answers is a sum over what every part writes (direct logit attribution).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from harness.circuits.circuit import Circuit
from harness.circuits.edges.space import EdgeSpace
from harness.circuits.gates.space import GatedSpace
from harness.datasets.batch import Batch
from harness.errors import HarnessError
from harness.evaluation.setup import Setup
from harness.tracing.run import FrozenRun, frozen_run
from harness.tracing.target import Target, logits_target

PAIRS = 8
"""Prompts that contributions are means over: the first of the largest batch."""

MOST_TOKENS = 256
"""Tokens of these prompts together: fewer prompts where they are long."""

HEADS = 24
"""Heads whose pattern on the example is stored: those that write most to the answers."""

LOOKED = 3
"""Tokens that are named of what a head looks at where the answer is read."""

MOST_CHANNELS = 40
"""Channels of a circuit of which it is said what they write: those that write most."""


@dataclass(frozen=True)
class AnswerWrites:
    """Mean contributions over `n` prompts to `logit_diff`, by node.

    `looks`: of heads on the example, [place, share] of the tokens looked at most from where the
    answer is read. `patterns`: whole, as bytes of shares (255 is all), base64, row after row.
    """

    n: int = 0
    logit_diff: float | None = None
    writes: Mapping[str, float] = field(default_factory=dict)
    looks: Mapping[str, list[list[float]]] = field(default_factory=dict)
    patterns: Mapping[str, str] = field(default_factory=dict)


@torch.no_grad()
def written_by(setup: Setup, circuit: Circuit, example: Batch, window: slice) -> AnswerWrites:
    """What the circuit's nodes write in runs of the whole model; `window`: tokens of the example.

    Raises `HarnessError` for models that are not traced exactly, and in half precision.
    """
    largest = max(setup.batches, key=len)
    few = largest.take(torch.arange(min(len(largest), PAIRS, _fitting(largest))))
    run = frozen_run(setup.model, few.clean, mlps="modules")
    target = answers_target(run, few)
    parts = _components(run, target)
    space = circuit.space
    if isinstance(space, EdgeSpace):
        used = circuit.components()
        writes = {name: parts[name] for name in parts if used.get(name, name == "input")}
        heads = [name for name in writes if ".h" in name]
        heads.sort(key=lambda name: -abs(writes[name]))
    elif isinstance(space, GatedSpace):
        kept = set(circuit.elements())
        channels = _channels(run, target) if space.granularity == "channel" else {}
        writes = {name: value for name, value in channels.items() if name in kept}
        chosen = sorted(writes, key=lambda name: -abs(writes[name]))[:MOST_CHANNELS]
        writes = {name: writes[name] for name in sorted(chosen, key=list(writes).index)}
        heads = [name for name, used in circuit.components().items() if used and ".h" in name]
    else:
        return AnswerWrites(len(few), target.value, {name: parts[name] for name in parts})
    alone = frozen_run(setup.model, example.clean[0], mlps="modules")
    read = int(example.positions.max())
    looks, patterns = {}, {}
    for name in heads[:HEADS]:
        pattern = _pattern(alone, name)
        looks[name] = _looked(pattern[read], window)
        patterns[name] = _packed(pattern[window, window])
    return AnswerWrites(len(few), target.value, writes, looks, patterns)


def _fitting(batch: Batch) -> int:
    return max(1, MOST_TOKENS // batch.clean.shape[1])


def answers_target(run: FrozenRun, batch: Batch) -> Target:
    """Mean logit of right answers less that of wrong ones, of all without wrong ones.

    A mean over read positions and prompts.
    """
    length, outputs = batch.clean.shape[1], run.frozen.raw.shape[1]
    weights, tokens = [], []
    for row in range(len(batch)):
        slots = batch.read[row].nonzero().flatten().tolist()
        for slot in slots:
            good, bad = _mean(batch.good[row, slot], outputs), _mean(batch.bad[row, slot], outputs)
            weights.append((good - bad) / (len(slots) * len(batch)))
            tokens.append(row * length + int(batch.positions[row, slot]))
    return logits_target(run, "logit_diff", torch.stack(weights), run.index(tokens))


def _mean(answers: Tensor, outputs: int) -> Tensor:
    """Weights [V] of the mean logit of a set of answers; of all outputs if it is empty."""
    inside = answers[answers >= 0].cpu()
    if not len(inside):
        return torch.full((outputs,), 1 / outputs, dtype=torch.float64)
    counts = torch.bincount(inside, minlength=outputs).double()
    return counts / counts.sum()


def _components(run: FrozenRun, target: Target) -> dict[str, float]:
    """What heads, MLPs and the embeddings contribute together over all tokens."""
    direction = target.stream[None]
    named: dict[str, float] = {}
    for writer in run.writers:
        own = writer.influence(direction)[0].double().sum(0).tolist()
        if writer.kind == "head":
            named |= {f"{writer.name}.h{head}": own[head] for head in range(writer.own)}
        else:
            name = "input" if writer.kind in ("embed", "position") else writer.name
            named[name] = named.get(name, 0.0) + own[0]
    return named


def _channels(run: FrozenRun, target: Target) -> dict[str, float]:
    """What each channel that a module writes contributes, over all tokens."""
    named: dict[str, float] = {}
    for at, writer in enumerate(run.writers):
        if writer.reading is None:
            continue
        own = (writer.output() * target.stream).double().sum(0).tolist()
        site = run.site_of(at)
        named |= {f"{site}.{channel}": value for channel, value in enumerate(own)}
    return named


def _pattern(run: FrozenRun, head: str) -> Tensor:
    """The pattern [T, T] of `a1.h3`."""
    layer, _, own = head.partition(".")
    attention = run.frozen.attentions[int(layer[1:])]
    return attention.pattern[int(own[1:])]


def _looked(row: Tensor, window: slice) -> list[list[float]]:
    """The largest shares of a row [T], with places counted from the window's first token."""
    top = row.topk(min(LOOKED, len(row)))
    return [
        [at - window.start, share]
        for at, share in zip(top.indices.tolist(), top.values.tolist(), strict=True)
        if share >= 0.005
    ]


def _packed(pattern: Tensor) -> str:
    shares = (pattern.clamp(0, 1) * 255).round().to(torch.uint8)
    return base64.b64encode(bytes(shares.flatten().tolist())).decode("ascii")


def unpacked(text: str, length: int) -> Sequence[Sequence[int]]:
    """Rows of a stored pattern. Raises `HarnessError` if it is not one of so many tokens."""
    data = base64.b64decode(text)
    if len(data) != length * length:
        raise HarnessError(f"a pattern of {len(data)} numbers is not one of {length} tokens")
    return [data[start : start + length] for start in range(0, len(data), length)]
