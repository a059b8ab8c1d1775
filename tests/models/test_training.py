"""Training learns, stops at its target, and survives a kill to the very same weights."""

from __future__ import annotations

import errno
import json
import math
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.shown import Recorder
from support.stopped_training import stop_at
from support.toy_task import FirstToken

from harness.datasets.pairs import NO_TARGET, TrainingBatch
from harness.errors import HarnessError
from harness.models.checkpoint import load_model, load_state, save_model, save_state
from harness.models.config import TransformerConfig
from harness.models.training import trainer as train
from harness.models.training.data import HeldOutPairs
from harness.models.training.quality import quality
from harness.models.training.schedule import learning_rate
from harness.models.training.trainer import Trainer, training_loss
from harness.models.transformer import random_model
from harness.progress import shown_by
from harness.spec.types import Training, TrainingTarget

CONFIG = TransformerConfig(
    n_layers=1, n_heads=2, d_model=16, d_head=8, d_mlp=32, d_vocab=6, n_ctx=4
)
SPEC = Training(
    objective="answer", steps=60, batch_size=32, learning_rate=0.02, warmup_steps=5,
    evaluate_every=20,
)  # fmt: skip


def trainer(folder, spec=SPEC, log=lambda text: None):
    data = FirstToken()
    held_out = HeldOutPairs(data.pairs("validation", 64, 0))
    return Trainer(CONFIG, spec, data, held_out, scratch=folder, log=log)


def weights(model):
    return {name: value.clone() for name, value in model.named_parameters()}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_it_learns_and_says_how_well(tmp_path):
    with shown_by(display := Recorder()):
        model, history = trainer(tmp_path).run()
    assert history[-1]["accuracy"] > 0.95
    assert history[-1]["loss"] < history[0]["loss"]
    assert [entry["step"] for entry in history] == [20, 40, 60]
    (training,) = display.ended
    assert (training.title, training.done, training.total) == ("training", 60, 60)
    assert f"held-out accuracy {history[-1]['accuracy']:.4f}" in training.note
    held_out = quality(model, FirstToken().pairs("test", 200, 0))
    assert float(held_out["accuracy"].mean()) > 0.95
    assert not any(p.requires_grad for p in model.parameters())


def test_it_learns_with_products_in_half_precision(tmp_path):
    model, history = trainer(tmp_path, replace(SPEC, precision="bfloat16")).run()
    assert history[-1]["accuracy"] > 0.95
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert not equal(weights(model), weights(trainer(tmp_path / "single").run()[0]))


def test_products_in_half_precision_are_those_in_single_precision_but_rounded():
    """Gradients are of the weights' precision; residual stream and logits are not rounded."""
    model, batch = random_model(CONFIG, 0), FirstToken().training_batch("answer", 64, 0, 0)
    gradients = {}
    for precision in ("float32", "bfloat16"):
        model.zero_grad()
        loss = training_loss(model, batch, precision=precision)
        assert loss.dtype == torch.float32
        loss.backward()
        gradients[precision] = torch.cat([weight.grad.flatten() for weight in model.parameters()])
    single, half = gradients.values()
    assert half.dtype == torch.float32
    error = float((half - single).norm() / single.norm())
    assert 1e-4 < error < 0.03


@pytest.mark.parametrize(
    "target", [TrainingTarget(value=0.3), TrainingTarget(metric="loss", value=1.7)]
)
def test_it_stops_at_the_target(tmp_path, target):
    _, history = trainer(tmp_path, replace(SPEC, target=target)).run()
    assert history[-1]["step"] < SPEC.steps


def test_equal_seeds_give_equal_models_and_others_do_not(tmp_path):
    one, same, other = (
        weights(trainer(tmp_path / str(i), replace(SPEC, seed=seed)).run()[0])
        for i, seed in enumerate((0, 0, 1))
    )
    assert equal(one, same)
    assert not equal(one, other)


def test_stopping_anywhere_and_resuming_gives_the_same_weights(tmp_path, monkeypatch):
    (tmp_path / "whole").mkdir()
    wanted, wanted_history = trainer(tmp_path / "whole").run()
    monkeypatch.setattr(train, "CHECKPOINT_SECONDS", 0)  # after every step
    for stop in (1, 20, 33):
        folder = tmp_path / str(stop)
        folder.mkdir()
        stop_at(trainer(folder), stop)
        lines = []
        found, history = trainer(folder, log=lines.append).run()
        assert lines[0] == f"resuming training at step {stop}"
        assert equal(weights(found), weights(wanted))
        assert history == wanted_history


def test_a_damaged_checkpoint_is_named_and_the_training_starts_anew(tmp_path, monkeypatch, caplog):
    """One bit of one weight: resumed from, it would give another model."""
    (tmp_path / "whole").mkdir()
    spec = replace(SPEC, steps=8)
    wanted, _ = trainer(tmp_path / "whole", spec).run()
    monkeypatch.setattr(train, "CHECKPOINT_SECONDS", 0)
    trainer(tmp_path, spec).run()
    path = tmp_path / "training.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 64
    path.write_bytes(content)
    lines = []
    found, history = trainer(tmp_path, spec, log=lines.append).run()
    assert equal(weights(found), weights(wanted))
    assert not any("resuming" in line for line in lines)
    assert f"{path} cannot be resumed from and is deleted: it is damaged" in caplog.text
    assert [entry["step"] for entry in history] == [8]


