"""Gated models: every site by hand, exact ends, gradients, means, and names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.slow_reference import ARCHITECTURES, small_model
from support.toy_task import CHOICES, FirstToken
from torch import Tensor

from harness.circuits.baseline import Baseline
from harness.circuits.gates.codes import Coded
from harness.circuits.gates.model import GatedModel
from harness.circuits.gates.space import GatedSpace, Gates
from harness.circuits.patchable import make_patchable, mask_gradient, plain_logits, self_check
from harness.datasets.batch import Batches
from harness.errors import HarnessError
from harness.metrics import LOSSES
from harness.models.sites import sites, tapped_run

pytestmark = pytest.mark.matrix
every_architecture = pytest.mark.parametrize("name", ARCHITECTURES)
ABLATIONS = ("mean_training", "mean", "mean_positional", "zero", "interchange", "resample")
PAIRS = [(name, ABLATIONS[place % 6]) for place, name in enumerate(ARCHITECTURES)]
every_pair = pytest.mark.parametrize(("name", "ablation"), PAIRS)
KINDS = ("a.in", "a.q", "a.k", "a.v", "a.out", "m.in", "m.hidden", "m.out", "final")


class Prompts:
    """A background: some padded prompts."""

    def __init__(self) -> None:
        rng = np.random.default_rng(5)
        self.batches = [(rng.integers(6, size=(3, 4)), np.array([4, 2, 3])) for _ in range(2)]

    def prompts(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return iter(self.batches)

    def described(self) -> dict[str, str]:
        return {"sha256": "0"}


class Case:
    """A model, its gates, a batch of prompt pairs and a counterfactual."""

    def __init__(self, name: str, ablation: str, component: str = "channels") -> None:
        self.model = small_model(name, d_vocab=6)
        self.pairs = FirstToken().pairs("train", 5, 0)
        self.batches = Batches(self.pairs, 3)
        self.batch = self.batches[0]
        self.choices = replace(
            CHOICES, granularity="channel", component=component, ablation=ablation
        )
        self.gated = make_patchable(self.model, self.choices, [self.pairs], Prompts())
        self.counterfactuals = self.gated.counterfactuals(self.choices, self.batches, 0)
        self.counterfactual = self.counterfactuals.of(self.batch)

    def masks(self, sets: int = 3) -> Tensor:
        draw = torch.Generator().manual_seed(1)
        return torch.rand(sets, len(self.gated.space), generator=draw, dtype=torch.float64)


def recorded(model, tokens) -> dict[str, Tensor]:
    """The plain values at all sites."""
    values: dict[str, Tensor] = {}

    def tap(site: str, value: Tensor) -> Tensor:
        values[site] = value
        return value

    tapped_run(model, tokens, tap)
    return values


def instead_of(case: Case) -> dict[str, Tensor]:
    """What every site carries under the ablation, prompt by prompt in double precision."""
    ablation, batch = case.choices.ablation, case.batch
    plain = recorded(case.model, batch.clean)
    if ablation == "zero":
        return {site: torch.zeros_like(x) for site, x in plain.items()}
    if ablation in ("interchange", "resample"):
        tokens = batch.corrupted if ablation == "interchange" else batch.other
        return recorded(case.model, tokens)
    rows: list[dict[str, Tensor]] = []  # one prompt each, without padding
    if ablation == "mean_training":
        for tokens, lengths in Prompts().prompts():
            for row, length in zip(tokens, lengths, strict=True):
                rows.append(recorded(case.model, torch.tensor(row[None, :length])))
    else:
        for some in case.batches:
            rows += [recorded(case.model, row[None]) for row in some.clean]
    means = {}
    for site, x in plain.items():
        if ablation == "mean_positional":
            mean = torch.stack([row[site][0] for row in rows]).mean(0)
        else:
            mean = torch.cat([row[site][0] for row in rows]).mean(0)
        means[site] = mean.expand_as(x)
    return means


def by_hand(case: Case, mask: Tensor) -> Tensor:
    """Logits [B, P, V] under one mask: every channel mixed by its name, no code shared."""
    instead, space = instead_of(case), case.gated.space

    def tap(site: str, value: Tensor) -> Tensor:
        value = value.clone()
        for element, name in enumerate(space.names):
            at, channel = name.rsplit(".", 1)
            if at == site:
                m, c = mask[element], int(channel)
                value[..., c] = m * value[..., c] + (1 - m) * instead[site][..., c]
        return value

    return case.model.to_logits(
        case.batch.at_positions(tapped_run(case.model, case.batch.clean, tap)),
        case.batch.read_tokens(),
    )


# ---------------------------------------------------------------- masks
@every_pair
def test_logits_are_those_of_every_channel_mixed_by_hand(name, ablation):
    case = Case(name, ablation)
    masks = case.masks(2)
    for some in (masks, masks < 0.6):
        logits = case.gated.logits(case.batch, some, case.counterfactual)
        for one, mask in zip(logits, some, strict=True):
            wanted = by_hand(case, mask.double())
            torch.testing.assert_close(one, wanted, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("component", ["channels", "neurons"])
@every_pair
def test_all_kept_is_the_plain_model_bit_for_bit(name, ablation, component):
    case = Case(name, ablation, component)
    assert self_check(case.gated, case.batch, case.counterfactual) == 0
    everything = torch.ones(2, len(case.gated.space), dtype=torch.float64)
    mixed = torch.cat([everything, case.masks(1)])  # run with others, and as floats
    logits = case.gated.masked_logits(case.batch, mixed, case.counterfactual)
    whole = plain_logits(case.model, case.batch)
    assert torch.equal(logits[0], logits[1])
    torch.testing.assert_close(logits[0], whole, rtol=1e-12, atol=1e-12)


@every_architecture
def test_nothing_kept_is_the_counterfactual_run_where_the_final_read_is_gated(name):
    case = Case(name, "interchange")
    nothing = torch.zeros(1, len(case.gated.space), dtype=torch.bool)
    corrupted = plain_logits(case.model, case.batch, corrupted=True)
    found = case.gated.logits(case.batch, nothing, case.counterfactual)[0]
    torch.testing.assert_close(found, corrupted, rtol=1e-12, atol=1e-12)


def test_nothing_kept_of_neurons_is_not_since_embeddings_are_no_site():
    case = Case("gpt2-like", "resample", "neurons")
    nothing = torch.zeros(1, len(case.gated.space), dtype=torch.bool)
    other = plain_logits(case.model, replace(case.batch, clean=case.batch.other))
    found = case.gated.logits(case.batch, nothing, case.counterfactual)[0]
    assert (found - other).abs().max() > 0.01


def test_masks_that_agree_at_the_start_are_run_once_up_to_where_they_differ(monkeypatch):
    case = Case("gpt2-like", "zero")
    masks = torch.ones(4, len(case.gated.space), dtype=torch.bool)
    at = case.gated.space.index("m1.hidden.3")
    masks[1, at] = masks[2, at + 1] = False
    shapes: dict[str, torch.Size] = {}
    run = tapped_run

    def watched(model, tokens, tap):
        def both(site, value):
            shapes[site] = value.shape
            return tap(site, value)

        return run(model, tokens, both)

    monkeypatch.setattr("harness.circuits.gates.model.tapped_run", watched)
    logits = case.gated.logits(case.batch, masks, case.counterfactual)
    assert shapes["m1.hidden"] == (3, 4, 20)
    assert shapes["m1.out"] == (4, 3, 4, 12)
    assert torch.equal(logits[0], logits[3])
    assert not torch.allclose(logits[0], logits[1])


# ---------------------------------------------------------------- gradients
@every_pair
def test_gradients_of_masks_are_those_of_central_differences(name, ablation):
    case, step = Case(name, ablation), 1e-5
    loss = lambda logits: LOSSES["logit_diff"](logits, None, case.batch)  # noqa: E731
    mask = case.masks(1)[0]
    found = mask_gradient(case.gated, case.batch, loss, case.counterfactual, mask)
    assert found.abs().max() > 1e-3
    for element in range(0, len(mask), 29):
        ends = mask.repeat(2, 1)
        ends[0, element] += step
        ends[1, element] -= step
        more, less = loss(case.gated.logits(case.batch, ends, case.counterfactual)).sum(-1)
        wanted = float(more - less) / (2 * step)
        assert float(found[element]) == pytest.approx(wanted, rel=1e-5, abs=1e-8)


def test_masks_do_not_see_each_other():
    case = Case("gpt2-like", "mean")
    masks = case.masks(3).requires_grad_()
    logits = case.gated.masked_logits(case.batch, masks, case.counterfactual)
    (gradient,) = torch.autograd.grad(logits[1].square().sum(), masks)
    assert gradient[0].abs().max() == gradient[2].abs().max() == 0
    alone = masks[1:2].detach().requires_grad_()
    single = case.gated.masked_logits(case.batch, alone, case.counterfactual)
    torch.testing.assert_close(single[0], logits[1])
    torch.testing.assert_close(torch.autograd.grad(single.square().sum(), alone)[0][0], gradient[1])


# ---------------------------------------------------------------- counterfactuals
@pytest.mark.parametrize("ablation", ABLATIONS)
def test_a_counterfactual_of_some_prompts_is_that_of_these_prompts(ablation):
    case, rows = Case("gpt2-like", ablation), torch.tensor([2, 0])
    masks = case.masks() < 0.5
    whole = case.gated.logits(case.batch, masks, case.counterfactual)
    some = case.gated.logits(case.batch.take(rows), masks, case.counterfactual.take(rows))
    torch.testing.assert_close(some, whole[:, rows], rtol=1e-12, atol=1e-12)


def test_means_say_what_they_are_of_and_can_be_used_again():
    case = Case("gpt2-like", "mean_training")
    baseline = case.counterfactuals.baseline
    assert baseline.values.shape == (1, len(case.gated.space))
    assert dict(baseline.over) == {"sha256": "0"}
    again = make_patchable(case.model, case.choices, [case.pairs], baseline)
    counterfactual = again.counterfactuals(case.choices, [], 0).of(case.batch)
    masks = case.masks() < 0.5
    assert torch.equal(
        again.logits(case.batch, masks, counterfactual),
        case.gated.logits(case.batch, masks, case.counterfactual),
    )


def test_means_of_other_elements_are_refused():
    case = Case("gpt2-like", "zero")
    means = Baseline("mean_training", torch.zeros(1, 7), {})
    gated = make_patchable(case.model, case.choices, [case.pairs], means)
    with pytest.raises(HarnessError, match=r"has 7 constants .* need 220: it is"):
        gated.counterfactuals(replace(case.choices, ablation="mean_training"), case.batches, 0)


def test_means_over_the_training_of_a_model_that_does_not_tell_are_refused():
    case = Case("gpt2-like", "zero")
    gated = make_patchable(case.model, case.choices, [case.pairs])
    with pytest.raises(HarnessError, match=r"'mean_training'.*choose `ablation: mean`"):
        gated.counterfactuals(replace(case.choices, ablation="mean_training"), case.batches, 0)


def test_positions_without_a_mean_are_refused():
    case = Case("gpt2-like", "mean_positional")
    counterfactuals = replace(
        case.counterfactuals, baseline=Baseline("mean_positional", torch.zeros(2, 5))
    )
    with pytest.raises(HarnessError, match="no mean for position 3"):
        counterfactuals.of(case.batch)


# ---------------------------------------------------------------- names and parts
@every_architecture
def test_elements_are_the_channels_of_the_sites_in_order(name):
    case = Case(name, "zero")
    wanted = [
        f"{site.name}.{channel}"
        for site in sites(case.model.config)
        if site.kind in KINDS
        for channel in range(site.width)
    ]
    space = case.gated.space
    assert [space.name(element) for element in range(len(space))] == wanted
    assert [space.index(one) for one in wanted] == list(range(len(space)))
    assert GatedSpace.from_header(space.header()) == space
    assert case.gated.counterfactual_numbers(7) == 7 * len(space)


def test_parts_of_the_model_by_hand():
    space = Case("grouped", "zero").gated.space  # 4 heads in 2 groups, two layers
    layer = ["a{}", "a{}.h0", "a{}.h1", "a{}.h2", "a{}.h3", "a{}.g0", "a{}.g1", "m{}"]
    wanted = [name.format(number) for number in (0, 1) for name in layer]
    assert list(space.components) == [*wanted, "final"]
    sets = [space.elements_of(number) for number in range(len(space.components))]
    assert torch.stack(sets).sum(0).eq(1).all()

    def inside(component: str) -> set[str]:
        chosen = space.elements_of(list(space.components).index(component))
        return {space.name(element).rsplit(".", 1)[0] for element in chosen.nonzero().flatten()}

    assert inside("a1") == {"a1.in", "a1.out"}
    assert inside("a1.h2") == {"a1.q"}
    assert inside("a1.g1") == {"a1.k", "a1.v"}
    assert inside("m0") == {"m0.in", "m0.hidden", "m0.out"}
    kept = torch.zeros(len(space), dtype=torch.bool)
    kept[space.index("a0.q.9")] = kept[space.index("m1.in.0")] = True  # heads are 4 wide
    touched = zip(space.components, space.touched(kept).tolist(), strict=True)
    assert [name for name, used in touched if used] == ["a0.h2", "m1"]
    alone = Case("gpt2-like", "zero").gated.space
    heads = [name for name in alone.components if name.startswith("a1.")]
    number = list(alone.components).index(heads[0])
    inside = {alone.name(one).rsplit(".", 1)[0] for one in alone.elements_of(number).nonzero()}
    assert (heads[0], inside) == ("a1.h0", {"a1.q", "a1.k", "a1.v"})


# ---------------------------------------------------------------- codes with a rest
class Rotated:
    """Features along random directions that leave a rest; `decode` has a constant."""

    def __init__(self, width: int, features: int) -> None:
        draw = torch.Generator().manual_seed(width)
        self.encoder = torch.randn(width, features, generator=draw, dtype=torch.float64)
        self.decoder = torch.randn(features, width, generator=draw, dtype=torch.float64)
        self.constant = torch.randn(width, generator=draw, dtype=torch.float64)

    def encode(self, x: Tensor) -> Coded:
        c = (x @ self.encoder).relu()
        return Coded(c, x - self.decode(c))

    def decode(self, elements: Tensor) -> Tensor:
        return elements @ self.decoder + self.constant


def featured(rest: str, ablation: str) -> tuple[Case, GatedModel]:
    """A model with a code of 5 features where attention and MLP of layer 1 write."""
    case = Case("gpt2-like", ablation)
    width = case.model.config.d_model
    gates = [Gates(name, 5, rest=rest, width=width) for name in ("a1", "m1")]
    codes = {f"{one.name}.out": Rotated(width + place, 5) for place, one in enumerate(gates)}
    codes = {site: Rotated(width, 5) for site in codes}
    space = GatedSpace.of("feature", "features", gates)
    return case, GatedModel(case.model, space, codes, Prompts())


@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize("rest", ["kept", "dropped", "element"])
def test_features_and_what_they_leave_are_mixed_as_defined(rest, ablation):
    case, gated = featured(rest, ablation)
    counterfactual = gated.counterfactuals(case.choices, case.batches, 0).of(case.batch)
    draw = torch.Generator().manual_seed(2)
    masks = torch.rand(3, len(gated.space), generator=draw, dtype=torch.float64)
    logits = gated.logits(case.batch, masks, counterfactual)
    for one, mask in zip(logits, masks, strict=True):
        pieces = gated.space.split(mask)

        def tap(site, value, pieces=pieces):
            if site not in gated.codes:
                return value
            name, code = site.partition(".")[0], gated.codes[site]
            coded, m = code.encode(value), pieces[name]
            place = list(gated.codes).index(site)
            instead, rest_instead = counterfactual.sites[place]
            r = {"kept": 1.0, "dropped": 0.0, "element": m[-1]}[rest]
            mixed = m[:5] * coded.elements + (1 - m[:5]) * instead
            return code.decode(mixed) + r * coded.rest + (1 - r) * rest_instead

        read = case.batch.at_positions(tapped_run(case.model, case.batch.clean, tap))
        torch.testing.assert_close(
            one, case.model.to_logits(read, case.batch.read_tokens()), rtol=1e-9, atol=1e-11
        )


@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize("rest", ["kept", "dropped", "element"])
def test_all_features_are_the_model_unless_what_they_leave_is_dropped(rest, ablation):
    case, gated = featured(rest, ablation)
    counterfactual = gated.counterfactuals(case.choices, case.batches, 0).of(case.batch)
    everything = torch.ones(1, len(gated.space), dtype=torch.bool)
    found = gated.logits(case.batch, everything, counterfactual)[0]
    distance = (found - plain_logits(case.model, case.batch)).abs().max()
    assert (distance > 0.01) == (rest == "dropped")
    assert rest == "dropped" or distance == 0


def test_rests_have_names_counts_and_constants_of_their_own():
    _, gated = featured("element", "mean")
    space, width = gated.space, gated.model.config.d_model
    assert list(space.names[4:7]) == ["a1.4", "a1.error", "m1.0"]
    assert space.constants == 2 * (5 + width)
    kept = torch.zeros(len(space), dtype=torch.bool)
    kept[:7] = True
    assert dict(space.counts(kept)) == {"features": 6, "errors": 1}
    assert list(space.components) == ["a1", "m1"]
    assert GatedSpace.from_header(space.header()) == space
