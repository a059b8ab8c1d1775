"""Bridges: points of the stream, the four couplings, and what is carried over a perfect bridge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.slow_reference import small_model
from torch import Tensor

from harness.bridges.bridge import Bridge, logits_from, points_of, streams
from harness.bridges.coupled import Coupled, CoupledCheckpoint, Terms, coupling, nmse, train_coupled
from harness.bridges.transfer import (
    Carrier,
    Channel,
    changes,
    rank_channels,
    read_sites,
    transfer,
)
from harness.datasets.batch import Batch, Batches
from harness.datasets.pairs import PromptPairs, TrainingBatch
from harness.errors import HarnessError
from harness.metrics.logits import good_mass
from harness.models.config import TransformerConfig
from harness.models.sites import tapped_run
from harness.models.training.data import HeldOutPairs
from harness.models.transformer import Transformer, random_model
from harness.spec.types import ActivationSparsity, Sparsity, Training

TOKENS = torch.randint(11, (3, 6), generator=torch.Generator().manual_seed(0))
NAMES = ("gpt2-like", "rmsnorm", "sinks-bigrams", "windowed-capped", "gemma-like")


def perfect(model: Transformer) -> Bridge:
    """The bridge from a model to itself that changes nothing."""
    bridge = Bridge(model.config, model.config).double()
    bridge.kept = model.config.d_model
    for one in (*bridge.encoders, *bridge.decoders):
        one.weight.data.copy_(torch.eye(model.config.d_model))
        one.bias.data.zero_()
    return bridge.requires_grad_(False)


@pytest.mark.parametrize("name", NAMES)
def test_a_model_run_on_from_any_point_is_the_model(name):
    model = small_model(name)
    at = streams(model, TOKENS)
    assert len(at) == points_of(model.config) == 5
    for point, x in enumerate(at):
        assert torch.equal(logits_from(model, x, point, TOKENS), model(TOKENS))
    values: dict[str, Tensor] = {}
    tapped_run(model, TOKENS, values.setdefault)
    assert torch.equal(at[3], values["a1.stream"])
    assert torch.equal(at[4], values["m1.stream"])


@pytest.mark.parametrize("name", NAMES)
def test_a_perfect_bridge_costs_nothing(name):
    model, rows = small_model(name), torch.ones(3, 6, dtype=torch.bool)
    terms = coupling(model, model, perfect(model), TOKENS, rows)
    assert all(abs(float(one)) < 1e-12 for one in terms)


def test_terms_are_their_definitions():
    """Of two unlike models, prompts of two lengths; one token and one point at a time."""
    dense, sparse = small_model("rmsnorm"), small_model("sinks-bigrams", seed=5, d_model=8)
    bridge = Bridge(dense.config, sparse.config)
    bridge.initialise(torch.Generator().manual_seed(1))
    bridge.double()
    rows = torch.arange(6) < torch.tensor([6, 4, 5])[:, None]
    wanted = torch.zeros(4).double()
    h, s = streams(dense, TOKENS), streams(sparse, TOKENS)
    for point in range(5):
        encoded = h[point] @ bridge.encoders[point].weight.T + bridge.encoders[point].bias
        order = encoded.abs().argsort(-1, descending=True)[..., 2:]  # a quarter of 8 is kept
        encoded = encoded.scatter(-1, order, 0.0)
        decoded = s[point] @ bridge.decoders[point].weight.T + bridge.decoders[point].bias
        for place, x, target in ((0, encoded, s[point]), (1, decoded, h[point])):
            spread = target[rows] - target[rows].mean(0)
            wanted[place] += (x - target)[rows].square().sum() / spread.square().sum() / 5
        for place, model, x in ((2, sparse, encoded), (3, dense, decoded)):
            p = dense(TOKENS)[rows].softmax(-1)
            q = logits_from(model, x, point, TOKENS)[rows].softmax(-1)
            wanted[place] += (p * (p / q).log()).sum(-1).mean() / 5
    found = coupling(dense, sparse, bridge, TOKENS, rows)
    torch.testing.assert_close(torch.stack(found), wanted, rtol=1e-10, atol=1e-12)


def test_nmse_of_the_mean_is_one():
    target = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)).double()
    assert float(nmse(target.mean(0).expand(50, 4), target)) == pytest.approx(1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n_layers": 1}, "equal n_layers"),
        ({"d_vocab": 12}, "equal d_vocab"),
        ({"d_mlp": 0}, "with an MLP after each attention"),
        ({"parallel": True}, "with an MLP after each attention"),
    ],
)
def test_models_that_no_bridge_fits_are_refused(change, words):
    config = small_model("gpt2-like").config
    with pytest.raises(HarnessError, match=words):
        Bridge(config, replace(config, **change))


# ---------------------------------------------------------------- carrying over
@pytest.mark.parametrize("name", ["rmsnorm", "sinks-bigrams", "no-norm"])
def test_over_a_perfect_bridge_a_channel_is_itself(name, random_batch):
    """Its direction is the unit vector, and at strength 1 it is patched with the twin's value."""
    changed = {"norm": "none"} if name == "no-norm" else {}
    model = small_model("rmsnorm" if changed else name, **changed)
    batch = random_batch(4)
    carrier = Carrier.over(model, model, perfect(model), [batch])
    channel = Channel.parse("m1.in.7", model)
    unit = torch.zeros(12).double().index_fill(0, torch.tensor([7]), 1.0)
    torch.testing.assert_close(carrier.direction(channel), unit)
    result = transfer(carrier, channel, [batch], [0.0, 1.0])
    twin: dict[str, Tensor] = {}
    tapped_run(model, batch.corrupted, twin.setdefault)

    def tap(site: str, value: Tensor) -> Tensor:
        if site != "m1.in":
            return value
        return torch.where(unit > 0, twin[site], value)

    for strength, run in enumerate((lambda site, value: value, tap)):
        read = batch.at_positions(tapped_run(model, batch.clean, run))
        logits = model.to_logits(read, batch.read_tokens())
        partner = good_mass(logits, replace(batch, good=batch.bad)).mean()
        assert float(result.steered.partner[strength]) == pytest.approx(float(partner))
        own = good_mass(logits, batch).mean()
        assert float(result.steered.own[strength]) == pytest.approx(float(own))
    assert float(result.random_channel.moved()[0]) == 0
    assert float(result.strongest[1]) >= float(result.random_channel.moved()[1])


