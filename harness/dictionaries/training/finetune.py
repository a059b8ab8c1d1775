"""The last part of a training: all dictionaries together, by what the model answers through them.

Directions that decode activations well can still lose what the model reads. At the end they are
therefore trained on whole prompts with every site replaced at once, and what is minimised is

    Σ KL(p₁ ‖ q₁) [+ KL(p_β ‖ q_β)] / tokens  +  λ · mean over sites of Σ ‖x̂ − x‖² / Σ ‖x − mean x‖²

in nats, p_β = softmax(β · logits) of the model and q through the dictionaries. The first term alone
is that of Karvonen (2025, "Revisiting End-To-End Sparse Autoencoder Training"). A sharpness β > 1
adds what the model would choose: of many answers nearly as likely as the best, KL(p₁ ‖ q₁) hardly
sees which is best. The last term holds what is decoded, x̂, near what the site holds in the model's
own run, x: answers alone leave directions free that nothing reads.
How many features are active stays as it is: `topk` has its k, the threshold of `batchtopk` follows.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.datasets.pairs import Objective
from harness.dictionaries.dictionary import DictionarySet
from harness.dictionaries.splice import Replace, divergence, replaced_logits
from harness.dictionaries.training.buffer import PromptStream
from harness.dictionaries.training.learner import MEMORY, SAMPLE, threshold_for
from harness.errors import HarnessError
from harness.models.checkpoint import SAVE_SECONDS, load_state, save_state
from harness.models.training.adam import moments, take_up
from harness.models.transformer import Transformer
from harness.progress import stage
from harness.spec.types import DictionaryTraining

PROMPTS = 48
"""Prompts of a step."""

WARMUP_STEPS = 20
LEAST_RATE = 0.02
"""Share of the highest learning rate that decay ends at."""

_STREAM = 0xF17E_7D1C
"""Added to the seed: other prompts than those whose activations were trained on."""


class Finetuning:
    """The training of finished dictionaries through the model, which can be resumed.

    `k_of`: active features a token of each site. `purpose`: what a checkpoint must share with this
    training to be resumed from.
    """

    def __init__(
        self,
        model: Transformer,
        dictionaries: DictionarySet,
        spec: DictionaryTraining,
        prompts: PromptStream,
        objective: Objective,
        k_of: Mapping[str, int],
        *,
        scratch: Path,
        purpose: dict[str, Any],
        log: Callable[[str], None],
    ) -> None:
        self.model, self.dictionaries, self.spec = model, dictionaries, spec
        self.prompts, self.objective, self.k_of, self.log = prompts, objective, k_of, log
        self.checkpoint, self.purpose = scratch / "finetuning.safetensors", purpose
        self.parameters: dict[str, Tensor] = {
            f"{site}.{name}": weight.requires_grad_(True)
            for site, one in dictionaries.items()
            for name, weight in one.named_parameters()
        }
        self.optimiser = torch.optim.Adam(
            list(self.parameters.values()),
            lr=spec.finetune_learning_rate,
            betas=(spec.beta1, spec.beta2),
            fused=True,
        )
        self.step = self.seen = 0
        self.loss = float("nan")

    def run(self) -> float:
        """Train on all tokens; the dictionaries are changed in place. Returns the last loss."""
        if self._resume():
            self.log(f"resuming the fine-tuning of dictionaries at step {self.step:,}")
        saved = time.monotonic()
        wanted = self.spec.finetune_tokens
        with stage("fine-tuning", wanted, "token", self.seen) as shown:
            while self.seen < wanted:
                tokens = self._update()
                shown.advance(tokens, f"KL of all sites spliced {self.loss:.4f} on these prompts")
                if time.monotonic() - saved > SAVE_SECONDS:
                    self._save()
                    shown.saved()
                    saved = time.monotonic()
        self.dictionaries.frozen()
        return self.loss

    def _update(self) -> int:
        """One step; returns its tokens."""
        seed = self.spec.seed + _STREAM
        batch = self.prompts.training_batch(self.objective, PROMPTS, self.step, seed)
        device = self.model.embedding.device
        tokens = torch.from_numpy(batch.tokens).to(device)
        lengths = torch.from_numpy(batch.lengths).to(device)
        rows = torch.arange(tokens.shape[1], device=device) < lengths[:, None]
        loss = self._loss(tokens, lengths, rows)
        if not math.isfinite(self.loss):
            raise HarnessError(
                f"fine-tuning of dictionaries diverged at step {self.step} (loss {self.loss}); "
                "lower training.finetune_learning_rate"
            )
        self.optimiser.zero_grad()
        loss.backward()
        for group in self.optimiser.param_groups:
            group["lr"] = self._rate()
        self.optimiser.step()
        for one in self.dictionaries.values():
            one.renormalise()
        count = int(rows.sum())
        self.step += 1
        self.seen += count
        return count

    def _loss(self, tokens: Tensor, lengths: Tensor, rows: Tensor) -> Tensor:
        """What is minimised on prompts [B, T], whose tokens are at `rows`; notes the first KL."""
        spec, half = self.spec, self.spec.precision == "bfloat16"
        held: dict[str, Tensor] = {}
        decoded: dict[str, Tensor] = {}
        sites = self.dictionaries if spec.finetune_reconstruction else ()
        watched = {site: _noted(lambda x: x, held, site) for site in sites}
        with torch.no_grad():
            plain = replaced_logits(self.model, tokens, watched, lengths, half=half)[rows]
        coded = {site: _noted(self._coded(site, rows), decoded, site) for site in self.dictionaries}
        other = replaced_logits(self.model, tokens, coded, lengths, half=half)[rows]
        loss = divergence(plain, other).mean()
        self.loss = float(loss.detach())
        if spec.finetune_sharpness > 1:
            beta = spec.finetune_sharpness
            loss = loss + divergence(beta * plain, beta * other).mean()
        if held:
            missing = [_unexplained(x[rows], decoded[site][rows]) for site, x in held.items()]
            loss = loss + spec.finetune_reconstruction * torch.stack(missing).mean()
        return loss

    def _rate(self) -> float:
        """Linear warm-up, then linear decay over the tokens that are left."""
        left = max(LEAST_RATE, 1 - self.seen / self.spec.finetune_tokens)
        return self.spec.finetune_learning_rate * min(1.0, (self.step + 1) / WARMUP_STEPS) * left

    def _coded(self, site: str, rows: Tensor) -> Replace:
        """What stands in for a site's value [B, T, D]: decoded with as many features as before."""
        one = self.dictionaries[site]

        def through(x: Tensor) -> Tensor:
            before = one.before_activation(x)
            if one.activation == "batchtopk":
                assert one.threshold is not None
                self._follow(one.threshold, before.detach()[rows], self.k_of[site])
            return one.decode(one.activate(before))

        return through

    @staticmethod
    @torch.no_grad()
    def _follow(threshold: Tensor, before: Tensor, k: int) -> None:
        """Let a threshold follow what k features of a token of a sample of [N, F] are above."""
        at = threshold_for(before[:: max(1, len(before) // SAMPLE)], k)
        threshold.mul_(MEMORY).add_((1 - MEMORY) * at)

    # ------------------------------------------------------------ checkpoints
    def _tensors(self) -> dict[str, Tensor]:
        thresholds = {
            f"{site}.threshold": one.threshold
            for site, one in self.dictionaries.items()
            if one.threshold is not None
        }
        return self.parameters | thresholds

    def _save(self) -> None:
        tensors = self._tensors() | moments(self.optimiser, self.parameters)
        note = {"step": self.step, "seen": self.seen, "loss": self.loss}
        save_state(tensors, note, self.checkpoint, self.purpose)

    def _resume(self) -> bool:
        stored = load_state(self.checkpoint, self.purpose)
        if stored is None:
            return False
        tensors, note = stored
        with torch.no_grad():
            for name, value in self._tensors().items():
                value.copy_(tensors[name])
            take_up(self.optimiser, self.parameters, tensors, note["step"])
        self.step, self.seen, self.loss = note["step"], note["seen"], note["loss"]
        return True


def _noted(function: Replace, values: dict[str, Tensor], site: str) -> Replace:
    """The same function, which leaves what it returned among the values."""

    def noting(x: Tensor) -> Tensor:
        values[site] = function(x)
        return values[site]

    return noting


def _unexplained(x: Tensor, decoded: Tensor) -> Tensor:
    """Σ ‖decoded − x‖² / Σ ‖x − mean x‖² of activations [N, D]."""
    wide = x.float()
    variance = (wide - wide.mean(0)).square().sum()
    tiny = torch.finfo(variance.dtype).tiny
    return (decoded.float() - wide).square().sum() / variance.clamp(min=tiny)