@pytest.mark.parametrize(
    "changes",
    [{"learning_rate": 0.01}, {"batch_size": 16}, {"steps": 9}, {"precision": "bfloat16"}],
)
def test_a_checkpoint_of_another_training_is_not_resumed_from(changes, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "CHECKPOINT_SECONDS", 0)
    spec = replace(SPEC, steps=8)
    trainer(tmp_path, spec).run()
    assert trainer(tmp_path, spec)._resume()
    assert not trainer(tmp_path, replace(spec, **changes))._resume()


KILLED = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import torch
torch.set_num_threads(1)
from harness.models.training import trainer as train
from test_training import trainer
train.CHECKPOINT_SECONDS = 0
slow = trainer(Path(sys.argv[1]))
real = slow._update
slow._update = lambda batch: (time.sleep(0.02), real(batch))[1]
slow.run()
"""


def test_kill_9_during_training_loses_nothing(tmp_path):
    from pathlib import Path

    here = Path(__file__).resolve()
    (tmp_path / "whole").mkdir()
    folder = tmp_path / "killed"
    folder.mkdir()
    environment = {"PYTHONPATH": f"{here.parents[1]}:{here.parents[2]}"}
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(folder), str(here.parent)], env=environment
    )
    deadline = time.monotonic() + 60
    while not (folder / "training.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    resumed = trainer(folder)
    assert resumed._resume()
    assert 0 < resumed.step < SPEC.steps
    found, _ = trainer(folder).run()
    wanted, _ = trainer(tmp_path / "whole").run()
    assert equal(weights(found), weights(wanted))


def test_learning_rate_warms_up_and_decays_to_its_share():
    assert learning_rate(SPEC, 0) == pytest.approx(0.02 / 5)
    assert learning_rate(SPEC, 4) == pytest.approx(0.02)
    assert learning_rate(SPEC, 5) == pytest.approx(0.02)
    assert learning_rate(SPEC, 60) == pytest.approx(0.002)
    rates = [learning_rate(SPEC, step) for step in range(5, 61)]
    assert rates == sorted(rates, reverse=True)


def test_soft_targets_are_uniform_over_the_allowed_tokens():
    model = random_model(CONFIG, 0).requires_grad_(False)
    tokens = np.array([[1, 2, 3, 0]])
    targets = np.array([[NO_TARGET, 4, 2, NO_TARGET]])
    allowed = np.zeros((1, 4, 6), dtype=bool)
    allowed[0, 1, [4, 5]] = True
    allowed[0, 2, 2] = True
    batch = TrainingBatch(tokens, np.array([4]), targets, allowed)
    logits = model(torch.from_numpy(tokens))[0].log_softmax(-1)
    wanted = -((logits[1, 4] + logits[1, 5]) / 2 + logits[2, 2]) / 2
    assert float(training_loss(model, batch)) == pytest.approx(float(wanted), rel=1e-5)
    hard = replace(batch, allowed=None)
    wanted = -(logits[1, 4] + logits[2, 2]) / 2
    assert float(training_loss(model, hard)) == pytest.approx(float(wanted), rel=1e-5)


def test_saved_models_load_as_they_were(tmp_path):
    model = random_model(CONFIG, 3)
    save_model(model, tmp_path)
    found = load_model(tmp_path)
    assert found.config == model.config
    assert equal(weights(found), weights(model))


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(tmp_path, missing):
    save_model(random_model(CONFIG, 0), tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(HarnessError, match=f"has no {missing}"):
        load_model(tmp_path)


def test_broken_and_misfitting_files_are_user_errors(tmp_path):
    save_model(random_model(CONFIG, 0), tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    save_model(random_model(replace(CONFIG, d_mlp=8), 0), other)
    (tmp_path / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes())
    with pytest.raises(HarnessError, match=r"mlp_in.weight has shape \(8, 16\)"):
        load_model(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\x00" * 20)
    with pytest.raises(HarnessError, match="not a safetensors file"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(HarnessError, match="not valid JSON"):
        load_model(tmp_path)
    good = CONFIG.to_dict()
    for name, value in (("positions", "sinusoidal"), ("causal", "false"), ("d_model", "16")):
        (tmp_path / "config.json").write_text(json.dumps({**good, name: value}))
        with pytest.raises(HarnessError, match=rf"config\.json: .*{name} is '{value}', not"):
            load_model(tmp_path)
    (tmp_path / "config.json").write_text('{"layers": 3}')
    with pytest.raises(HarnessError, match="not a model configuration"):
        load_model(tmp_path)


def test_state_files_change_in_one_step(tmp_path, monkeypatch):
    path = tmp_path / "state.safetensors"
    save_state({"x": torch.ones(2)}, {"n": 1}, path, PURPOSE)
    monkeypatch.setattr("harness.disk.os.fsync", _disk_full)
    with pytest.raises(OSError, match=f"full.*{path.stem}"):
        save_state({"x": torch.zeros(2)}, {"n": 2}, path, PURPOSE)
    tensors, note = load_state(path, PURPOSE)
    assert note == {"n": 1}
    assert tensors["x"].tolist() == [1, 1]
    assert load_state(tmp_path / "nothing", PURPOSE) is None
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


PURPOSE = {"seed": 3, "levels": (0.5, 1)}


def _disk_full(_file):
    raise OSError(errno.ENOSPC, "disk is full")


def test_rates_are_finite_without_warm_up():
    spec = replace(SPEC, warmup_steps=0)
    assert all(math.isfinite(learning_rate(spec, step)) for step in range(61))


def test_diverging_training_is_a_user_error_and_leaves_no_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "CHECKPOINT_SECONDS", 0)
    broken = trainer(tmp_path, replace(SPEC, learning_rate=1e30, clip=1e30))
    with pytest.raises(HarnessError, match="training diverged at step"):
        broken.run()
    state = load_state(tmp_path / "training.safetensors", broken._purpose)
    assert state is None or all(torch.isfinite(x).all() for x in state[0].values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_heads": 0}, "n_heads is 0, not a positive integer"),
        ({"n_heads": "2"}, "n_heads is '2', not a whole number"),
        ({"causal": 1}, "causal is 1, not true or false"),
        ({"norm": "batch"}, "norm is 'batch', not one of layernorm, rmsnorm, none"),
        ({"layers": 2}, "layers is unknown"),
        ({"rotary": {"n_rotated": -2}}, "n_rotated is -2, not a positive integer"),
        ({"rotary": {"scaling": "ntk"}}, "rotary.scaling is 'ntk', not one of none, linear, "),
        ({"window_layers": [-1]}, r"window_layers \(-1,\)"),
        ({"window_layers": [0.5]}, "window_layers.0 is 0.5, not a whole number"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(changes, message):
    positions = {"positions": "rotary"} if "rotary" in changes else {}
    window = {"window": 4} if "window_layers" in changes else {}
    with pytest.raises(HarnessError, match=f"not a model configuration: {message}"):
        TransformerConfig.from_dict(CONFIG.to_dict() | positions | window | changes)


def test_a_checkpoint_of_a_version_without_the_younger_keys_is_resumed_from(tmp_path):
    """What a checkpoint was for, word by word as the first version wrote it."""
    older = {
        "config": {
            "n_layers": 1, "n_heads": 2, "d_model": 16, "d_head": 8, "d_mlp": 32, "d_vocab": 6,
            "n_ctx": 4, "norm": "layernorm", "norm_eps": 1e-5, "positions": "learned",
            "activation": "gelu_tanh", "bias": True, "unembed_bias": False, "tied": False,
            "causal": True, "n_key_value_heads": None, "parallel": False, "gated": False,
            "qkv_bias": None, "out_bias": None, "mlp_bias": None, "rotary": None, "window": None,
            "window_layers": [], "window_rotary": None, "qk_norm": False, "query_scale": None,
            "attention_softcap": None, "logit_softcap": None, "embedding_scale": 1.0,
            "post_norms": False, "d_vocab_out": None,
        },
        "spec": {
            "objective": "answer", "steps": 60, "batch_size": 32, "learning_rate": 0.02,
            "final_learning_rate": 0.1, "warmup_steps": 5, "weight_decay": 0.01, "beta1": 0.9,
            "beta2": 0.98, "clip": 1.0, "seed": 0, "evaluate_every": 20, "target": None,
        },
        "first_batch": "2bbe93027f307a3884ba070bdd114db214852b79df7a9a17246ab867324833b0",
        "validation": "3e5dec51202dcb0f7d87c742f874e61141bbfa3b5c666741c3227739952ea38a",
        "dtype": "torch.float32",
        "torch": torch.__version__,
    }  # fmt: skip
    assert json.loads(json.dumps(trainer(tmp_path)._purpose)) == older


def test_a_plain_training_is_adamw_step_by_step(tmp_path):
    """The loop written out, bit for bit: what is trained stays what it was."""
    spec, data = replace(SPEC, steps=8), FirstToken()
    wanted = random_model(CONFIG, spec.seed)
    parameters = list(wanted.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": 0.01},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=0.02, betas=(0.9, 0.98), fused=True)
    for step in range(spec.steps):
        rate = 0.02 * (step + 1) / 5 if step < 5 else None
        if rate is None:
            cosine = (1 + math.cos(math.pi * ((step - 5) / 3))) / 2
            rate = 0.02 * (0.1 + (1 - 0.1) * cosine)
        for group in optimiser.param_groups:
            group["lr"] = rate
        batch = data.training_batch("answer", 32, step, 0)
        targets, tokens = torch.from_numpy(batch.targets), torch.from_numpy(batch.tokens)
        read = targets >= 0
        logits = wanted.unembed(wanted.stream(tokens)[read], tokens[read])
        optimiser.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(logits, targets[targets >= 0]).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
    model, _ = trainer(tmp_path, spec).run()
    assert equal(weights(model), weights(wanted))
