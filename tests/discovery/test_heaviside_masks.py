"""Masks of zeros and ones: their gradient, their price, and what they find."""

from __future__ import annotations

import math

import pytest
import torch
from support.problems import problem_of
from support.slow_reference import small_model
from torch import Tensor

from harness.circuits.gates.channels import patchable as channels
from harness.circuits.space import NamedElements
from harness.discovery.masks.heaviside import Heaviside
from harness.discovery.masks.heaviside_masks import HeavisideMasks
from harness.discovery.masks.objective import StepObjective
from harness.discovery.masks.settings import MaskTraining
from harness.discovery.masks.tied import query_key_groups
from harness.discovery.masks.training import MaskRun
from harness.errors import HarnessError
from harness.spec.types import Evaluation


def masks(settings: HeavisideMasks, tau: list[list[float]], price: float = 1.0) -> Heaviside:
    values = torch.tensor(tau, dtype=torch.float64, requires_grad=True)
    values.register_hook(settings.clipped)
    sets, count = values.shape
    return Heaviside(settings, torch.full((sets,), price), values, torch.arange(count))


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_a_mask_is_a_step_with_the_gradient_of_a_sigmoid(temperature):
    tau = [-1.0, -0.3, 0.0, 0.2, 1.0]
    one = masks(HeavisideMasks(temperature=temperature, clip=None), [tau])
    drawn = one.draw(torch.Generator())
    assert drawn.tolist() == [[0, 0, 0, 1, 1]]  # exactly
    (drawn * torch.arange(1.0, 6.0)).sum().backward()
    for index, value in enumerate(tau):
        s = 1 / (1 + math.exp(-value / temperature))
        wanted = (index + 1) * s * (1 - s) / temperature
        assert float(one.tau.grad[0, index]) == pytest.approx(wanted)


def test_each_set_is_clipped_on_its_own():
    one = masks(HeavisideMasks(clip=2.0), [[0.0, 0.0], [0.0, 0.0]])
    (one.tau * torch.tensor([[3.0, 4.0], [0.3, 0.4]])).sum().backward()
    assert one.tau.grad.tolist() == [pytest.approx([1.2, 1.6]), pytest.approx([0.3, 0.4])]


def test_the_price_is_of_the_share_kept_and_rises_over_the_ramp():
    one = masks(HeavisideMasks(steps=100, ramp=0.5), [[0.5, -0.5, 0.5, 0.5]], price=2.0)
    drawn = one.draw(torch.Generator()).detach()
    asked = [float(one.pressure(drawn, step)) for step in (0, 25, 50, 99)]
    assert asked == pytest.approx([0, 0.75, 1.5, 1.5])
    constant = masks(HeavisideMasks(steps=100, ramp=0.0), [[0.5, -0.5, 0.5, 0.5]], price=2.0)
    assert [float(constant.pressure(drawn, step)) for step in (0, 1)] == [0.0, 1.5]


def test_what_is_ranked_and_counted_agree_with_the_mask():
    one = masks(HeavisideMasks(), [[0.9, -0.2, 0.01, -1.0, 0.0]])
    scores = one.kept()[0]
    assert (scores >= 0).all()  # so that ranking by magnitude is ranking by τ
    assert scores.argsort(descending=True).tolist() == [0, 2, 4, 1, 3]
    assert ((scores > 0.5) == one.draw(torch.Generator())[0].bool()).all()
    assert float(one.report()["sparsity"]) == pytest.approx(0.6)


def planted(ramp: float, price: float, n: int = 400, important: int = 8) -> Tensor:
    """Masks of which the first few matter: the task is lost unless all of them are there."""
    settings = HeavisideMasks(steps=150, ramp=ramp)
    draw = torch.Generator().manual_seed(0)
    start = (settings.start + settings.start_noise * torch.randn(1, n, generator=draw)).double()
    one = masks(settings, start.tolist(), price)

    def task(drawn: Tensor, _: int) -> Tensor:
        return 0.7 * (1 - drawn[:, :important].prod(-1))

    MaskRun(one, MaskTraining(150, 1, "kl", betas=(0.9, 0.95)), task, seed=0).finish()
    return one.kept()[0] > 0.5


