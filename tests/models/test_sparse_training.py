"""Weights stay within their budgets at every step, by references that sort and loop."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.stopped_training import stop_at
from support.toy_task import FirstToken

from harness.errors import HarnessError
from harness.models.config import TransformerConfig
from harness.models.training import trainer as training
from harness.models.training.budgets import annealed, budgets, kind_of_tensor, rate_factor
from harness.models.training.counts import dead_neurons, nonzeros
from harness.models.training.data import HeldOutPairs
from harness.models.training.optimiser import Optimiser
from harness.models.training.projection import project
from harness.models.training.schedule import learning_rate
from harness.models.training.trainer import Trainer
from harness.models.transformer import random_model
from harness.spec.types import Anneal, Sparsity, Training, TrainingTarget

CONFIG = TransformerConfig(
    n_layers=2, n_heads=2, d_model=16, d_head=8, d_mlp=32, d_vocab=6, n_ctx=4, norm="rmsnorm",
    unembed_bias=True,
)  # fmt: skip
SPEC = Training(
    objective="answer", steps=40, batch_size=32, learning_rate=0.03, warmup_steps=2,
    schedule="linear", final_learning_rate=0.0, epsilon=0.1, gradient="divide_by_rms",
    decay="after_step", weight_decay=0.1, beta2=0.95, evaluate_every=20,
)  # fmt: skip
SPARSE = Sparsity(nonzero_fraction=0.125, embedding_fraction=0.5)
BLOCKS = ("qkv_map.weight", "out_map.weight", "mlp_in.weight", "mlp_out.weight")


def trainer(folder, sparsity=SPARSE, spec=SPEC, config=CONFIG, log=lambda text: None):
    data = FirstToken()
    held_out = HeldOutPairs(data.pairs("validation", 64, 0))
    return Trainer(config, spec, data, held_out, scratch=folder, log=log, sparsity=sparsity)


def weights(model):
    return {name: value.clone() for name, value in model.named_parameters()}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# ---------------------------------------------------------------- projection
def by_sorting(weight, budget, least, axis):
    """What stays, one entry at a time: each neuron's largest, then the largest of the rest."""
    flat = [(-abs(x), i) for i, x in enumerate(weight.flatten().tolist())]
    kept = set()
    columns = weight.shape[1]
    if least:
        for neuron in range(weight.shape[axis]):
            own = [e for e in flat if e[0] < 0 and divmod(e[1], columns)[axis] == neuron]
            kept |= {i for _, i in sorted(own)[:least]}
    rest = [i for _, i in sorted(flat) if i not in kept]
    kept |= set(rest[: budget - len(kept)])
    out = torch.zeros_like(weight).flatten()
    for i in kept:
        out[i] = weight.flatten()[i]
    return out.view_as(weight)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_projection_keeps_what_sorting_would_keep(data):
    """Few values, so that many entries are equal and many are zero."""
    rows, columns = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))
    values = st.lists(st.integers(-3, 3), min_size=rows * columns, max_size=rows * columns)
    weight = torch.tensor(data.draw(values), dtype=torch.float32).view(rows, columns)
    axis = data.draw(st.sampled_from([0, 1]))
    budget = data.draw(st.integers(1, rows * columns))
    least = data.draw(st.integers(0, budget // weight.shape[axis]))
    wanted = by_sorting(weight, budget, least, axis)
    projected = weight.clone()
    project(projected, budget, least, axis)
    assert torch.equal(projected, wanted)
    assert int(projected.count_nonzero()) == min(budget, int(weight.count_nonzero()))


def test_of_equal_entries_the_first_stay():
    weight = torch.tensor([[1.0, -2.0, 2.0], [2.0, 1.0, -2.0]])
    project(weight, 3)
    assert weight.tolist() == [[0, -2, 2], [2, 0, 0]]


# ---------------------------------------------------------------- budgets
def test_every_tensor_has_the_budget_of_its_kind():
    config = replace(CONFIG, bias=True, norm="layernorm", qk_norm=True)
    found = budgets(config, SPARSE)
    names = [name for name, _ in random_model(config, 0).named_parameters()]
    sparse = [n for n in names if n.endswith((*BLOCKS, "embedding")) and "norm" not in n]
    assert sorted(found) == sorted(sparse)
    for name in found:
        own = 0.5 if name in ("embedding", "unembedding") else 0.125
        assert found[name].fraction == own
        assert found[name].at(SPARSE, 1) == int(own * found[name].entries)
    both = budgets(config, replace(SPARSE, biases="sparse"))
    assert {n for n in both if n not in found} == {
        n for n in names if n.endswith("bias") and "norm" not in n
    }
    assert {kind_of_tensor(n) for n in ("bigram_table", "blocks.0.sink_logit")} == {"dense"}
    with pytest.raises(AssertionError, match="no budget is defined for tensor"):
        kind_of_tensor("blocks.0.gate")


def test_embeddings_have_the_blocks_fraction_unless_it_is_said():
    one = budgets(CONFIG, Sparsity(nonzero_fraction=0.25))
    assert {budget.fraction for budget in one.values()} == {0.25}
    assert budgets(CONFIG, Sparsity(nonzero_fraction=1.0)) == {}


@pytest.mark.parametrize("shape", ["linear", "log_linear"])
def test_annealing_goes_from_dense_to_the_final_fraction(shape):
    sparsity = replace(SPARSE, anneal=Anneal(start=0.2, end=0.6, shape=shape))
    path = [annealed(sparsity, 0.125, step / 100) for step in range(101)]
    assert path[:21] == [1.0] * 21
    assert path[60:] == pytest.approx([0.125] * 41)
    middle = 0.5625 if shape == "linear" else 0.125**0.5
    assert path[40] == pytest.approx(middle)
    assert path == sorted(path, reverse=True)
    assert [rate_factor(sparsity, p) for p in (0, 0.4, 1)] == pytest.approx(
        [0.125**0.5, (0.125 / middle) ** 0.5, 1]
    )
    assert rate_factor(replace(sparsity, rate_follows_sparsity=False), 0) == 1


def test_an_anneal_may_be_a_jump_but_not_end_before_it_starts():
    jump = replace(SPARSE, anneal=Anneal(start=0.5, end=0.5))
    assert [annealed(jump, 0.1, p) for p in (0.0, 0.49, 0.5, 1)] == [1, 1, 0.1, 0.1]
    assert annealed(replace(jump, anneal=Anneal(start=0, end=0)), 0.1, 1e-9) == 0.1
    with pytest.raises(HarnessError, match="anneal ends before it starts"):
        budgets(CONFIG, replace(SPARSE, anneal=Anneal(start=0.5, end=0.4)))


def test_more_entries_per_neuron_than_there_are_is_refused():
    assert budgets(CONFIG, replace(SPARSE, min_per_neuron=2))
    message = (
        r"min_per_neuron is 3, and nonzero_fraction leaves blocks.0.qkv_map.weight 96 entries for "
        "48 neurons, at most 2 each"
    )
    with pytest.raises(HarnessError, match=message):
        budgets(CONFIG, replace(SPARSE, min_per_neuron=3))


# ---------------------------------------------------------------- training
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"min_per_neuron": 1},
        {"biases": "sparse", "anneal": Anneal(start=0, end=1, shape="log_linear")},
    ],
)
def test_budgets_are_kept_after_every_step(tmp_path, changes):
    sparsity = replace(SPARSE, **changes)
    lines = []
    run = trainer(tmp_path, sparsity, log=lines.append)
    real, checked = run._update, []

    def update(batch):
        loss = real(batch)
        done = (run.step + 1) / SPEC.steps
        start, end = sparsity.anneal.start, sparsity.anneal.end
        way = min(1, max(0, (done - start) / (end - start)))
        for name, weight in run.model.named_parameters():
            own = 0.125 if name.endswith(BLOCKS) or name == "position_embedding" else None
            own = 0.5 if name in ("embedding", "unembedding") else own
            if name.endswith(".bias") and sparsity.biases == "sparse":
                own = 0.125 if "norm" not in name else None
            if own is None:
                continue
            share = own**way if sparsity.anneal.shape == "log_linear" else 1 - way + own * way
            most = max(1, int(share * weight.numel() + 1e-9))
            left = int(weight.count_nonzero())
            assert left <= most
            # Biases of zero gradient (those of keys) and words that no prompt has stay zero.
            if name.endswith(BLOCKS):
                assert left == most, name
            if name.endswith(BLOCKS) and sparsity.min_per_neuron:
                axis = 1 if name.endswith(("qkv_map.weight", "mlp_in.weight")) else 0
                assert int((weight != 0).sum(axis).min()) >= 1
            checked.append(name)
        return loss

    run._update = update
    model, history = run.run()
    assert len(checked) >= SPEC.steps * 10
    last = history[-1]
    assert last["tensors"] == nonzeros(model, last["tensors"])
    assert last["nonzeros"] == sum(last["tensors"].values())
    assert last["dead_neurons"] == dead_neurons(model)
    assert bool(lines) == bool(sparsity.min_per_neuron)
    assert not lines or "1 entries of each neuron take 50% to 50% of the budgets" in lines[0]


