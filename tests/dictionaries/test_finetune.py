"""The end of a training through the model: answers come closer, codes stay as sparse, a kill."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from support.toy_task import FirstToken

from harness.dictionaries.dictionary import DictionarySet
from harness.dictionaries.measure import measure
from harness.dictionaries.sites import activations
from harness.dictionaries.splice import divergence, replaced_logits, splice_kl
from harness.dictionaries.training import finetune
from harness.dictionaries.training.finetune import Finetuning
from harness.dictionaries.training.trainer import DictionaryTrainer
from harness.errors import HarnessError
from harness.models.config import TransformerConfig
from harness.models.transformer import random_model
from harness.spec.types import DictionaryForm, DictionaryTraining, TrainDictionary

CONFIG = TransformerConfig(n_layers=2, n_heads=2, d_model=8, d_head=4, d_mlp=12, d_vocab=6, n_ctx=4)
PLAIN = DictionaryTraining(
    tokens=64 * 50, batch_tokens=64, buffer_tokens=200, buffer_uses=2, warmup_steps=5,
    learning_rate=0.01, resample_every=10, evaluate_every=25, finetune_learning_rate=0.003,
)  # fmt: skip
TUNED = replace(PLAIN, finetune_tokens=8000)
FORM = DictionaryForm(features=24, k=3)


def make(
    folder: Path, training: DictionaryTraining, form: DictionaryForm = FORM, log: Any = str
) -> DictionaryTrainer:
    data, model = FirstToken(), random_model(CONFIG, 3)
    with torch.no_grad():  # random embeddings are small; what sites hold should be of this order
        model.embedding.mul_(50)
        model.unembedding.mul_(20)
    spec = TrainDictionary(
        task="toy", sites=("attention", "mlp"), dictionary=form, training=training
    )
    folder.mkdir(exist_ok=True)
    validation = data.pairs("validation", 32, 0)
    return DictionaryTrainer(model, spec, data, validation, scratch=folder, log=log)


def active(trainer: DictionaryTrainer, dictionaries: DictionarySet) -> list[float]:
    """Mean L0 of each site."""
    tokens = torch.from_numpy(FirstToken().training_batch("next_token", 256, 0, 99).tokens)
    held = activations(trainer.model, tokens, list(dictionaries))
    return [
        float((one.encode(held[site]) > 0).sum(-1).double().mean())
        for site, one in dictionaries.items()
    ]


def equal(one: DictionarySet, other: DictionarySet) -> bool:
    return all(
        torch.equal(a, b)
        for site in one
        for a, b in zip(
            one[site].state_dict().values(), other[site].state_dict().values(), strict=True
        )
    )


@pytest.mark.parametrize("activation", ["batchtopk", "topk"])
def test_answers_come_closer_with_as_many_features(tmp_path: Path, activation: Any) -> None:
    form = replace(FORM, activation=activation)
    before = make(tmp_path / "plain", PLAIN, form)
    plain, history = before.run()
    trainer = make(tmp_path / "tuned", TUNED, form)
    tuned, longer = trainer.run()
    assert longer[:-1] == history
    assert longer[-1]["step"] > history[-1]["step"]
    kl = splice_kl(trainer.model, tuned, trainer.validation)
    assert longer[-1]["splice_kl"] == kl
    assert kl < 0.7 * splice_kl(before.model, plain, before.validation)
    # `topk` keeps its k exactly; the threshold of `batchtopk` was a mean over noisy batches.
    apart = 0.15 if activation == "batchtopk" else 0
    assert active(trainer, tuned) == pytest.approx(active(before, plain), rel=apart, abs=0)
    for one in tuned.values():
        torch.testing.assert_close(one.decoder.norm(dim=1), torch.ones(24))
        assert not any(weight.requires_grad for weight in one.parameters())


def sharp_kl(trainer: DictionaryTrainer, dictionaries: DictionarySet, sharpness: float) -> float:
    """Divergence (nats) from what the model answers at so many times its logits."""
    tokens = torch.from_numpy(FirstToken().training_batch("next_token", 256, 0, 99).tokens)
    with torch.no_grad():
        plain = trainer.model(tokens)
        other = replaced_logits(trainer.model, tokens, dictionaries, None)
    return float(divergence(sharpness * plain, sharpness * other).mean())


def test_sharpness_brings_choices_closer(tmp_path: Path) -> None:
    """By the geometric mean of some trainings, and at the price of all the rest."""
    choices, rest = [], []
    for seed in range(4):
        training = replace(TUNED, seed=seed)
        plain = make(tmp_path / f"plain{seed}", training)
        sharp = make(tmp_path / f"sharp{seed}", replace(training, finetune_sharpness=4.0))
        as_is, chosen = plain.run()[0], sharp.run()[0]
        choices.append(math.log(sharp_kl(sharp, chosen, 4) / sharp_kl(plain, as_is, 4)))
        rest.append(math.log(sharp_kl(sharp, chosen, 1) / sharp_kl(plain, as_is, 1)))
    assert fmean(choices) < -0.1 < 0.1 < fmean(rest)


def test_what_is_minimised_is_the_formula(tmp_path: Path) -> None:
    """Token by token, of prompts of unequal length."""
    trainer = make(tmp_path, PLAIN, replace(FORM, activation="topk"))
    dictionaries, model = trainer.run()[0], trainer.model
    tuning = Finetuning(
        model, dictionaries, replace(TUNED, finetune_sharpness=3.0, finetune_reconstruction=0.7),
        trainer.buffer.prompts, trainer.buffer.objective, dict.fromkeys(dictionaries, 3),
        scratch=tmp_path, purpose={}, log=str,
    )  # fmt: skip
    tokens = torch.from_numpy(FirstToken().training_batch("next_token", 5, 0, 1).tokens)
    lengths = torch.tensor([4, 4, 3, 2, 4])
    rows = torch.arange(4) < lengths[:, None]
    loss = float(tuning._loss(tokens, lengths, rows).detach())
    divergences, held, decoded = [], defaultdict(list), defaultdict(list)
    for prompt, length in zip(tokens, lengths.tolist(), strict=True):
        moves, here = prompt[None, :length], {}

        def coded(x: torch.Tensor, site: str, here: dict[str, Any] = here) -> torch.Tensor:
            here[site] = dictionaries[site](x)
            return here[site]

        with torch.no_grad():
            plain = model(moves)[0].double()
            replaced = {site: partial(coded, site=site) for site in dictionaries}
            other = replaced_logits(model, moves, replaced, None)[0].double()
            for site, x in activations(model, moves, list(dictionaries)).items():
                held[site] += list(x[0].double())
                decoded[site] += list(here[site][0].double())
        for beta in (1, 3):
            p, q = (beta * plain).softmax(-1), (beta * other).softmax(-1)
            divergences += (p * (p / q).log()).sum(-1).tolist()
    missing = []
    for site in dictionaries:
        x, back = torch.stack(held[site]), torch.stack(decoded[site])
        spread = sum(float((one - x.mean(0)).norm()) ** 2 for one in x)
        missing.append(
            sum(float((x - back).norm(dim=1).square()[i]) for i in range(len(x))) / spread
        )
    assert loss == pytest.approx(sum(divergences) / 17 + 0.7 * fmean(missing), rel=1e-4)


def unexplained(trainer: DictionaryTrainer, dictionaries: DictionarySet) -> float:
    """Mean over sites of the share of the variance that is not decoded, of the model's own run."""
    measures = measure(trainer.model, dictionaries, trainer.validation)
    return 1 - sum(one.ev for one in measures.sites) / len(measures.sites)