def test_channels_are_ranked_by_the_gradient_of_the_twins_value(random_batch):
    """The sum is the derivative along all of a site's changes at once, by finite differences."""
    model, batch = small_model("rmsnorm"), random_batch(3)
    delta, step = changes(model, batch), 1e-5

    def gap(channel: Channel, size: float) -> float:
        def tap(site: str, value: Tensor) -> Tensor:
            if site != channel.site:
                return value
            only = torch.zeros(12).double().index_fill(0, torch.tensor([channel.number]), size)
            return value + only * delta[site]

        logits = model.to_logits(
            batch.at_positions(tapped_run(model, batch.clean, tap)), batch.read_tokens()
        )
        partner = good_mass(logits, replace(batch, good=batch.bad)).log().sum()
        return float(partner - good_mass(logits, batch).log().sum())

    some = [Channel(site, number) for site in read_sites(model) for number in (0, 5, 11)]
    slopes = {one: (gap(one, step) - gap(one, -step)) / (2 * step) for one in some}
    assert rank_channels(model, [batch], some) == sorted(some, key=lambda one: -slopes[one])
    assert len(rank_channels(model, [batch])) == 5 * 12


def test_sizes_of_streams_are_means_over_tokens_however_they_are_batched(random_batch):
    model, batch = small_model("rmsnorm"), random_batch(5)
    other = small_model("gpt2-like")
    whole = Carrier.over(other, model, perfect(model), [batch])
    parts = [batch.take(torch.arange(4)), batch.take(torch.tensor([4]))]
    apart = Carrier.over(other, model, perfect(model), parts)
    assert torch.allclose(whole.ratios, apart.ratios, rtol=1e-12)


def test_channels_that_cannot_be_carried_are_refused(random_batch):
    model = small_model("rmsnorm")
    for name, words in (
        ("a0.q.1", "is no channel that can be carried over"),
        ("a0.in.x", "is no channel"),
        ("a2.in.1", "is no channel"),
        ("final.12", "channels 0 to 11"),
    ):
        with pytest.raises(HarnessError, match=words):
            Channel.parse(name, model)
    batch = random_batch(2)
    carrier = Carrier.over(model, model, perfect(model), [batch])
    with pytest.raises(HarnessError, match="must begin with 0"):
        transfer(carrier, Channel("final", 1), [batch], [0.5])
    model.final_norm.weight[1] = 0
    with pytest.raises(HarnessError, match="multiplies it by 0"):
        carrier.direction(Channel("final", 1))


# ---------------------------------------------------------------- training
class Quotes:
    """The last token says which of two the first was; between them lie others."""

    size, length = 6, 4

    def _prompts(self, rng: np.random.Generator, n: int) -> np.ndarray:
        tokens = rng.integers(2, self.size, size=(n, self.length))
        tokens[:, 0] = rng.integers(0, 2, size=n)
        return tokens

    def pairs(self, n: int, seed: int) -> PromptPairs:
        clean = self._prompts(np.random.default_rng([1, seed]), n)
        corrupted = clean.copy()
        corrupted[:, 0] = 1 - clean[:, 0]
        last = np.full((n, 1), self.length - 1)
        answers = clean[:, :1, None], corrupted[:, :1, None]
        return PromptPairs(clean, corrupted, np.full(n, self.length), last, *answers)

    def training_batch(self, objective: str, size: int, step: int, seed: int) -> TrainingBatch:
        tokens = self._prompts(np.random.default_rng([9, seed, step]), size)
        targets = np.concatenate([tokens[:, 1:], tokens[:, :1]], 1)
        return TrainingBatch(tokens, np.full(size, self.length), targets)