def test_a_sparse_training_is_the_written_out_loop(tmp_path):
    """Dense gradients and moments; divide, step, project, decay: step by step in plain tensors."""
    spec, data = replace(SPEC, steps=6), FirstToken()
    sparsity = replace(SPARSE, anneal=Anneal(start=0.2, end=0.8))
    model = random_model(CONFIG, 0)
    named = dict(model.named_parameters())
    mean = {name: torch.zeros_like(weight) for name, weight in named.items()}
    square = {name: torch.zeros_like(weight) for name, weight in named.items()}
    for step in range(6):
        fraction = 1 + (0.125 - 1) * min(1, max(0, ((step + 1) / 6 - 0.2) / 0.6))
        embeds = 1 + (0.5 - 1) * min(1, max(0, ((step + 1) / 6 - 0.2) / 0.6))
        rate = 0.03 * ((step + 1) / 2 if step < 2 else 1 - (step - 2) / 4)
        rate *= math.sqrt(0.125 / fraction)
        batch = data.training_batch("answer", 32, step, 0)
        targets = torch.from_numpy(batch.targets)
        tokens, rows = torch.from_numpy(batch.tokens), targets >= 0
        logits = model.unembed(model.stream(tokens)[rows], tokens[rows])
        loss = torch.nn.functional.cross_entropy(logits, targets[targets >= 0])
        gradients = dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))
        total = sum(float((g.double() ** 2).sum()) for g in gradients.values())
        size = math.sqrt(total / sum(w.numel() for w in named.values()))
        with torch.no_grad():
            for name, weight in named.items():
                g = gradients[name] / (size + 1e-5)
                mean[name] = 0.9 * mean[name] + 0.1 * g
                square[name] = 0.95 * square[name] + 0.05 * g * g
                corrected = (square[name] / (1 - 0.95 ** (step + 1))).sqrt()
                weight.sub_(rate * mean[name] / (1 - 0.9 ** (step + 1)) / (corrected + 0.1))
                if weight.ndim == 2:
                    own = embeds if name in ("embedding", "unembedding") else fraction
                    weight.copy_(by_sorting(weight, max(1, int(own * weight.numel())), 0, 0))
                    weight.mul_(1 - 0.1 * rate)
    trained, _ = trainer(tmp_path, sparsity, spec).run()
    for name, weight in trained.named_parameters():
        torch.testing.assert_close(weight, named[name].detach(), rtol=2e-4, atol=2e-6)


