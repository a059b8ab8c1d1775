"""How well a model answers the clean prompts of prompt pairs."""

from __future__ import annotations

import torch
from torch import Tensor

from harness import ranks
from harness.datasets.batch import Batches
from harness.datasets.pairs import PromptPairs
from harness.metrics.logits import accuracy, cross_entropy, good_mass
from harness.models.fit import require_tokens
from harness.models.transformer import Transformer

EVALUATION_BATCH = 256

QUALITY = {
    "accuracy": accuracy,
    "good_mass": good_mass,
    "loss": cross_entropy,
}


@torch.no_grad()
def quality(
    model: Transformer, pairs: PromptPairs, device: str = "cpu", *, shared: bool = False
) -> dict[str, Tensor]:
    """Accuracy, probability of the correct answers and answer loss (nats) of each clean prompt.

    One float64 [n] per name in `QUALITY`, in the order of the pairs. `shared`: each of several
    processes runs its share, and all have all values; else every one runs all pairs. Raises
    `HarnessError` for tokens that the model does not know.
    """
    require_tokens(model.config, pairs)
    values = {name: torch.zeros(len(pairs), dtype=torch.float64) for name in QUALITY}
    for every in Batches(pairs, EVALUATION_BATCH, device):
        batch = ranks.own(every) if shared else every
        logits = model.unembed(batch.at_positions(model.stream(batch.clean)), batch.read_tokens())
        if shared and not ranks.has_rows(len(every)):
            continue
        for name, measure in QUALITY.items():
            values[name][batch.rows.cpu()] = measure(logits, batch).double().cpu()
    return {name: ranks.summed(x) for name, x in values.items()} if shared else values
