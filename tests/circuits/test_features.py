"""Circuits of features: full ones are the model, dropped ones carry what the ablation says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.feature_sets import CONFIG, FEATURES, SITES, choices, dictionaries
from support.toy_task import FirstToken
from torch import Tensor

from harness.circuits.circuit import Circuit
from harness.circuits.files import from_json, to_json
from harness.circuits.gates.model import GatedModel
from harness.circuits.patchable import make_patchable, mask_gradient, plain_logits, self_check
from harness.datasets.batch import Batches
from harness.dictionaries.sites import activations
from harness.dictionaries.splice import replaced_logits
from harness.errors import HarnessError
from harness.models.sites import tapped_run
from harness.models.transformer import Transformer, random_model

ABLATIONS = ["interchange", "mean_positional", "mean", "zero", "resample"]


class Case:
    def __init__(self, ablation: str = "interchange", component: str = "features") -> None:
        model = random_model(CONFIG, 0, dtype=torch.float64)
        with torch.no_grad():
            model.embedding.mul_(50)
            model.unembedding.mul_(50)
        self.model: Transformer = model.requires_grad_(False)
        self.choices = choices(ablation, component)
        pairs = FirstToken().pairs("train", 12, 0)
        self.batch = Batches(pairs, 12, "cpu", 0)[0]
        self.sets = dictionaries()
        patchable = make_patchable(self.model, self.choices, [pairs], dictionaries=self.sets)
        assert isinstance(patchable, GatedModel)
        self.patchable = patchable
        makes = patchable.counterfactuals(self.choices, [self.batch], 0)
        self.counterfactual = makes.of(self.batch)

    def logits(self, mask: Tensor) -> Tensor:
        return self.patchable.logits(self.batch, mask[None], self.counterfactual)[0]


@pytest.mark.parametrize("component", ["features", "features_and_errors"])
@pytest.mark.parametrize("ablation", ABLATIONS)
def test_the_full_circuit_is_exactly_the_model(ablation: str, component: str) -> None:
    """Also under means, which would move features that are not active."""
    case = Case(ablation, component)
    full = torch.ones(len(case.patchable.space), dtype=torch.bool)
    assert torch.equal(case.logits(full), plain_logits(case.model, case.batch))
    assert self_check(case.patchable, case.batch, case.counterfactual) == 0
    mixed = case.patchable.masked_logits(
        case.batch, full.double()[None].requires_grad_(), case.counterfactual
    )[0]
    torch.testing.assert_close(mixed, plain_logits(case.model, case.batch))


def test_without_errors_the_full_circuit_is_the_splice() -> None:
    """Under zero ablation: every site is what its dictionary decodes, and the self-check knows."""
    case = Case("zero", "features_without_errors")
    full = torch.ones(len(case.patchable.space), dtype=torch.bool)
    tokens = case.batch.clean
    spliced = replaced_logits(case.model, tokens, case.sets, None)
    expected = case.batch.at_positions(spliced)
    torch.testing.assert_close(case.logits(full), expected)
    assert self_check(case.patchable, case.batch, case.counterfactual) > 1e-3
    corrupted = Case("interchange", "features_without_errors")
    none = corrupted.logits(torch.zeros_like(full))
    held = activations(corrupted.model, corrupted.batch.corrupted, SITES)
    read = tapped_run(corrupted.model, corrupted.batch.clean, held.get)
    at = corrupted.batch.at_positions(read)
    wanted = corrupted.model.to_logits(at, corrupted.batch.read_tokens(corrupted.batch.clean))
    torch.testing.assert_close(none, wanted)


def by_hand(
    case: Case, kept: Tensor, instead: dict[str, Tensor], rests: dict[str, Tensor]
) -> Tensor:
    """Logits with each site rebuilt feature by feature."""
    per_site = FEATURES + (case.choices.component == "features_and_errors")
    masks = dict(zip(SITES, kept.split(per_site), strict=True))

    def tap(site: str, value: Tensor) -> Tensor:
        if site not in masks:
            return value
        one, mask = case.sets[site], masks[site]
        code = one.encode(value)
        rest = value - one.decode(code)
        if per_site > FEATURES and not mask[FEATURES]:
            rest = rests[site].expand_as(value)
        out = one.decoder_bias + rest
        for feature in range(FEATURES):
            amount = code[..., feature] if mask[feature] else instead[site][..., feature]
            out = out + amount.expand(value.shape[:-1])[..., None] * one.decoder[feature]
        return out

    read = case.batch.at_positions(tapped_run(case.model, case.batch.clean, tap))
    return case.model.to_logits(read, case.batch.read_tokens(case.batch.clean))


@pytest.mark.parametrize("component", ["features", "features_and_errors"])
@pytest.mark.parametrize("ablation", ABLATIONS)
def test_dropped_features_carry_what_the_ablation_says(ablation: str, component: str) -> None:
    case = Case(ablation, component)
    draw = torch.Generator().manual_seed(3)
    kept = torch.rand(len(case.patchable.space), generator=draw) < 0.5
    tokens = {"interchange": case.batch.corrupted, "resample": case.batch.other}.get(ablation)
    held = activations(case.model, case.batch.clean if tokens is None else tokens, SITES)
    instead, rests = {}, {}
    for site, x in held.items():
        code = case.sets[site].encode(x)
        rest = x - case.sets[site].decode(code)
        over = {"mean": (0, 1), "mean_positional": (0,)}.get(ablation)
        if over is not None:
            code, rest = code.mean(over, keepdim=True), rest.mean(over, keepdim=True)
        elif ablation == "zero":
            code, rest = torch.zeros_like(code), torch.zeros_like(rest)
        instead[site], rests[site] = code, rest
    expected = by_hand(case, kept, instead, rests)
    assert (expected - plain_logits(case.model, case.batch)).abs().max() > 1e-3
    torch.testing.assert_close(case.logits(kept), expected, atol=1e-10, rtol=1e-8)


def test_mask_gradients_are_those_of_finite_differences() -> None:
    case = Case("zero", "features_and_errors")
    size = len(case.patchable.space)
    mask = torch.full((size,), 0.7, dtype=torch.float64)

    def loss(logits: Tensor) -> Tensor:
        return logits[..., 0].square().sum((-1, -2))

    gradient = mask_gradient(case.patchable, case.batch, loss, case.counterfactual, mask)
    step = 1e-6
    checked = 0
    for element in range(0, size, 5):
        shifts = mask.repeat(2, 1)
        shifts[0, element] += step
        shifts[1, element] -= step
        up, down = (
            loss(case.patchable.masked_logits(case.batch, one[None], case.counterfactual)).sum()
            for one in shifts
        )
        by_step = (up - down) / (2 * step)
        assert float(by_step) == pytest.approx(float(gradient[element]), rel=1e-4, abs=1e-6)
        checked += abs(float(gradient[element])) > 1e-6
    assert checked > 3


def test_the_space_counts_features_and_errors_and_survives_a_file() -> None:
    space = Case(component="features_and_errors").patchable.space
    assert len(space) == 4 * (FEATURES + 1)
    assert space.name(3) == "a0.out.3"
    assert space.name(FEATURES) == "a0.out.error"
    kept = torch.zeros(len(space), dtype=torch.bool)
    kept[[2, 3, FEATURES]] = True
    assert space.counts(kept) == {"features": 2, "errors": 1}
    assert list(space.components) == ["a0", "m0", "a1", "m1"]
    circuit = Circuit(space, kept, None, 8)
    again = from_json(to_json(circuit))
    assert again.space == space
    assert torch.equal(again.kept, kept)
    assert Case().patchable.space.counts(kept[: 4 * FEATURES]) == {"features": 3}


def test_without_dictionaries_it_is_refused() -> None:
    model = random_model(CONFIG, 0)
    with pytest.raises(HarnessError, match=r"name a spec under `evaluation\.dictionary`"):
        make_patchable(model, choices(), [])


def test_several_masks_at_once_are_each_of_them() -> None:
    case = Case("mean_positional")
    masks = torch.from_numpy(np.random.default_rng(0).random((4, 4 * FEATURES)) < 0.6)
    together = case.patchable.logits(case.batch, masks, case.counterfactual)
    for one, logits in zip(masks, together, strict=True):
        torch.testing.assert_close(case.logits(one), logits)