def test_an_interrupted_sparse_training_resumes_to_the_same_bits(tmp_path, monkeypatch):
    (tmp_path / "whole").mkdir()
    wanted, wanted_history = trainer(tmp_path / "whole").run()
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0)  # after every step
    for stop in (1, 11, 33):  # dense, annealing, sparse
        folder = tmp_path / str(stop)
        folder.mkdir()
        stop_at(trainer(folder), stop)
        model, history = trainer(folder).run()
        assert equal(weights(model), weights(wanted))
        assert history == wanted_history


def test_a_checkpoint_of_another_sparsity_is_not_resumed_from(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0)
    spec = replace(SPEC, steps=4)
    trainer(tmp_path, spec=spec).run()
    assert trainer(tmp_path, spec=spec)._resume()
    assert not trainer(tmp_path, replace(SPARSE, nonzero_fraction=0.25), spec)._resume()


def test_a_target_ends_no_training_before_its_weights_are_sparse(tmp_path):
    spec = replace(SPEC, target=TrainingTarget(value=0.0), evaluate_every=5)
    _, history = trainer(tmp_path, spec=spec).run()
    assert [entry["step"] for entry in history] == [5, 10, 15, 20]  # annealed at half of 40


def test_a_sparse_model_learns_the_task(tmp_path):
    spec = replace(SPEC, steps=150, batch_size=64)
    model, history = trainer(tmp_path, spec=spec).run()
    assert history[-1]["accuracy"] > 0.95
    left = sum(int(w.count_nonzero()) for n, w in model.named_parameters() if n.endswith(BLOCKS))
    entries = sum(w.numel() for n, w in model.named_parameters() if n.endswith(BLOCKS))
    assert left == entries // 8


