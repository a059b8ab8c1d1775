"""Methods that patch nothing: what a frozen run without a feature loses, along which paths."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support.frozen_reference import FrozenReference
from support.traces import dictionaries, model_of, of_names, tokens

from harness.circuits.gates.features import patchable
from harness.circuits.patchable import make_patchable, plain_logits
from harness.dictionaries.dictionary import DictionarySet
from harness.discovery.attribution.frozen_features import answers_target, mean_over_prompts
from harness.discovery.attribution.traced_influence import influence_of_features
from harness.discovery.problem import Problem
from harness.discovery.refusals import tracing_problem
from harness.discovery.registry import make_method
from harness.discovery.sizing import checked
from harness.errors import HarnessError
from harness.models.sites import sites
from harness.spec.load import Library
from harness.spec.types import Evaluation
from harness.tracing.influence import total_influence
from harness.tracing.run import frozen_run


def problem_of(name, batch, component="features_and_errors", *kinds):
    model = model_of(name)
    codes = dictionaries(model, *(kinds or ("a.out", "m.out")))
    choices = Evaluation(
        granularity="feature", component=component, ablation="zero", positions="all"
    )
    gated = patchable(model, choices, [], dictionaries=DictionarySet(codes))
    counterfactuals = gated.counterfactuals(choices, [batch], 0)
    draw = torch.Generator().manual_seed(0)
    return Problem(gated, (batch,), counterfactuals, "logit_diff", draw), codes


@pytest.mark.parametrize("name", ["gpt2-like", "gemma-like", "parallel"])
def test_scores_are_what_a_frozen_run_without_the_element_loses(name, random_batch):
    batch = random_batch(n=2)
    problem, codes = problem_of(name, batch)
    space, model = problem.space, problem.model
    found = checked(
        make_method("traced_influence", {}).discover(problem), space, "traced_influence"
    )
    signed = make_method("traced_influence", {"signed": True}).discover(problem).scores
    names = [space.name(at) for at in range(len(space))]
    for element in (*range(0, len(space), 17), names.index("a1.out.error")):
        losses = []
        for row in range(2):
            reference = FrozenReference(model, batch.clean[row], codes)
            changes, site, unit = {}, *names[element].rsplit(".", 1)
            one, value = codes[site], reference.own[site]
            for token in range(len(value)):
                vector = (
                    value[token] - one(value[token])
                    if unit == "error"
                    else one.encode(value[token])[int(unit)] * one.decoder[int(unit)]
                )
                changes[site[:2], token] = -vector
            change = (reference.run(changes)["logits"] - reference.plain["logits"])[5]
            good, bad = int(batch.good[row, 0, 0]), int(batch.bad[row, 0, 0])
            losses.append(float(change[bad] - change[good]))
        assert float(signed[element]) == pytest.approx(sum(losses) / 2, abs=1e-10)
        expected = sum(map(abs, losses)) / 2
        assert float(found.scores[element]) == pytest.approx(expected, abs=1e-10)


def one_by_one(problem, codes, batch, scores_of):
    """The mean magnitude of scores of prompts that each have a run of active features alone."""
    total = torch.zeros(len(problem.space), dtype=torch.float64)
    for row in range(len(batch)):
        run = frozen_run(problem.model, batch.clean[row], codes)
        target = answers_target(run, batch.take(torch.tensor([row])))
        parts, prompt = scores_of(run, target), {}
        for at, column in (run.units >= 0).nonzero().tolist():
            name = run.name(run.place(column, at)).partition("@")[0]
            site, _, unit = name.rpartition(".")
            site = next((key for key in codes if key.startswith(f"{site}.")), site)
            prompt[f"{site}.{unit}"] = prompt.get(f"{site}.{unit}", 0) + float(parts[at, column])
        names = [problem.space.name(at) for at in range(len(problem.space))]
        own = [abs(prompt.get(name, 0.0)) for name in names]
        total += torch.tensor(own, dtype=torch.float64)
    return total / len(batch)


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        *of_names(("a.out", "m.out")),
        *((name, ("m.hidden",)) for name in ("gpt2-like", "gemma-like", "parallel")),
    ],
)
def test_prompts_that_share_a_run_are_what_each_is_alone(name, kinds, random_batch):
    batch = random_batch(n=5)
    positions = torch.tensor([[5, 2], [5, -1], [4, 3], [0, -1], [1, 5]])
    answers = torch.randint(-1, 11, (2, 5, 2, 3), generator=torch.Generator().manual_seed(1))
    batch = replace(batch, positions=positions, good=answers[0], bad=answers[1])
    problem, codes = problem_of(name, batch, "features_and_errors", *kinds)
    for method, scores_of in (
        ("traced_influence", lambda run, target: total_influence(run, target).parts),
        (
            "direct_logit_attribution",
            lambda run, target: run.influence(target.stream[None], target.below)[0],
        ),
    ):
        found = make_method(method, {}).discover(problem).scores
        expected = one_by_one(problem, codes, batch, scores_of)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    packed = mean_over_prompts(problem, "test", influence_of_features, signed=True)
    few = mean_over_prompts(problem, "test", influence_of_features, signed=True, pack=13)
    torch.testing.assert_close(packed, few, rtol=0, atol=1e-10)


def test_features_alone_and_of_hidden_layers_are_scored(random_batch):
    batch = random_batch(n=2)
    with_errors, _ = problem_of("gpt2-like", batch)
    without, _ = problem_of("gpt2-like", batch, "features")
    method = make_method("traced_influence", {})
    scores, every = method.discover(without).scores, method.discover(with_errors).scores
    names = [with_errors.space.name(at) for at in range(len(with_errors.space))]
    kept = torch.tensor([not name.endswith(".error") for name in names])
    torch.testing.assert_close(scores, every[kept])
    hidden, _ = problem_of("gpt2-like", batch, "features", "m.hidden")
    assert (method.discover(hidden).scores > 0).any()


def test_several_answers_are_averaged_and_positions_added_up(random_batch):
    batch = random_batch(n=1)
    positions = torch.tensor([[5, 2, -1]])
    good = torch.tensor([[[1, 2], [3, -1], [-1, -1]]])
    bad = torch.tensor([[[4, -1], [-1, -1], [-1, -1]]])
    method = make_method("traced_influence", {"signed": True})

    def scores(at, right, wrong):
        changed = replace(batch, positions=at, good=right, bad=wrong)
        return method.discover(problem_of("gpt2-like", changed)[0]).scores

    both = scores(positions, good, bad)
    first = scores(positions[:, :1], good[:, :1], bad[:, :1])
    second = scores(positions[:, 1:2], good[:, 1:2], bad[:, 1:2])
    torch.testing.assert_close(both, first + second)
    halves = [scores(positions[:, :1], good[:, :1, i : i + 1], bad[:, :1]) for i in (0, 1)]
    torch.testing.assert_close(first, (halves[0] + halves[1]) / 2)


@pytest.mark.parametrize("name", ["gpt2-like", "gemma-like"])
def test_direct_attribution_is_what_the_last_norm_and_the_logits_lose(name, random_batch):
    """Along the direct path alone: the stream before the last norm, held at its scale."""
    batch = random_batch(n=1)
    problem, codes = problem_of(name, batch)
    space, model = problem.space, problem.model
    method = make_method("direct_logit_attribution", {"signed": True})
    scores = method.discover(problem).scores
    size = make_method("direct_logit_attribution", {}).discover(problem).scores
    torch.testing.assert_close(size, scores.abs())
    reference = FrozenReference(model, batch.clean[0], codes)
    good, bad = int(batch.good[0, 0, 0]), int(batch.bad[0, 0, 0])
    matrix = model.embedding if model.config.tied else model.unembedding
    plain = reference.plain["logits"][5]
    cap = model.config.logit_softcap
    uncapped = plain if cap is None else torch.atanh(plain / cap) * cap
    share = plain / uncapped
    stream = reference.own["embed"] * 0
    for site, value in reference.own.items():
        if site in ("embed", "position") or site.endswith(".out"):
            stream = stream + value
    for element in range(0, len(space), 13):
        site, unit = space.name(element).rsplit(".", 1)
        one, value = codes[site], reference.own[site][5]
        vector = (
            value - one(value)
            if unit == "error"
            else one.encode(value)[int(unit)] * one.decoder[int(unit)]
        )
        before = reference.frozen_norm("final_norm", stream)[5]
        moved = stream.clone()
        moved[5] -= vector
        lost = (before - reference.frozen_norm("final_norm", moved)[5]) @ matrix.T * share
        assert float(scores[element]) == pytest.approx(float(lost[good] - lost[bad]), abs=1e-10)


def test_modules_have_the_attribution_of_all_that_they_write(random_batch):
    batch = random_batch(n=2)
    problem, codes = problem_of("gpt2-like", batch)
    found = make_method("direct_logit_attribution", {"of": "modules", "signed": True})
    scores = problem.space.split(found.discover(problem).scores)
    for site in codes:
        values = scores[site]
        assert float(values.max() - values.min()) <= 2e-9 * float(values.abs().max())
    # Elements and the decoder's bias of a module sum to it; the bias is no element.
    direct = make_method("direct_logit_attribution", {"signed": True}).discover(problem).scores
    for site, own in problem.space.split(direct).items():
        expected = own.sum()
        for row in range(2):
            run = frozen_run(problem.model, batch.clean[row], codes)
            target = answers_target(run, batch.take(torch.tensor([row])))
            expected += (target.stream[5] @ codes[site].decoder_bias) / 2
        assert float(scores[site].mean()) == pytest.approx(float(expected), rel=1e-7)


@pytest.mark.parametrize("granularity", ["feature", "channel"])
def test_elements_are_patched_one_by_one(granularity, random_batch):
    batch = random_batch(n=2)
    problem, _ = problem_of("gpt2-like", batch)
    if granularity == "channel":
        choices = Evaluation(
            granularity="channel", component="neurons", ablation="zero", positions="all"
        )
        gated = make_patchable(problem.model, choices, [])
        makes = gated.counterfactuals(choices, [batch], 0)
        problem = replace(problem, patchable=gated, counterfactuals=makes)
    scores = make_method("element_patching", {}).discover(problem).scores
    space, counterfactual = problem.space, problem.counterfactuals.of(batch)
    loss = problem.loss("metric", batch)
    whole = loss(plain_logits(problem.model, batch)).mean()
    for element in range(0, len(space), 19):
        mask = torch.ones(1, len(space), dtype=torch.bool)
        mask[0, element] = False
        without = loss(problem.patchable.logits(batch, mask, counterfactual)[0]).mean()
        assert float(scores[element]) == pytest.approx(float(without - whole), abs=1e-10)
    assert (scores != 0).any()


@pytest.mark.parametrize("name", ["gpt2-like", "parallel"])
def test_specs_are_refused_for_the_sites_that_a_trace_refuses(name, tmp_path):
    model = model_of(name)
    every = [site.name for site in sites(model.config) if site.layer in (None, 0)]
    for chosen in (*((one,) for one in every), ("m0.out", "m0.hidden")):
        path = tmp_path / "codes.yaml"
        path.write_text(
            "spec_version: 1\nname: codes\ntitle: Codes\nkind: random\ntask: othello_moves\n"
            f"sites: [{', '.join(chosen)}]\ndictionary: {{features: 8, k: 2}}\n"
        )
        text = tracing_problem(["eap", "traced_influence"], Library().dictionary(str(path)))
        assert tracing_problem(["eap"], Library().dictionary(str(path))) is None
        kinds = [site.kind for site in sites(model.config) if site.name in chosen]
        codes = {site: one for site, one in dictionaries(model, *kinds).items() if site in chosen}
        if text is None:
            frozen_run(model, tokens(), codes)
            continue
        with pytest.raises(HarnessError, match=r"a trace cannot use|the hidden layer before it"):
            frozen_run(model, tokens(), codes)