def test_reconstruction_keeps_what_sites_hold(tmp_path: Path) -> None:
    free = make(tmp_path / "free", TUNED)
    bound = make(tmp_path / "bound", replace(TUNED, finetune_reconstruction=0.05))
    as_it_comes, near = free.run()[0], bound.run()[0]
    assert unexplained(bound, near) < 0.9 * unexplained(free, as_it_comes)
    before = make(tmp_path / "before", PLAIN)
    kl = splice_kl(before.model, before.run()[0], before.validation)
    assert splice_kl(bound.model, near, bound.validation) < 0.8 * kl


def test_half_precision_of_the_products_is_nearly_as_good(tmp_path: Path) -> None:
    whole = make(tmp_path / "whole", TUNED)
    dictionaries = whole.run()[0]
    rounded = make(tmp_path / "half", TUNED)
    rounded.spec = replace(rounded.spec, training=replace(TUNED, precision="bfloat16"))
    halves = rounded.run()[0]
    assert not equal(halves, dictionaries)
    assert all(one.decoder.dtype == torch.float32 for one in halves.values())
    kl = splice_kl(whole.model, dictionaries, whole.validation)
    assert splice_kl(whole.model, halves, whole.validation) == pytest.approx(kl, rel=0.1)


@pytest.mark.parametrize("at", [0, 7, 40])
def test_a_killed_fine_tuning_ends_with_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    wanted, history = make(tmp_path / "whole", TUNED).run()
    monkeypatch.setattr(finetune, "SAVE_SECONDS", 0)
    update = Finetuning._update

    def dying(self: Finetuning) -> int:
        if self.step == at:
            raise KeyboardInterrupt
        return update(self)

    with monkeypatch.context() as here:
        here.setattr(Finetuning, "_update", dying)
        with pytest.raises(KeyboardInterrupt):
            make(tmp_path / "killed", TUNED).run()
    lines: list[str] = []
    resumed, same = make(tmp_path / "killed", TUNED, log=lines.append).run()
    assert lines[0] == "resuming the training of dictionaries at step 50"
    assert (lines[1:] == [f"resuming the fine-tuning of dictionaries at step {at}"]) == (at > 0)
    assert equal(resumed, wanted)
    assert same == history


def test_the_model_is_left_as_it_is(tmp_path: Path) -> None:
    trainer = make(tmp_path, TUNED)
    before = {name: weight.clone() for name, weight in trainer.model.named_parameters()}
    trainer.run()
    for name, weight in trainer.model.named_parameters():
        assert torch.equal(weight, before[name])


def test_one_that_diverges_is_said(tmp_path: Path) -> None:
    trainer = make(tmp_path, TUNED)
    trainer.run()
    trainer.model.requires_grad_(False).unembedding.mul_(float("inf"))
    with pytest.raises(HarnessError, match=r"lower training\.finetune_learning_rate"):
        trainer._finetuned()
