"""Train the one transformer: the loop, its evaluations, early stop and checkpoints.

Everything random is drawn from generators seeded by the spec: weights from `seed`, the batch of
step s from (seed, s). A training that was killed therefore resumes from its last checkpoint and
ends with the same weights.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.datasets.pairs import TrainingBatch
from harness.errors import HarnessError
from harness.models.checkpoint import load_state, save_state
from harness.models.config import TransformerConfig
from harness.models.training.counts import dead_neurons, nonzeros
from harness.models.training.data import HeldOut, TrainingData
from harness.models.training.optimiser import Optimiser
from harness.models.transformer import Transformer, random_model
from harness.progress import Stage, stage
from harness.spec.key import at_default, spec_fields
from harness.spec.types import Sparsity, Training

CHECKPOINT_SECONDS = 15.0

Log = Callable[[str], None]
Precision = Literal["float32", "bfloat16"]
Entry = dict[str, Any]
"""An evaluation: `step`, `training_loss`, what the held-out data measures (with its `entropy` also
`excess`, the loss above it), and of a sparse model `nonzeros` in all, of its `tensors` and its
`dead_neurons`."""


def training_loss(
    model: Transformer,
    batch: TrainingBatch,
    device: str = "cpu",
    precision: Precision = "float32",
) -> Tensor:
    """Mean cross-entropy (nats) over the trained positions; only these are unembedded.

    `precision`: that of the products in a float32 model's blocks. Logits are always the model's.
    """
    tokens = torch.from_numpy(batch.tokens).to(device)
    targets = torch.from_numpy(batch.targets).to(device)
    lengths = torch.from_numpy(batch.lengths).to(device)
    rows = targets >= 0
    half = precision == "bfloat16"
    with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=half):
        stream = model.stream(tokens, lengths)
    logits = model.unembed(stream[rows], tokens[rows])
    if batch.allowed is None:
        return F.cross_entropy(logits, targets[rows])
    allowed = torch.from_numpy(batch.allowed).to(device)[rows]
    weights = allowed / allowed.sum(-1, keepdim=True)
    return -(weights * logits.log_softmax(-1)).sum(-1).mean()


class Trainer:
    """One training, which can be interrupted at any moment and resumed."""

    def __init__(
        self,
        config: TransformerConfig,
        spec: Training,
        data: TrainingData,
        held_out: HeldOut,
        *,
        scratch: Path,
        log: Log,
        sparsity: Sparsity | None = None,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.config, self.spec, self.data, self.held_out = config, spec, data, held_out
        self.sparsity, self.device, self.dtype, self.log = sparsity, device, dtype, log
        self.checkpoint = scratch / "training.safetensors"
        self.model = random_model(config, spec.seed, scale=spec.initial_scale).to(device, dtype)
        self.optimiser = Optimiser(self.model, spec, sparsity)
        self.step = 0
        self.history: list[Entry] = []

    # ------------------------------------------------------------ the loop
    def run(self) -> tuple[Transformer, list[Entry]]:
        """Train to the target or the last step, resuming from a checkpoint if there is one.

        Returns the model, frozen and in evaluation mode, and one entry per evaluation.
        """
        if self._resume():
            self.log(f"resuming training at step {self.step}")
        elif text := self.optimiser.reserved():
            self.log(text)
        saved = time.monotonic()
        seen, started = 0, time.monotonic()
        with stage("training", self.spec.steps, "step", self.step) as shown:
            while self.step < self.spec.steps and not self._reached():
                batch = self.data.training_batch(
                    self.spec.objective, self.spec.batch_size, self.step, self.spec.seed
                )
                loss = self._update(batch)
                self.step += 1
                seen += int(batch.lengths.sum())
                shown.advance()
                if self.step % self.spec.evaluate_every == 0 or self.step == self.spec.steps:
                    speed = seen / (time.monotonic() - started)
                    self._evaluate(loss, speed, shown)
                if time.monotonic() - saved > CHECKPOINT_SECONDS:
                    self._check(float(loss))  # never checkpoint a diverged training
                    self._save()
                    shown.saved()
                    saved = time.monotonic()
        return self.model.requires_grad_(False).eval(), self.history

    def _update(self, batch: TrainingBatch) -> Tensor:
        loss = training_loss(self.model, batch, self.device, self.spec.precision)
        self.optimiser.clear()
        loss.backward()
        self.optimiser.update(self.step)
        return loss.detach()

    def _evaluate(self, loss: Tensor, speed: float, shown: Stage) -> None:
        entry: Entry = {"step": self.step, "training_loss": float(loss)}
        self._check(entry["training_loss"])
        entry |= self.held_out.measure(self.model, self.device)
        if "entropy" in entry:
            entry["excess"] = entry["loss"] - entry["entropy"]
        if self.sparsity is not None:
            tensors = nonzeros(self.model, self.optimiser.budgets)
            entry |= {"nonzeros": sum(tensors.values()), "tensors": tensors}
            entry["dead_neurons"] = dead_neurons(self.model)
        self.history.append(entry)
        shown.advance(
            0,
            f"loss {entry['training_loss']:.4f}, held-out {_judged(entry)}, {speed:,.0f} tokens/s",
        )

    def _check(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise HarnessError(
                f"training diverged at step {self.step} (loss {loss}); lower "
                "training.learning_rate or training.clip, or warm up longer"
            )

    def _reached(self) -> bool:
        target = self.spec.target
        if target is None or not self.history or not self.optimiser.is_final(self.step):
            return False
        last: float | None = self.history[-1].get(target.metric)
        if last is None:
            raise HarnessError(
                f"training.target is an {target.metric}, and what is held out has no answers; "
                "give a loss"
            )
        return last >= target.value if target.metric == "accuracy" else last <= target.value

    # ------------------------------------------------------------ checkpoints
    @cached_property
    def _purpose(self) -> dict[str, Any]:
        """What a training must share with the one that wrote a checkpoint, to resume from it."""
        first = self.data.training_batch(
            self.spec.objective, self.spec.batch_size, 0, self.spec.seed
        )
        return {
            "config": _config_of(self.config),
            "spec": _training_of(self.spec),
            "first_batch": sha256(first.tokens.tobytes() + first.targets.tobytes()).hexdigest(),
            "validation": self.held_out.digest(),
            "dtype": str(self.dtype),
            "torch": torch.__version__,
            **({} if self.sparsity is None else {"sparsity": asdict(self.sparsity)}),
        }

    def _save(self) -> None:
        weights = {f"model.{name}": weight for name, weight in self.model.named_parameters()}
        tensors = weights | self.optimiser.state()
        note = {"step": self.step, "history": self.history}
        save_state(tensors, note, self.checkpoint, self._purpose)

    def _resume(self) -> bool:
        stored = load_state(self.checkpoint, self._purpose)
        if stored is None:
            return False
        tensors, state = stored
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(tensors[f"model.{name}"])
        self.optimiser.restore(tensors, state["step"])
        self.step, self.history = state["step"], state["history"]
        return True


_YOUNGER_CONFIG = ("attention_sink", "bigram_table", "activation_sparsity")
"""Fields of a configuration that older checkpoints do not have."""


def _config_of(config: TransformerConfig) -> dict[str, Any]:
    """A configuration as checkpoints hold it: younger fields only where they are set."""
    held = config.to_dict()
    return {name: held[name] for name in held if name not in _YOUNGER_CONFIG or held[name]}


def _training_of(spec: Training) -> dict[str, Any]:
    """A training as checkpoints hold it: a younger key only where it is not at its default."""
    held, keys = asdict(spec), spec_fields(Training)
    return {name: held[name] for name in held if not at_default(keys[name], getattr(spec, name))}


def _judged(entry: Entry) -> str:
    """What an evaluation says of held-out data, and of a sparse model's weights."""
    name = "accuracy" if "accuracy" in entry else "loss"
    parts = [f"{name} {entry[name]:.4f}"]
    parts += [f"{entry['excess']:.4f} above the entropy"] if "excess" in entry else []
    if "nonzeros" in entry:
        parts.append(f"{entry['nonzeros']:,} weights, {entry['dead_neurons']:,} dead neurons")
    return ", ".join(parts)
