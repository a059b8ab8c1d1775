"""What must hold exactly: sums of parts are the number itself, along direct and along all paths."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from support.frozen_reference import FrozenReference
from support.slow_reference import small_model
from support.traces import CODES, LENGTH, dictionaries, model_of, of_names, run_of, tokens

from harness.dictionaries.dictionary import Dictionary
from harness.errors import HarnessError
from harness.models.sites import tapped_run
from harness.models.transformer import ACTIVATIONS
from harness.tracing.frozen.gates import GATES
from harness.tracing.influence import total_influence
from harness.tracing.run import FrozenRun, Place, frozen_run
from harness.tracing.target import Target, part_target, score_target, single_logit

pytestmark = pytest.mark.matrix
every_architecture = pytest.mark.parametrize("name", of_names())


def logit(run: FrozenRun, token: int = LENGTH - 1, output: int = 3) -> Target:
    return single_logit(run, "logit", output, token)


def activities(run: FrozenRun) -> Iterator[Target]:
    """Some features or neurons of every module, at several tokens."""
    for at, writer in enumerate(run.writers):
        if writer.kind in ("feature", "neuron"):
            for token in (0, LENGTH - 1):
                present = (writer.main.units[token] >= 0).nonzero().flatten().tolist()
                for column in present[:: max(1, len(present) // 2)]:
                    yield part_target(run, Place(at, token, column))


def scores(run: FrozenRun) -> Iterator[Target]:
    heads = run.model.config.n_heads
    for layer in range(run.model.config.n_layers):
        for head, query, key in ((0, 5, 5), (heads - 1, 5, 4), (heads - 1, 2, 1)):
            for from_mean in (True, False):
                yield score_target(run, layer, head, query, key, from_mean=from_mean)


def targets(run: FrozenRun) -> Iterator[Target]:
    yield logit(run)
    yield logit(run, 2, 0)
    yield from activities(run)
    yield from scores(run)


# ---------------------------------------------------------------- sums
@every_architecture
@pytest.mark.parametrize(
    ("code", "dtype", "tolerance"),
    [(code, torch.float64, 1e-10) for code in CODES if code != "modules"]
    + [("dictionaries", torch.float32, 1e-4), ("modules", torch.float32, 1e-4)],
)
def test_contributions_and_the_leaf_budget_sum_to_every_kind_of_target(
    name, code, dtype, tolerance
):
    run, _ = run_of(name, code, dtype)
    for target in targets(run):
        own = run.influence(target.stream[None], target.below).sum()
        assert float(own) + target.constant == pytest.approx(target.value, abs=tolerance)
        budget = total_influence(run, target).budget
        assert sum(budget.values()) == pytest.approx(target.value, abs=tolerance)
        assert budget["cut"] == 0
        if code in ("neurons", "modules"):
            assert budget["error"] == 0


@every_architecture
def test_values_of_targets_are_those_of_the_model(name):
    run, codes = run_of(name, "dictionaries")
    model = run.model
    values = {}

    def tap(site, value):
        values[site] = value[0]
        return value

    tapped_run(model, run.tokens[None], tap)
    logits = model(run.tokens[None])[0]
    assert logit(run).value == pytest.approx(float(logits[5, 3] - logits[5].mean()), abs=1e-12)
    for site, dictionary in codes.items():
        code = dictionary.encode(values[site])
        at = run.writer_of(site[:2])
        for token in range(LENGTH):
            for column in (run.writers[at].main.units[token] >= 0).nonzero().flatten().tolist():
                unit = int(run.writers[at].main.units[token, column])
                value = part_target(run, Place(at, token, column)).value
                assert value == pytest.approx(float(code[token, unit]), abs=1e-12)


@every_architecture
def test_scores_explain_the_pattern(name):
    """Differences of scores of two keys are those of the logarithms of their weights."""
    run, _ = run_of(name, "modules")
    for layer, frozen in enumerate(run.frozen.scores):
        for head in range(run.model.config.n_heads):
            keys = frozen.seen[5].nonzero().flatten().tolist()
            one, other = (
                score_target(run, layer, head, 5, key, from_mean=False).value for key in keys[-2:]
            )
            mean = [score_target(run, layer, head, 5, key).value for key in keys]
            logs = frozen.pattern[head, 5].log()
            assert other - one == pytest.approx(float(logs[keys[-1]] - logs[keys[-2]]), abs=1e-10)
            assert sum(mean) == pytest.approx(0, abs=1e-10)


# ---------------------------------------------------------------- ablation with all else frozen
@every_architecture
@pytest.mark.parametrize("code", ["dictionaries", "neurons"])
def test_a_part_taken_out_changes_logits_by_its_influence(name, code):
    """Everything else frozen, an independent run without the part differs by exactly that."""
    run, codes = run_of(name, code)
    reference = FrozenReference(run.model, run.tokens, codes)
    logits = run.model(run.tokens[None])[0]
    torch.testing.assert_close(reference.plain["logits"], logits, rtol=0, atol=1e-10)
    target = logit(run)
    influence = total_influence(run, target).parts
    for place in some_parts(run):
        vector = run.writers[place.writer].vectors(
            torch.tensor([place.token]), torch.tensor([place.column])
        )[0]
        without = reference.run({(run.writers[place.writer].name, place.token): -vector})
        change = (without["logits"] - reference.plain["logits"])[5]
        column = run.offsets[place.writer] + place.column
        expected = -float(influence[place.token, column])
        assert float(change[3] - change.mean()) == pytest.approx(expected, abs=1e-10)


@every_architecture
def test_a_part_taken_out_changes_features_by_its_influence(name):
    run, codes = run_of(name, "dictionaries")
    reference = FrozenReference(run.model, run.tokens, codes)
    for target in list(activities(run))[-4::3]:
        writer, rest = target.name.split(".")
        unit, token = map(int, rest.split("@"))
        influence = total_influence(run, target).parts
        for place in list(some_parts(run))[::7]:
            vector = run.writers[place.writer].vectors(
                torch.tensor([place.token]), torch.tensor([place.column])
            )[0]
            changed = reference.run({(run.writers[place.writer].name, place.token): -vector})
            site = f"{writer}.out"
            change = (changed[site] - reference.plain[site])[token, unit]
            column = run.offsets[place.writer] + place.column
            expected = -float(influence[place.token, column])
            assert float(change) == pytest.approx(expected, abs=1e-10)


def some_parts(run: FrozenRun) -> Iterator[Place]:
    for at, writer in enumerate(run.writers):
        for token in (0, 5):
            present = (writer.units[token] >= 0).nonzero().flatten().tolist()
            for column in {*present[:: max(1, len(present) // 2)], present[-1]}:
                yield Place(at, token, column)


# ---------------------------------------------------------------- laws
@every_architecture
def test_what_comes_later_contributes_nothing(name):
    """No part of a later layer; in a causal model, none of a later token."""
    run, _ = run_of(name, "dictionaries")
    for target in [logit(run, 3), *activities(run), *scores(run)]:
        influence = total_influence(run, target).parts
        assert not influence[:, run.offsets[target.below] :].any()
        if run.model.config.causal:
            assert not influence[target.token + 1 :].any()


@every_architecture
def test_an_order_of_features_is_only_an_order(name):
    model = model_of(name)
    codes = dictionaries(model, "a.out", "m.out")
    shuffled = {site: permuted(one) for site, one in codes.items()}
    influences = []
    for chosen in (codes, shuffled):
        run = frozen_run(model, tokens(), chosen)
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


@every_architecture
def test_an_identity_dictionary_has_no_errors(name):
    """F = 2D, directions plus and minus every axis: nothing is left over."""
    model = model_of(name)
    width = model.config.d_model
    eye = torch.eye(width, dtype=torch.float64)
    one = Dictionary(width, 2 * width, "relu_l1").double().requires_grad_(False)
    one.encoder.copy_(torch.cat([eye, -eye]))
    one.decoder.copy_(one.encoder)
    sites = [f"{kind}{layer}.out" for layer in range(model.config.n_layers) for kind in "am"]
    run = frozen_run(
        model, tokens(), {site: one for site in sites if model.config.has_mlp or site[0] == "a"}
    )
    influence = total_influence(run, logit(run))
    assert influence.budget["error"] == pytest.approx(0, abs=1e-10)
    assert influence.budget["bias"] == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_gates_are_activations_divided_by_their_input(name):
    z = torch.linspace(-6, 6, 240, dtype=torch.float64)
    torch.testing.assert_close(GATES[name](z) * z, ACTIVATIONS[name](z), rtol=1e-12, atol=1e-12)
    assert torch.isfinite(GATES[name](torch.zeros(1))).all()


def test_through_gates_an_activity_is_its_integrated_gradient():
    """What a part contributes through frozen gates is its integrated gradient from z = 0."""
    z = torch.linspace(-3, 3, 31, dtype=torch.float64)
    for name in ("gelu", "gelu_tanh", "silu", "tanh", "gelu_quick"):
        total = torch.zeros_like(z)
        steps = 400
        for step in range(steps):
            point = (z * (step + 0.5) / steps).requires_grad_()
            (gradient,) = torch.autograd.grad(ACTIVATIONS[name](point).sum(), point)
            total += gradient / steps
        torch.testing.assert_close(GATES[name](z), total, rtol=0, atol=1e-5)


# ---------------------------------------------------------------- refusals
def test_half_precision_is_refused():
    with pytest.raises(HarnessError, match="float32 or float64"):
        frozen_run(small_model("gpt2-like", dtype=torch.bfloat16), tokens())


def test_dictionaries_that_are_of_no_module_are_refused():
    model = small_model("gpt2-like")
    one = dictionaries(model, "m.out")["m0.out"]
    with pytest.raises(HarnessError, match=r"'a0.stream'.*train dictionaries of"):
        frozen_run(model, tokens(), {"a0.stream": one})
    with pytest.raises(HarnessError, match="12 channels, the model has 20"):
        frozen_run(model, tokens(), {"m0.hidden": one})
    hidden = dictionaries(model, "m.hidden")["m0.hidden"]
    with pytest.raises(HarnessError, match=r"m0.out and of the hidden layer before it"):
        frozen_run(model, tokens(), {"m0.out": one, "m0.hidden": hidden})


def test_a_model_that_does_something_else_is_refused():
    """A change that the frozen run does not know shows in its check."""
    model = small_model("gpt2-like")
    block = next(model.layers())
    block.activation = lambda x: torch.relu(x) + 0.1
    with pytest.raises(HarnessError, match="something that tracing does not know"):
        frozen_run(model, tokens())
