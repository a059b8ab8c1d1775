"""All sites are trained in one run that survives a kill, stops at its target and fills buffers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.toy_task import FirstToken

from harness.datasets.pairs import TrainingBatch
from harness.dictionaries.dictionary import DictionarySet
from harness.dictionaries.sites import activations, by_site, chosen_sites
from harness.dictionaries.training import trainer as trainer_module
from harness.dictionaries.training.buffer import PROMPTS, Buffer
from harness.dictionaries.training.trainer import DictionaryTrainer, rate_at
from harness.errors import HarnessError
from harness.models.config import TransformerConfig
from harness.models.transformer import random_model
from harness.spec.types import (
    DictionaryForm,
    DictionaryTarget,
    DictionaryTraining,
    TrainDictionary,
)

CONFIG = TransformerConfig(n_layers=2, n_heads=2, d_model=8, d_head=4, d_mlp=12, d_vocab=6, n_ctx=4)
TRAINING = DictionaryTraining(
    tokens=64 * 50, batch_tokens=64, buffer_tokens=200, buffer_uses=2, warmup_steps=5,
    learning_rate=0.01, resample_every=10, evaluate_every=25,
)  # fmt: skip
SPEC = TrainDictionary(
    task="toy", sites=("m1.hidden", "attention", "m0"),
    dictionary=DictionaryForm(features=24, k=4, k_by_site={"attention": 6, "a1": 2}),
    training=TRAINING,
)  # fmt: skip


def make(folder: Path, spec: TrainDictionary = SPEC, log: Any = str) -> DictionaryTrainer:
    data, model = FirstToken(), random_model(CONFIG, 3)
    with torch.no_grad():  # random embeddings are small; what sites hold should be of this order
        model.embedding.mul_(50)
    validation = data.pairs("validation", 32, 0)
    folder.mkdir(exist_ok=True)
    return DictionaryTrainer(model, spec, data, validation, scratch=folder, log=log)


def equal(one: DictionarySet, other: DictionarySet) -> bool:
    return list(one) == list(other) and all(
        torch.equal(a, b)
        for site in one
        for a, b in zip(
            one[site].state_dict().values(), other[site].state_dict().values(), strict=True
        )
    )


def test_all_sites_are_trained_in_the_order_of_computation(tmp_path: Path) -> None:
    trainer = make(tmp_path)
    assert {site: one.k for site, one in trainer.learners.items()} == {
        "a0.out": 6, "m0.out": 4, "a1.out": 2, "m1.hidden": 4
    }  # fmt: skip
    dictionaries, history = trainer.run()
    assert [one.width for one in dictionaries.values()] == [8, 8, 8, 12]
    assert [entry["step"] for entry in history] == [25, 50]
    assert history[-1]["training_loss"] < history[0]["training_loss"]
    assert not any(w.requires_grad for one in dictionaries.values() for w in one.parameters())


class Killed(Exception):
    pass


@pytest.mark.parametrize("at", [17, 20, 36])
def test_a_killed_training_ends_with_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Before, at and after the end of a buffer, and of a use of it (3 steps each, used twice)."""
    whole, history = make(tmp_path / "whole").run()
    monkeypatch.setattr(trainer_module, "SAVE_SECONDS", 0)
    killed = make(tmp_path / "killed")
    update = killed._update

    def dying(batch: Any) -> torch.Tensor:
        if killed.step == at:
            raise Killed
        return update(batch)

    monkeypatch.setattr(killed, "_update", dying)
    with pytest.raises(Killed):
        killed.run()
    said: list[str] = []
    again, later = make(tmp_path / "killed", log=said.append).run()
    assert said == [f"resuming the training of dictionaries at step {at}"]
    assert equal(whole, again)
    assert later == history


def test_a_checkpoint_of_another_training_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer_module, "SAVE_SECONDS", 0)
    make(tmp_path).run()
    other = replace(SPEC, training=replace(TRAINING, seed=1))
    assert not make(tmp_path, other)._resume()


def test_it_stops_at_the_target(tmp_path: Path) -> None:
    target = DictionaryTarget(value=100.0)
    _, history = make(tmp_path, replace(SPEC, target=target)).run()
    assert [entry["step"] for entry in history] == [25]


def test_a_buffer_smaller_than_a_batch_is_refused(tmp_path: Path) -> None:
    training = replace(TRAINING, buffer_tokens=63)
    with pytest.raises(HarnessError, match="buffer_tokens is 63, but a batch takes 64"):
        make(tmp_path, replace(SPEC, training=training))


class Ragged(FirstToken):
    """PromptStream of two lengths."""

    def training_batch(self, objective: str, size: int, step: int, seed: int) -> TrainingBatch:
        batch = super().training_batch(objective, size, step, seed)
        lengths = np.where(np.arange(size) % 2, 4, 2)
        return replace(batch, lengths=lengths)


def test_a_buffer_holds_what_the_sites_hold_without_padding() -> None:
    model, data = random_model(CONFIG, 3), Ragged()
    sites = chosen_sites(CONFIG, ["m0", "embed"])
    buffer = Buffer(model, data, sites, size=PROMPTS * 3 + 5, seed=7, objective="answer")
    buffer.fill()
    assert buffer.drawn == 2
    seed = (7 + 0x5EED_D1C7) % 2**32
    for name, held in buffer.held.items():
        rows = []
        for step in range(2):
            batch = data.training_batch("answer", PROMPTS, step, seed)
            tokens = torch.from_numpy(batch.tokens)
            value = activations(model, tokens, [name])[name]
            rows += [
                value[row, at] for row in range(PROMPTS) for at in range(int(batch.lengths[row]))
            ]
        assert torch.equal(held, torch.stack(rows)[: len(held)])


def test_batches_hold_every_activation_once_in_one_order_for_all_sites() -> None:
    model, data = random_model(CONFIG, 3), FirstToken()
    buffer = Buffer(model, data, chosen_sites(CONFIG, ["a0", "m0"]), size=24, seed=0,
                    objective="answer")  # fmt: skip
    for name in buffer.held:
        buffer.held[name] = torch.arange(24.0)[:, None].expand(24, 8)
    one, other = ([b["a0.out"][:, 0] for b in buffer.batches(8, order)] for order in (0, 1))
    assert sorted(torch.cat(one).tolist()) == list(range(24))
    assert not torch.equal(torch.cat(one), torch.cat(other))
    for batch in buffer.batches(8, 0):
        assert torch.equal(batch["a0.out"], batch["m0.out"])


def test_names_of_sites() -> None:
    every = chosen_sites(CONFIG, ["mlp", "attention", "embed"])
    assert [one.name for one in every] == ["embed", "a0.out", "m0.out", "a1.out", "m1.out"]
    with pytest.raises(HarnessError, match="no site 'a2'; it has 2 layers"):
        chosen_sites(CONFIG, ["a2"])
    with pytest.raises(HarnessError, match=r"site a1\.out is named twice"):
        chosen_sites(CONFIG, ["attention", "a1"])
    with pytest.raises(HarnessError, match="k_by_site names 'm1'"):
        by_site(["a0.out"], {"m1": 3}, 1)


def test_the_rate_rises_stays_and_falls() -> None:
    rates = [rate_at(TRAINING, step, 50) for step in range(50)]
    assert rates[0] == pytest.approx(0.002)
    assert set(rates[5:35]) == {0.01}
    assert rates[-1] == pytest.approx(0.01 * (1 / 50) / 0.3)
    assert rate_at(replace(TRAINING, decay=1.0), 49_999, 50_000) == pytest.approx(0.01 * 0.02)
