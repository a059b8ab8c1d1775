"""Training a sparse model coupled to a frozen dense one through a bridge (Gao et al. 2025, 2.3).

To the sparse model's own loss are added, with h the streams, f the encoders, g the decoders and y
the dense model's answers, each a mean over points i and tokens:
    nmse_encode   NMSE(f_i(h_dense_i), h_sparse_i)
    nmse_decode   NMSE(g_i(h_sparse_i), h_dense_i)
    kl_encode     KL(y ‖ sparse model run on from f_i(h_dense_i))
    kl_decode     KL(y ‖ dense model run on from g_i(h_sparse_i))
NMSE is the mean squared error over the target's variance around its mean over tokens. The last two
are single switches between the models; the paper takes them for all mixtures. It gives no
coefficients and no normaliser, and sums over points.

Cost of a step: 2·(2L+1) runs of the rest of a model, on average half of it each.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from harness.bridges.bridge import Bridge, logits_from, points_of, streams
from harness.datasets.pairs import TrainingBatch
from harness.errors import HarnessError
from harness.models.checkpoint import SAVE_SECONDS, load_state, save_state
from harness.models.config import TransformerConfig
from harness.models.training.adam import MOMENTS
from harness.models.training.data import HeldOut, TrainingData
from harness.models.training.optimiser import Optimiser
from harness.models.training.schedule import learning_rate
from harness.models.training.trainer import training_loss
from harness.models.transformer import Transformer, random_model
from harness.progress import stage
from harness.spec.types import Sparsity, Training

BRIDGE_RATE = 3e-3
"""Learning rate of encoders and decoders, at the peak of the schedule."""

_OTHER = 0x627267
"""Keeps the batch that terms are measured on apart from those of the training."""


class Terms(NamedTuple):
    """The four couplings, each a mean over points."""

    nmse_encode: Tensor
    nmse_decode: Tensor
    kl_encode: Tensor
    kl_decode: Tensor


@dataclass(frozen=True)
class Prices:
    """What the terms cost beside the sparse model's own loss."""

    nmse: float = 1.0
    kl: float = 1.0


@dataclass(frozen=True)
class Coupled:
    """A sparse model, its bridge to a dense one, and the log of both's training.

    An entry of `history` has the step, the training loss, what held-out data measures, and the four
    terms on one batch.
    """

    model: Transformer
    bridge: Bridge
    history: list[dict[str, Any]] = field(default_factory=list)


def coupling(
    dense: Transformer, sparse: Transformer, bridge: Bridge, tokens: Tensor, rows: Tensor
) -> Terms:
    """The four terms on tokens [B, T] of which `rows` bool [B, T] are real."""
    with torch.no_grad():
        theirs = streams(dense, tokens)
        answers = dense.unembed(theirs[-1], tokens)[rows].log_softmax(-1)
    terms: list[list[Tensor]] = [[], [], [], []]
    for point, (h, s) in enumerate(zip(theirs, streams(sparse, tokens), strict=True)):
        encoded, decoded = bridge.encode(point, h), bridge.decode(point, s)
        terms[0].append(nmse(encoded[rows], s[rows]))
        terms[1].append(nmse(decoded[rows], h[rows]))
        for place, model, x in ((2, sparse, encoded), (3, dense, decoded)):
            logits = logits_from(model, x, point, tokens)[rows]
            terms[place].append(_kl(answers, logits))
    return Terms(*(torch.stack(one).mean() for one in terms))