SHAPE = {"n_layers": 1, "d_vocab": 6, "n_ctx": 4, "norm": "rmsnorm", "positions": "none"}
TRAINING = Training(
    objective="next_token",
    steps=60,
    batch_size=32,
    learning_rate=0.03,
    warmup_steps=3,
    evaluate_every=30,
    schedule="linear",
    epsilon=0.1,
    gradient="divide_by_rms",
)


def dense_model(data: Quotes, steps: int) -> Transformer:
    model = random_model(
        TransformerConfig(n_heads=2, d_model=16, d_head=8, d_mlp=32, **SHAPE),  # type: ignore[arg-type]
        0,
    )
    optimiser = torch.optim.Adam(model.parameters(), 0.01)
    for step in range(steps):
        batch = data.training_batch("next_token", 32, step, 7)
        tokens, targets = torch.from_numpy(batch.tokens), torch.from_numpy(batch.targets)
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(tokens).flatten(0, 1), targets.flatten()).backward()
        optimiser.step()
    return model.requires_grad_(False)


SPARSE = TransformerConfig(
    n_heads=2,
    d_model=32,
    d_head=16,
    d_mlp=64,
    attention_sink=True,
    bigram_table=True,
    activation_sparsity=ActivationSparsity(keep=0.25),
    **SHAPE,  # type: ignore[arg-type]
)


def trained(
    dense: Transformer,
    data: Quotes,
    steps: int,
    checkpoint: CoupledCheckpoint | None = None,
    log: Callable[[str], None] = lambda text: None,
) -> Coupled:
    sparsity, spec = Sparsity(nonzero_fraction=0.125, embedding_fraction=0.5), TRAINING
    spec = replace(spec, steps=steps)
    held_out = HeldOutPairs(data.pairs(64, 2))
    return train_coupled(dense, SPARSE, spec, sparsity, data, held_out, log, None, checkpoint)


def test_a_coupled_training_is_the_seeds_and_leaves_the_dense_model_alone():
    data = Quotes()
    dense = dense_model(data, steps=2)
    before = {name: one.clone() for name, one in dense.named_parameters()}
    one, other = trained(dense, data, 4), trained(dense, data, 4)
    for module in ("model", "bridge"):
        pair = (getattr(of, module).state_dict() for of in (one, other))
        for weight, same in zip(*(each.values() for each in pair), strict=True):
            assert torch.equal(weight, same)
    assert [entry["step"] for entry in one.history] == [1, 4]
    assert all(torch.equal(weight, before[name]) for name, weight in dense.named_parameters())
    assert int(one.model.blocks[0].mlp_in.weight.count_nonzero()) <= 0.125 * 32 * 64


def test_a_coupled_training_that_was_stopped_ends_with_the_same_weights(tmp_path, monkeypatch):
    data, dense = Quotes(), dense_model(Quotes(), steps=2)
    whole = trained(dense, data, 4)
    checkpoint = CoupledCheckpoint(tmp_path / "training.safetensors", {"of": "quotes"}, seconds=0)
    real, taken = data.training_batch, []

    def stopping(objective, size, step, seed):
        if seed == TRAINING.seed and step == 3 and not taken:
            taken.append(step)
            raise KeyboardInterrupt
        return real(objective, size, step, seed)

    monkeypatch.setattr(data, "training_batch", stopping)
    with pytest.raises(KeyboardInterrupt):
        trained(dense, data, 4, checkpoint)
    said = []
    resumed = trained(dense, data, 4, checkpoint, said.append)
    assert "resuming training at step 3" in said
    assert resumed.history == whole.history
    for module in ("model", "bridge"):
        pair = (getattr(of, module).state_dict() for of in (whole, resumed))
        for weight, same in zip(*(each.values() for each in pair), strict=True):
            assert torch.equal(weight, same)
    # One of another training is not resumed from.
    said.clear()
    trained(dense, data, 4, replace(checkpoint, purpose={"of": "others"}), said.append)
    assert not any("resuming" in text for text in said)


@pytest.mark.slow  # about five seconds of an idle core
def test_all_couplings_fall_and_a_channel_steers_the_dense_model():
    """A sparse model of 1/8 of the weights; the strongest channel beside random ones."""
    data = Quotes()
    dense = dense_model(data, steps=120)
    coupled = trained(dense, data, 60)
    first, last = coupled.history[0], coupled.history[-1]
    assert [one["step"] for one in coupled.history] == [1, 30, 60]
    for name in Terms._fields:
        assert last[name] < 0.7 * first[name], name
    assert last["training_loss"] < first["training_loss"]
    batches: list[Batch] = list(Batches(data.pairs(64, 3), 64))
    carrier = Carrier.over(dense, coupled.model, coupled.bridge, batches)
    channel = rank_channels(coupled.model, batches)[0]
    fresh = list(Batches(data.pairs(64, 4), 64))
    result = transfer(carrier, channel, fresh, [0.0, 0.5, 1.0])
    moved = result.steered.moved()
    assert moved[0] == 0 < moved[1] < moved[2]
    assert moved[2] > 3 * result.random_channel.moved()[2].abs()
    assert moved[2] > 3 * result.random_direction.moved()[2].abs()