# ---------------------------------------------------------------- options of the training
def test_initial_weights_have_the_scale_that_is_asked_for(tmp_path):
    """The same draws, so that only their size changes; biases, norms and bigrams stay."""
    config = replace(CONFIG, bigram_table=True)
    usual = weights(trainer(tmp_path, config=config).model)
    small = weights(trainer(tmp_path, spec=replace(SPEC, initial_scale=0.03), config=config).model)
    for name, weight in usual.items():
        size = 0.02 if "embedding" in name else weight.shape[-1] ** -0.5
        same = weight.ndim == 1 or name == "bigram_table"
        wanted = weight if same else weight * (0.03 / size)
        torch.testing.assert_close(small[name], wanted, rtol=1e-5, atol=0)
    written, read = (small[f"blocks.0.{name}.weight"].std() for name in ("out_map", "qkv_map"))
    assert float((written / read).detach()) == pytest.approx(0.5, rel=0.15)


def gradients_after(gradient, scale, clip=1.0):
    model = random_model(CONFIG, 0)
    spec = replace(SPEC, gradient=gradient, clip=clip)
    optimiser = Optimiser(model, spec, None)
    noise = torch.Generator().manual_seed(0)
    for weight in model.parameters():
        weight.grad = torch.randn(weight.shape, generator=noise) * scale
    before = torch.cat([weight.grad.flatten().clone() for weight in model.parameters()])
    optimiser._treat_gradients()
    return before, torch.cat([weight.grad.flatten() for weight in model.parameters()])


@pytest.mark.parametrize("scale", [1e-3, 1.0, 7.0])
def test_gradients_are_divided_or_clipped_by_their_root_mean_square(scale):
    before, divided = gradients_after("divide_by_rms", scale)
    rms = float(before.double().square().mean().sqrt())
    torch.testing.assert_close(divided, before / (rms + 1e-5))
    before, clipped = gradients_after("clip_rms", scale, clip=2.0)
    torch.testing.assert_close(clipped, before * min(1.0, 2.0 / rms))
    before, shortened = gradients_after("clip_norm", scale, clip=2.0)
    norm = rms * math.sqrt(len(before))
    torch.testing.assert_close(shortened, before * min(1.0, 2.0 / norm), rtol=1e-4, atol=0)


def test_a_linear_schedule_falls_evenly_to_its_share():
    spec = replace(SPEC, warmup_steps=10, steps=50, final_learning_rate=0.2)
    rates = [learning_rate(spec, step) / spec.learning_rate for step in range(51)]
    assert rates[:10] == pytest.approx(np.arange(1, 11) / 10)
    assert rates[10:] == pytest.approx(1 - 0.8 * np.arange(41) / 40)


@pytest.mark.parametrize("decay", ["before_step", "after_step"])
def test_matrices_decay_and_vectors_do_not(decay):
    model = random_model(CONFIG, 0)
    before = weights(model)
    spec = replace(SPEC, decay=decay, warmup_steps=0)
    optimiser = Optimiser(model, spec, None)
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    optimiser.update(0)
    for name, weight in model.named_parameters():
        factor = 1 - 0.1 * 0.03 if weight.ndim == 2 else 1
        torch.testing.assert_close(weight.detach(), before[name] * factor)


# ---------------------------------------------------------------- what is logged
def test_dead_neurons_read_nothing_or_write_nothing():
    model = random_model(CONFIG, 0)
    first, second = model.layers()
    assert dead_neurons(model) == 0
    with torch.no_grad():
        first.mlp_in.weight[3] = 0
        first.mlp_out.weight[:, 3] = 0
        first.mlp_out.weight[:, 4] = 0
        second.mlp_in.weight[:, 5] = 0  # a channel of the stream, not a neuron
    assert dead_neurons(model) == 2


class WithEntropy(HeldOutPairs):
    """Pairs whose source says what no model can know."""

    def measure(self, model, device):
        return super().measure(model, device) | {"entropy": 0.25}


def test_the_log_says_how_far_the_loss_is_above_the_entropy(tmp_path):
    run = trainer(tmp_path)
    run.held_out = WithEntropy(run.held_out.pairs)
    _, history = run.run()
    assert all(entry["excess"] == entry["loss"] - 0.25 for entry in history)
