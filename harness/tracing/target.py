"""What a trace starts from: a logit, a difference of logits, a feature, an attention score.

Each is affine in the stream that it reads: a direction at every token, and a constant.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from harness.errors import HarnessError
from harness.tracing.run import FrozenRun, Place

TargetKind = Literal["logit", "ov", "mlp", "score"]
"""What computes a target from the stream: the unembedding, values, an MLP, queries and keys."""


@dataclass(frozen=True)
class Target:
    """A number of a frozen run: value = Σ parts of the first `below` writers · stream + constant.

    `stream` [T, D]. `heads` [H, T, D]: the same apart by head, for what attention computes. It is
    read at `token`; `unit` is the output, feature, neuron or head; -1 for several. `probability`:
    of a single output. `outputs` [V]: weights of the logits, of a target that is made of them.
    `pair`: layer, head, query and key of a score.
    """

    name: str
    kind: TargetKind
    token: int
    unit: int
    value: float
    below: int
    stream: Tensor
    constant: float
    heads: Tensor | None = None
    probability: float | None = None
    outputs: Tensor | None = None
    pair: tuple[int, int, int, int] | None = None


def logit_target(run: FrozenRun, name: str, outputs: Tensor, token: int, unit: int = -1) -> Target:
    """A linear function of the logits at a token; `outputs` [V] are its weights.

    A soft cap is held at what it multiplies each logit by.
    """
    _refuse_token(run, token)
    target = logits_target(run, name, outputs[None], run.index([token]))
    return replace(target, token=token, unit=unit, outputs=outputs)


def logits_target(run: FrozenRun, name: str, outputs: Tensor, tokens: Tensor) -> Target:
    """The sum of linear functions of logits, each at a token: weights [N, V] and tokens [N]."""
    frozen, model = run.frozen, run.model
    weights = outputs.to(frozen.raw) * frozen.cap_share[tokens]
    matrix = model.embedding if model.config.tied else model.unembedding
    read = weights @ matrix
    stream = read.new_zeros(run.length, read.shape[-1])
    stream.index_add_(0, tokens, frozen.final.adjoint(read, tokens))
    constant = float(frozen.final.constant(read, tokens).sum())
    if frozen.added is not None:
        constant += float((weights * frozen.added[tokens]).sum())
    value = float((weights * frozen.raw[tokens]).sum())
    return Target(name, "logit", -1, -1, value, len(run.writers), stream, constant)


def single_logit(run: FrozenRun, name: str, output: int, token: int) -> Target:
    """One logit at a token less the mean of all, which a shift of all does not change."""
    outputs = torch.zeros(run.frozen.raw.shape[-1], dtype=torch.float64)
    outputs[output] = 1
    target = logit_target(run, name, outputs - outputs.mean(), token, output)
    logits = (run.frozen.raw * run.frozen.cap_share)[token]
    return replace(target, probability=float(logits.softmax(-1)[output]))


def part_target(run: FrozenRun, place: Place) -> Target:
    """The activity of a feature or neuron. Raises `HarnessError` for other parts."""
    writer, name = run.writers[place.writer], run.name(place)
    if run.kind(place) not in ("feature", "neuron"):
        raise HarnessError(f"{name} has no activity of its own that could be traced")
    assert writer.reading is not None
    rows, columns = run.index([place.token]), run.index([place.column])
    nothing = run.frozen.final.gain.new_zeros(1, run.model.config.d_model)
    one = writer.reading.expand(rows, columns, nothing)
    value, constant = float(one.value), float(one.constant)
    unit = int(writer.units[place.token, place.column])
    if one.stream.ndim == 4:
        heads = one.stream[0]
        return Target(
            name, "ov", place.token, unit, value, writer.below, heads.sum(0), constant, heads
        )
    stream = nothing.new_zeros(run.length, nothing.shape[1])
    stream[place.token] = one.stream[0]
    return Target(name, "mlp", place.token, unit, value, writer.below, stream, constant)


def find_unit(run: FrozenRun, writer: str, unit: int, token: int) -> Place:
    """The place of a feature or neuron. Raises `HarnessError` where it is not active."""
    _refuse_token(run, token)
    at = run.writer_of(writer)
    (columns,) = (run.writers[at].main.units[token] == unit).nonzero(as_tuple=True)
    if run.writers[at].kind not in ("feature", "neuron"):
        raise HarnessError(f"{writer} is not taken apart into features or neurons")
    if len(columns) == 0:
        raise HarnessError(
            f"{writer}.{unit} is not active at token {token}; only what is active is traced"
        )
    return Place(at, token, int(columns[0]))


def score_target(
    run: FrozenRun, layer: int, head: int, query: int, key: int, *, from_mean: bool = True
) -> Target:
    """An attention score, half of it through the query with keys held, half through the keys.

    `from_mean`: less the mean score over the keys that the query sees. Raises `HarnessError` for
    places that there are not, and keys that the query does not see.
    """
    name = f"a{layer}.h{head}:{query}:{key}"
    if not 0 <= layer < len(run.frozen.scores):
        raise HarnessError(f"the model has {len(run.frozen.scores)} layers; {name} is in none")
    scores = run.frozen.scores[layer]
    if not 0 <= head < len(scores.pattern):
        raise HarnessError(f"a{layer} has {len(scores.pattern)} heads, no h{head}")
    for token in (query, key):
        _refuse_token(run, token)
    if not scores.seen[query, key]:
        raise HarnessError(f"{name}: the query at {query} does not see the key at {key}")
    group = head // scores.shared_by
    weights = scores.key_weights(head, query, key, from_mean)
    mixed = weights @ scores.keys.final[group]  # [K]
    row = run.index([query])
    of_query, query_constant = scores.queries.adjoint(mixed[None], row, head)
    every = run.index(range(run.length))
    wanted = weights[:, None] * scores.queries.final[head, query]
    of_keys, key_constants = scores.keys.adjoint(wanted, every, group)
    stream = of_keys / 2
    stream[query] += of_query[0] / 2
    constant = float(query_constant.sum() + key_constants.sum()) / 2
    value = float(mixed @ scores.queries.final[head, query])
    below = next(one.below for one in run.writers if one.name == f"a{layer}")
    pair = layer, head, query, key
    return Target(name, "score", query, head, value, below, stream, constant, pair=pair)


def _refuse_token(run: FrozenRun, token: int) -> None:
    if not 0 <= token < run.length:
        raise HarnessError(f"the prompt has tokens 0 to {run.length - 1}, no {token}")
