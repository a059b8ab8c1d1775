"""What must hold exactly of any frozen run, whatever model and dictionaries it is of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
import torch
from torch import Tensor

from harness.dictionaries.dictionary import Dictionary
from harness.models.transformer import Transformer
from harness.tracing.influence import total_influence
from harness.tracing.run import FrozenRun, Place, frozen_run
from harness.tracing.target import Target, part_target, score_target, single_logit
from support.frozen_reference import FrozenReference


# ---------------------------------------------------------------- targets and parts
def logit(run: FrozenRun, token: int = -1, output: int = 3) -> Target:
    return single_logit(run, "logit", output, token % run.length)


def activities(run: FrozenRun) -> Iterator[Target]:
    """Some features or neurons of every module, at several tokens."""
    for at, writer in enumerate(run.writers):
        if writer.kind in ("feature", "neuron"):
            for token in (0, run.length - 1):
                present = (writer.main.units[token] >= 0).nonzero().flatten().tolist()
                for column in present[:: max(1, len(present) // 2)]:
                    yield part_target(run, Place(at, token, column))


def scores(run: FrozenRun) -> Iterator[Target]:
    heads, last = run.model.config.n_heads, run.length - 1
    for layer in range(run.model.config.n_layers):
        for head, query, key in (
            (0, last, last),
            (heads - 1, last, last - 1),
            (heads - 1, 2, 1),
        ):
            for from_mean in (True, False):
                yield score_target(run, layer, head, query, key, from_mean=from_mean)


def targets(run: FrozenRun) -> Iterator[Target]:
    yield logit(run)
    yield logit(run, 2, 0)
    yield from activities(run)
    yield from scores(run)


def some_parts(run: FrozenRun) -> Iterator[Place]:
    for at, writer in enumerate(run.writers):
        for token in (0, run.length - 1):
            present = (writer.units[token] >= 0).nonzero().flatten().tolist()
            for column in {*present[:: max(1, len(present) // 2)], present[-1]}:
                yield Place(at, token, column)


def vector_of(run: FrozenRun, place: Place) -> Tensor:
    token, column = torch.tensor([place.token]), torch.tensor([place.column])
    return run.writers[place.writer].vectors(token, column)[0]


# ---------------------------------------------------------------- identities
def sums_are_the_number(run: FrozenRun, tolerance: float) -> None:
    """Direct contributions and the leaf budget of every kind of target."""
    for target in targets(run):
        close = pytest.approx(target.value, abs=tolerance, rel=10 * tolerance)
        own = run.influence(target.stream[None], target.below).sum()
        assert float(own) + target.constant == close, target.name
        budget = total_influence(run, target).budget
        assert sum(budget.values()) == close, target.name
        assert budget["cut"] == 0


def removals_change_logits_by_influence(
    run: FrozenRun, codes: Mapping[str, Dictionary], every: int = 1
) -> None:
    """An independent run, all else frozen: without a part the logit falls by its influence."""
    reference = FrozenReference(run.model, run.tokens, codes)
    plain, last = reference.plain["logits"], run.length - 1
    torch.testing.assert_close(plain, run.model(run.tokens[None])[0], rtol=0, atol=1e-10)
    influence = total_influence(run, logit(run)).parts
    for place in list(some_parts(run))[::every]:
        name = run.writers[place.writer].name
        without = reference.run({(name, place.token): -vector_of(run, place)})
        change = (without["logits"] - plain)[last]
        column = run.offsets[place.writer] + place.column
        expected = -float(influence[place.token, column])
        assert float(change[3] - change.mean()) == pytest.approx(expected, abs=1e-10)


def what_comes_later_contributes_nothing(run: FrozenRun) -> None:
    """No part of a later layer; in a causal model, none of a later token."""
    for target in [logit(run, run.length // 2), *activities(run), *scores(run)]:
        influence = total_influence(run, target).parts
        assert not influence[:, run.offsets[target.below] :].any()
        if run.model.config.causal:
            assert not influence[target.token + 1 :].any()


def an_order_of_features_is_only_an_order(
    model: Transformer, tokens: Tensor, codes: Mapping[str, Dictionary]
) -> None:
    shuffled = {site: permuted(one) for site, one in codes.items()}
    influences = []
    for chosen in (codes, shuffled):
        run = frozen_run(model, tokens, chosen)
        influence = total_influence(run, logit(run))
        influences.append((influence.budget, influence.parts.sum(-1)))
    for kind, value in influences[0][0].items():
        assert value == pytest.approx(influences[1][0][kind], abs=1e-10)
    torch.testing.assert_close(influences[0][1], influences[1][1], rtol=0, atol=1e-10)


def permuted(one: Dictionary) -> Dictionary:
    order = torch.randperm(one.features, generator=torch.Generator().manual_seed(1))
    copy = Dictionary(one.width, one.features, one.activation, k=one.k, pre_bias=one.pre_bias)
    copy = copy.double().requires_grad_(False)
    copy.encoder.copy_(one.encoder[order])
    copy.decoder.copy_(one.decoder[order])
    copy.encoder_bias.copy_(one.encoder_bias[order])
    copy.decoder_bias.copy_(one.decoder_bias)
    if one.threshold is not None:
        copy.threshold = one.threshold[order] if len(one.threshold) > 1 else one.threshold
    return copy


def an_identity_dictionary_has_no_errors(model: Transformer, tokens: Tensor) -> None:
    """F = 2D, directions plus and minus every axis: nothing is left over."""
    width = model.config.d_model
    eye = torch.eye(width, dtype=torch.float64)
    one = Dictionary(width, 2 * width, "relu_l1").double().requires_grad_(False)
    one.encoder.copy_(torch.cat([eye, -eye]))
    one.decoder.copy_(one.encoder)
    kinds = "am" if model.config.has_mlp else "a"
    sites = [f"{kind}{layer}.out" for layer in range(model.config.n_layers) for kind in kinds]
    run = frozen_run(model, tokens, dict.fromkeys(sites, one))
    budget = total_influence(run, logit(run)).budget
    assert budget["error"] == pytest.approx(0, abs=1e-10)
    assert budget["bias"] == pytest.approx(0, abs=1e-10)


def scores_explain_the_pattern(run: FrozenRun) -> None:
    """Differences of scores of two keys are those of the logarithms of their weights."""
    last = run.length - 1
    for layer, frozen in enumerate(run.frozen.scores):
        for head in range(run.model.config.n_heads):
            keys = frozen.seen[last].nonzero().flatten().tolist()
            one, other = (
                score_target(run, layer, head, last, key, from_mean=False).value
                for key in keys[-2:]
            )
            mean = [score_target(run, layer, head, last, key).value for key in keys]
            logs = frozen.pattern[head, last].log()
            if torch.isfinite(logs[keys[-2:]]).all():
                expected = float(logs[keys[-1]] - logs[keys[-2]])
                assert other - one == pytest.approx(expected, abs=1e-10)
            assert sum(mean) == pytest.approx(0, abs=1e-10)