def test_planted_masks_are_the_active_set():
    kept = planted(ramp=0.7, price=1.0)
    assert kept.nonzero().flatten().tolist() == list(range(8))


def test_dropped_elements_have_a_gradient_in_the_model(random_batch):
    """Else what was dropped could never come back: edges whose nodes nobody needs have none."""
    model = small_model("gpt2-like", dtype=torch.float32)
    problem = problem_of(model, random_batch())
    mask = (problem.space.uniform(torch.Generator().manual_seed(3), torch.float32) < 0.02).float()
    found = {}
    for zeros_learn in (False, True):
        training = MaskTraining(1, 4, "kl", zeros_learn=zeros_learn)
        leaf = mask[None].clone().requires_grad_()
        StepObjective(problem, training, 0)(leaf, 0).sum().backward()
        found[zeros_learn] = int((leaf.grad != 0).sum())
    assert found[True] > found[False]
    batch = problem.batches[0]
    leaf = mask[None].clone().requires_grad_()
    logits = problem.patchable.masked_logits(batch, leaf, problem.counterfactuals.of(batch))
    problem.loss("kl", batch)(logits).sum().backward()
    assert found[True] == int((leaf.grad != 0).sum())


def test_each_price_repeat_and_trial_is_a_training(random_batch):
    model = small_model("gpt2-like", dtype=torch.float32)
    method = HeavisideMasks(prices=(0.1, 2.0), repeats=2, trials=3, steps=30, objective="kl")
    found = method.discover(problem_of(model, random_batch()))
    assert len(found.active) == 7
    sizes = [one.size for one in found.active]
    assert any(torch.equal(found.scores, one.scores) for one in found.active)
    for one in found.active:
        assert one.size == int((one.scores > 0.5).sum())
    assert not torch.equal(found.active[0].scores, found.active[1].scores)  # repeats differ
    assert max(sizes[:2]) > max(sizes[2:4])  # the higher price keeps fewer
    drawn = [float(name.split(":")[1].split("/")[0]) for name in found.notes if "sparsity" in name]
    assert drawn[:4] == [0.1, 0.1, 2.0, 2.0]
    assert all(0.033 < price < 6 for price in drawn[4:])
    assert len(set(drawn[4:])) == 3


def test_queries_and_keys_can_share_masks():
    names = ("a0.q.0", "a0.q.1", "a0.k.0", "a0.k.1", "a0.v.0", "a1.q.0", "a1.k.1", "final.0")
    space = NamedElements("toy", "channels", names)
    assert query_key_groups(space).tolist() == [0, 1, 0, 1, 2, 3, 4, 5]
    with pytest.raises(HarnessError, match=r"tie query_key needs circuits of channels.*heads"):
        query_key_groups(NamedElements("toy", "heads", ("a0.h1", "m0")))
    with pytest.raises(HarnessError, match="these are made of features"):  # 3 is not 3 there
        query_key_groups(NamedElements("feature", "features", ("a0.q.3", "a0.k.3")))


def test_queries_share_the_mask_of_the_key_that_their_head_shares():
    model = small_model("grouped")  # 4 heads of queries, 2 of keys
    choices = Evaluation(
        granularity="channel", component="channels", ablation="zero", positions="all"
    )
    space = channels(model, choices, ()).space
    groups = dict(zip(space.names, query_key_groups(space).tolist(), strict=True))
    width = model.config.d_head
    for layer in range(model.config.n_layers):
        for head in range(4):
            for c in range(width):
                key = groups[f"a{layer}.k.{head // 2 * width + c}"]
                assert groups[f"a{layer}.q.{head * width + c}"] == key
    assert len(set(groups.values())) == len(space) - model.config.n_layers * 4 * width
