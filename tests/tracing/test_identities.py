"""What must hold exactly: sums of parts are the number itself, along direct and along all paths."""

from __future__ import annotations

import pytest
import torch
from support.frozen_reference import FrozenReference
from support.identities import (
    activities,
    an_identity_dictionary_has_no_errors,
    an_order_of_features_is_only_an_order,
    logit,
    removals_change_logits_by_influence,
    scores_explain_the_pattern,
    some_parts,
    sums_are_the_number,
    targets,
    vector_of,
    what_comes_later_contributes_nothing,
)
from support.slow_reference import small_model
from support.traces import CODES, LENGTH, dictionaries, model_of, of_names, run_of, tokens

from harness.errors import HarnessError
from harness.models.sites import tapped_run
from harness.models.transformer import ACTIVATIONS
from harness.tracing.frozen.gates import GATES
from harness.tracing.influence import total_influence
from harness.tracing.run import Place, frozen_run
from harness.tracing.target import part_target

pytestmark = pytest.mark.matrix
every_architecture = pytest.mark.parametrize("name", of_names())


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
    sums_are_the_number(run, tolerance)
    if code in ("neurons", "modules"):
        assert all(total_influence(run, one).budget["error"] == 0 for one in targets(run))


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
    scores_explain_the_pattern(run_of(name, "modules")[0])


# ---------------------------------------------------------------- ablation with all else frozen
@every_architecture
@pytest.mark.parametrize("code", ["dictionaries", "neurons"])
def test_a_part_taken_out_changes_logits_by_its_influence(name, code):
    removals_change_logits_by_influence(*run_of(name, code))


@every_architecture
def test_a_part_taken_out_changes_features_by_its_influence(name):
    run, codes = run_of(name, "dictionaries")
    reference = FrozenReference(run.model, run.tokens, codes)
    for target in list(activities(run))[-4::3]:
        writer, rest = target.name.split(".")
        unit, token = map(int, rest.split("@"))
        influence = total_influence(run, target).parts
        for place in list(some_parts(run))[::7]:
            vector = vector_of(run, place)
            changed = reference.run({(run.writers[place.writer].name, place.token): -vector})
            site = f"{writer}.out"
            change = (changed[site] - reference.plain[site])[token, unit]
            column = run.offsets[place.writer] + place.column
            expected = -float(influence[place.token, column])
            assert float(change) == pytest.approx(expected, abs=1e-10)


# ---------------------------------------------------------------- laws
@every_architecture
def test_what_comes_later_contributes_nothing(name):
    what_comes_later_contributes_nothing(run_of(name, "dictionaries")[0])


@every_architecture
def test_an_order_of_features_is_only_an_order(name):
    model = model_of(name)
    codes = dictionaries(model, "a.out", "m.out")
    an_order_of_features_is_only_an_order(model, tokens(), codes)


@every_architecture
def test_an_identity_dictionary_has_no_errors(name):
    an_identity_dictionary_has_no_errors(model_of(name), tokens())


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
