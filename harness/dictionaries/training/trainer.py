"""One training of the dictionaries of all sites, which can be interrupted at any moment.

What is random is drawn from generators seeded by the spec and the step. A training that was killed
resumes from its last checkpoint and ends with the same weights.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.datasets.pairs import Objective, PromptPairs
from harness.dictionaries.dictionary import DictionarySet, random_dictionary
from harness.dictionaries.sites import by_site, chosen_sites
from harness.dictionaries.splice import splice_kl
from harness.dictionaries.training.buffer import Buffer, PromptStream
from harness.dictionaries.training.finetune import LEAST_RATE, Finetuning
from harness.dictionaries.training.learner import DictionaryLearner
from harness.errors import HarnessError
from harness.models.checkpoint import SAVE_SECONDS, load_state, save_state
from harness.models.training.adam import MOMENTS, moments, take_up
from harness.models.transformer import Transformer
from harness.progress import Stage, stage
from harness.spec.types import DictionaryTraining, TrainDictionary

Log = Callable[[str], None]


def rate_at(spec: DictionaryTraining, step: int, steps: int) -> float:
    """Learning rate: linear warm-up, constant, linear decay over the last share of the steps."""
    rising = min(1.0, (step + 1) / spec.warmup_steps) if spec.warmup_steps else 1.0
    left = (steps - step) / steps
    falling = min(1.0, max(LEAST_RATE, left / spec.decay)) if spec.decay else 1.0
    return spec.learning_rate * rising * falling


class DictionaryTrainer:
    """The training that a spec describes, on a model's activations on prompts."""

    def __init__(
        self,
        model: Transformer,
        spec: TrainDictionary,
        prompts: PromptStream,
        validation: PromptPairs,
        *,
        scratch: Path,
        log: Log,
        objective: Objective = "next_token",
    ) -> None:
        self.model, self.spec, self.validation, self.log = model, spec, validation, log
        training, form = spec.training, spec.dictionary
        if training.buffer_tokens < training.batch_tokens:
            raise HarnessError(
                f"training.buffer_tokens is {training.buffer_tokens}, but a batch takes "
                f"{training.batch_tokens}; make the buffer larger"
            )
        sites = chosen_sites(model.config, spec.sites)
        k_of = by_site([one.name for one in sites], form.k_by_site, form.k or 0)
        self.checkpoint = scratch / "dictionaries.safetensors"
        self.buffer = Buffer(
            model,
            prompts,
            sites,
            size=training.buffer_tokens,
            seed=training.seed,
            objective=objective,
        )
        dtype: torch.dtype = getattr(torch, training.precision)
        self.learners: dict[str, DictionaryLearner] = {}
        for index, site in enumerate(sites):
            k = k_of[site.name]
            first = random_dictionary(
                site.width,
                form.features,
                form.activation,
                seed=training.seed * 1_000_003 + index,
                k=k if form.activation == "topk" else None,
                pre_bias=form.pre_bias,
            ).to(model.embedding.device)
            self.learners[site.name] = DictionaryLearner(first, form, k, dtype)
        self.parameters = {
            f"{site}.{name}": weight
            for site, learner in self.learners.items()
            for name, weight in learner.parameters().items()
        }
        self.optimiser = torch.optim.Adam(
            list(self.parameters.values()),
            lr=training.learning_rate,
            betas=(training.beta1, training.beta2),
            fused=True,
        )
        self.per_use = training.buffer_tokens // training.batch_tokens
        self.steps = max(1, training.tokens // training.batch_tokens)
        self.step = 0
        self.filled_from = 0  # the buffer's `drawn` before it was filled
        self.history: list[dict[str, float]] = []

    # ------------------------------------------------------------ the loop
    def run(self) -> tuple[DictionarySet, list[dict[str, float]]]:
        """Train on all tokens or to the target, resuming from a checkpoint if there is one.

        Returns the dictionaries, frozen, and one entry per evaluation.
        """
        if self._resume():
            self.log(f"resuming the training of dictionaries at step {self.step:,}")
        saved = started = time.monotonic()
        first = self.step
        batches = self._batches()
        with stage("dictionaries", self.steps, "step", self.step) as shown:
            while self.step < self.steps and not self._reached():
                loss = self._update(next(batches))
                self.step += 1
                shown.advance()
                if self._every(self.spec.training.resample_every) and (
                    self.step <= self.spec.training.resample_until * self.steps
                ):
                    self._resample()
                if self._every(self.spec.training.evaluate_every) or self.step == self.steps:
                    seen = (self.step - first) * self.spec.training.batch_tokens
                    self._evaluate(loss, seen / (time.monotonic() - started), shown)
                if time.monotonic() - saved > SAVE_SECONDS:
                    self._check(float(loss))
                    self._save()
                    shown.saved()
                    saved = time.monotonic()
        if self.spec.training.finetune_tokens and not self._reached():
            return self._finetuned(), self.history
        return self.dictionaries(), self.history

    def _finetuned(self) -> DictionarySet:
        """The dictionaries after they were trained through the model, which is an entry more."""
        self._save()  # a training that is killed from here on resumes here
        finished = self.dictionaries()
        tuning = Finetuning(
            self.model,
            finished,
            self.spec.training,
            self.buffer.prompts,
            self.buffer.objective,
            {site: learner.k for site, learner in self.learners.items()},
            scratch=self.checkpoint.parent,
            purpose=self._purpose,
            log=self.log,
        )
        loss = tuning.run()
        kl = splice_kl(self.model, finished, self.validation)
        entry = {"step": self.steps + tuning.step, "training_loss": loss, "splice_kl": kl}
        self.history.append(entry)
        return finished

    def dictionaries(self) -> DictionarySet:
        """The dictionaries as they are now, for activations that are not scaled."""
        return DictionarySet({site: one.finished() for site, one in self.learners.items()})

    def _every(self, steps: int) -> bool:
        return steps > 0 and self.step % steps == 0

    def _batches(self) -> Any:
        """Batches from the current step on, the buffer filled as often as the spec says."""
        fresh = True  # the buffer holds nothing yet
        while True:
            use, place = divmod(self.step, self.per_use)
            if self._used_up():
                self.filled_from = self.buffer.drawn
            if fresh or self._used_up():
                self.buffer.fill()
                fresh = False
            if self.step == 0:
                for site, learner in self.learners.items():
                    learner.start(self.buffer.held[site])
            batches = self.buffer.batches(self.spec.training.batch_tokens, use)
            for number, batch in enumerate(batches):
                if number >= place:
                    yield batch

    def _used_up(self) -> bool:
        """Whether the next step needs new activations."""
        return self.step % (self.per_use * self.spec.training.buffer_uses) == 0

    def _update(self, batch: Mapping[str, Tensor]) -> Tensor:
        for group in self.optimiser.param_groups:
            group["lr"] = rate_at(self.spec.training, self.step, self.steps)
        losses = [self.learners[site].backward(x) for site, x in batch.items()]
        self.optimiser.step()
        for learner in self.learners.values():
            learner.renormalise()
        return torch.stack(losses).mean()

    def _resample(self) -> None:
        """Move dead features, and forget what the optimiser remembers of them."""
        count = min(2 * self.spec.training.batch_tokens, self.buffer.size)
        for index, (site, learner) in enumerate(self.learners.items()):
            seed = (self.spec.training.seed * 1_000_003 + self.step) * 1009 + index
            generator = torch.Generator().manual_seed(seed % 2**63)
            dead = learner.resample(self.buffer.held[site][-count:], generator)
            for name, weight in learner.parameters().items():
                if name != "decoder_bias":
                    for moment in MOMENTS:
                        self.optimiser.state[weight][moment][dead] = 0

    def _evaluate(self, loss: Tensor, speed: float, shown: Stage) -> None:
        entry = {"step": self.step, "training_loss": float(loss)}
        self._check(entry["training_loss"])
        entry["splice_kl"] = splice_kl(self.model, self.dictionaries(), self.validation)
        self.history.append(entry)
        shown.advance(
            0,
            f"loss {entry['training_loss']:.4f}, KL of all sites spliced {entry['splice_kl']:.4f}, "
            f"{speed:,.0f} tokens/s",
        )

    def _check(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise HarnessError(
                f"training of dictionaries diverged at step {self.step} (loss {loss}); lower "
                "training.learning_rate or warm up longer"
            )

    def _reached(self) -> bool:
        target = self.spec.target
        return bool(target and self.history and self.history[-1][target.metric] <= target.value)

    # ------------------------------------------------------------ checkpoints
    @cached_property
    def _purpose(self) -> dict[str, Any]:
        """What must be the same in a training that resumes from a checkpoint."""
        weights = sha256()
        for name, weight in sorted(self.model.named_parameters()):
            weights.update(name.encode())
            weights.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().data)
        training = self.spec.training
        batch = self.buffer.prompts.training_batch(self.buffer.objective, 8, 0, training.seed)
        return {
            "spec": asdict(self.spec),
            "model": weights.hexdigest(),
            "prompts": sha256(batch.tokens.tobytes()).hexdigest(),
            "validation": self.validation.digest(),
            "torch": torch.__version__,
        }

    def _save(self) -> None:
        tensors: dict[str, Tensor] = {}
        for site, learner in self.learners.items():
            tensors |= {f"{site}.{name}": value for name, value in learner.state().items()}
        tensors |= moments(self.optimiser, self.parameters)
        start = self.buffer.drawn if self._used_up() else self.filled_from
        note = {"step": self.step, "filled_from": start, "history": self.history}
        save_state(tensors, note, self.checkpoint, self._purpose)

    def _resume(self) -> bool:
        stored = load_state(self.checkpoint, self._purpose)
        if stored is None:
            return False
        tensors, note = stored
        with torch.no_grad():
            for site, learner in self.learners.items():
                for name, value in learner.state().items():
                    value.copy_(tensors[f"{site}.{name}"])
            take_up(self.optimiser, self.parameters, tensors, note["step"])
        self.step, self.history = note["step"], note["history"]
        self.filled_from = self.buffer.drawn = note["filled_from"]
        return True
