"""What a model is worth on held-out texts of a corpus: loss, and the entropy where it is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from statistics import fmean

import torch
import torch.nn.functional as F

from harness.datasets.batch import Batches
from harness.datasets.corpus import HeldOutWindows
from harness.datasets.pairs import PromptPairs
from harness.metrics.logits import p_correct
from harness.models.training.quality import EVALUATION_BATCH
from harness.models.transformer import Transformer

WINDOWS_AT_ONCE = 16


@dataclass(frozen=True)
class HeldOutTexts:
    """Held-out windows of each kind of text (see `HeldOut`), and `questions` about it by name."""

    parts: Sequence[HeldOutWindows]
    questions: Mapping[str, PromptPairs] = field(default_factory=dict)

    def digest(self) -> str:
        """Return the digest of all tokens and targets."""
        total = sha256()
        for part in self.parts:
            total.update(f"{part.kind} {part.share} {part.tokens.shape}".encode())
            for array in (part.tokens, part.targets):
                total.update(array.astype("<i8").tobytes())
        for name, pairs in self.questions.items():
            total.update(f"{name} {pairs.digest()}".encode())
        return total.hexdigest()

    def measure(self, model: Transformer, device: str) -> dict[str, float]:
        """Return losses in nats a token: of each kind of text, and their mean by its shares.

        `entropy` is that of the same tokens, where it is known of every kind; of one kind among
        several it is called after it. What a loss has above its entropy is the model's excess.
        `choices`: how often the good answer is likelier than the bad one, over both prompts of each
        pair: the mean of all questions, then each of them.
        """
        measured: dict[str, float] = {"loss": 0.0}
        for part in self.parts:
            loss = _loss(model, part, device)
            measured["loss"] += part.share * loss
            if len(self.parts) > 1:
                measured[f"loss_{part.kind}"] = loss
            if part.entropy is not None:
                alone = len(self.parts) == 1
                measured["entropy" if alone else f"entropy_{part.kind}"] = part.entropy
        if self.questions:
            choices = {
                name: _choices(model, pairs, device) for name, pairs in self.questions.items()
            }
            measured["choices"] = fmean(choices.values())
            measured |= {f"choices_{name}": share for name, share in choices.items()}
        return measured


@torch.no_grad()
def _choices(model: Transformer, pairs: PromptPairs, device: str) -> float:
    """Share of prompts, clean and corrupted, after which the right one of both answers wins."""
    swapped = replace(
        pairs, clean=pairs.corrupted, corrupted=pairs.clean, good=pairs.bad, bad=pairs.good
    )
    right = 0.0
    for side in (pairs, swapped):
        for batch in Batches(side, EVALUATION_BATCH, device):
            read = batch.at_positions(model.stream(batch.clean))
            odds = p_correct(model.unembed(read, batch.read_tokens()), batch)
            right += float((odds > 0.5).double().sum())
    return right / (2 * len(pairs))


@torch.no_grad()
def _loss(model: Transformer, part: HeldOutWindows, device: str) -> float:
    total = 0.0
    for start in range(0, len(part.tokens), WINDOWS_AT_ONCE):
        rows = slice(start, start + WINDOWS_AT_ONCE)
        tokens = torch.from_numpy(part.tokens[rows]).to(device)
        targets = torch.from_numpy(part.targets[rows]).to(device)
        asked = targets >= 0
        logits = model.unembed(model.stream(tokens)[asked], tokens[asked])
        total += float(F.cross_entropy(logits, targets[asked], reduction="sum").double())
    return total / int((part.targets >= 0).sum())