def nmse(x: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of x [n, D] over the target's variance around its mean over n."""
    spread = (target - target.mean(0)).detach().square().mean()
    return (x - target).square().mean() / spread.clamp(min=1e-12)


def _kl(log_p: Tensor, logits: Tensor) -> Tensor:
    """KL(p ‖ softmax of logits [n, V]) in nats, the mean over n."""
    return (log_p.exp() * (log_p - logits.log_softmax(-1))).sum(-1).mean()


def train_coupled(
    dense: Transformer,
    config: TransformerConfig,
    spec: Training,
    sparsity: Sparsity | None,
    data: TrainingData,
    held_out: HeldOut,
    log: Callable[[str], None],
    prices: Prices | None = None,
    checkpoint: CoupledCheckpoint | None = None,
) -> Coupled:
    """Train a sparse model of `config` by `spec`, with a bridge to the frozen `dense` model.

    `seed` of the spec decides all; with a `checkpoint` a training that was stopped resumes, and
    ends with the same weights. Raises `HarnessError` for models that no bridge fits, and for a
    training that diverges.
    """
    prices = prices or Prices()
    device = dense.embedding.device
    sparse = random_model(config, spec.seed, scale=spec.initial_scale).to(device)
    bridge = Bridge(dense.config, config)
    bridge.initialise(torch.Generator().manual_seed(spec.seed))
    bridge.to(device)
    of_model, of_bridge = Optimiser(sparse, spec, sparsity), torch.optim.Adam(bridge.parameters())
    log(
        f"a bridge of {points_of(config)} points, {config.d_model} channels of which "
        f"{bridge.kept} are kept"
    )
    coupled = Coupled(sparse, bridge)
    fixed = data.training_batch(spec.objective, spec.batch_size, 0, spec.seed + _OTHER)
    state = _State(coupled, of_model, of_bridge)
    if first := 0 if checkpoint is None else state.restore(checkpoint):
        log(f"resuming training at step {first}")
    saved = time.monotonic()
    with stage("training", spec.steps, "step", first) as shown:
        for step in range(first, spec.steps):
            batch = data.training_batch(spec.objective, spec.batch_size, step, spec.seed)
            own = training_loss(sparse, batch, device.type)
            terms = coupling(dense, sparse, bridge, *_tokens(batch, device))
            total = own + prices.nmse * (terms.nmse_encode + terms.nmse_decode)
            total = total + prices.kl * (terms.kl_encode + terms.kl_decode)
            of_model.clear()
            of_bridge.zero_grad(set_to_none=True)
            total.backward()
            for group in of_bridge.param_groups:
                group["lr"] = BRIDGE_RATE * learning_rate(spec, step) / spec.learning_rate
            torch.nn.utils.clip_grad_norm_(bridge.parameters(), 1.0)
            of_model.update(step)
            of_bridge.step()
            shown.advance()
            if (step + 1) % spec.evaluate_every == 0 or step + 1 == spec.steps or step == 0:
                _note(coupled, dense, step + 1, own, fixed, held_out)
                shown.advance(0, _said(coupled.history[-1]))
            if checkpoint is not None and time.monotonic() - saved >= checkpoint.seconds:
                state.save(checkpoint, step + 1)
                shown.saved()
                saved = time.monotonic()
    sparse.requires_grad_(False).eval()
    bridge.requires_grad_(False)
    return coupled


# ---------------------------------------------------------------- checkpoints
@dataclass(frozen=True)
class CoupledCheckpoint:
    """Where a training is saved every so many seconds, and what it is for (plain JSON data)."""

    path: Path
    purpose: Mapping[str, Any]
    seconds: float = SAVE_SECONDS


@dataclass(frozen=True)
class _State:
    """All that moves in a training: both sets of weights, and the moments of both optimisers."""

    coupled: Coupled
    of_model: Optimiser
    of_bridge: torch.optim.Adam

    def save(self, checkpoint: CoupledCheckpoint, step: int) -> None:
        tensors: dict[str, Tensor] = dict(self.coupled.model.named_parameters(prefix="model"))
        tensors |= {f"model_{name}": x for name, x in self.of_model.state().items()}
        for name, weight in self.coupled.bridge.named_parameters():
            tensors[f"bridge.{name}"] = weight
            for moment in MOMENTS:
                tensors[f"bridge_{moment}.{name}"] = self.of_bridge.state[weight][moment]
        note = {"step": step, "history": self.coupled.history}
        save_state(tensors, note, checkpoint.path, checkpoint.purpose)

    @torch.no_grad()
    def restore(self, checkpoint: CoupledCheckpoint) -> int:
        """The step to go on with; 0 without a checkpoint for this purpose."""
        stored = load_state(checkpoint.path, checkpoint.purpose)
        if stored is None:
            return 0
        tensors, note = stored
        step: int = note["step"]
        for name, weight in self.coupled.model.named_parameters():
            weight.copy_(tensors[f"model.{name}"])
        of_model = {
            name.removeprefix("model_"): x
            for name, x in tensors.items()
            if name.startswith("model_")
        }
        self.of_model.restore(of_model, step)
        for name, weight in self.coupled.bridge.named_parameters():
            weight.copy_(tensors[f"bridge.{name}"])
            moments = {one: tensors[f"bridge_{one}.{name}"].to(weight) for one in MOMENTS}
            count = torch.tensor(float(step))
            self.of_bridge.state[weight] = {"step": count, **moments}
        self.coupled.history.extend(note["history"])
        return step


@torch.no_grad()
def _note(
    coupled: Coupled,
    dense: Transformer,
    step: int,
    own: Tensor,
    fixed: TrainingBatch,
    held_out: HeldOut,
) -> None:
    device = dense.embedding.device
    terms = coupling(dense, coupled.model, coupled.bridge, *_tokens(fixed, device))
    values = {name: float(one) for name, one in terms._asdict().items()}
    if not all(torch.isfinite(one) for one in (*terms, own)):
        raise HarnessError(
            f"training diverged at step {step}: {values}; lower training.learning_rate"
        )
    measured = held_out.measure(coupled.model, device.type)
    coupled.history.append({"step": step, "training_loss": float(own), **measured, **values})


def _tokens(batch: TrainingBatch, device: torch.device) -> tuple[Tensor, Tensor]:
    """The tokens [B, T] of a batch, and which of them are real."""
    tokens = torch.from_numpy(batch.tokens).to(device)
    lengths = torch.from_numpy(batch.lengths).to(device)
    return tokens, torch.arange(tokens.shape[1], device=device) < lengths[:, None]


def _said(entry: dict[str, Any]) -> str:
    return ", ".join(f"{name} {entry[name]:.3f}" for name in ("training_loss", *Terms._fields))
