"""What dictionaries cost over whole sequences whose right next tokens are all known."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.datasets.pairs import TrainingBatch
from harness.dictionaries.dictionary import Dictionary, DictionarySet
from harness.dictionaries.splice import Replace, divergence, replaced_logits
from harness.models.training.sequences import SequenceQuality, joined, parted
from harness.models.transformer import Transformer


@dataclass(frozen=True)
class SplicedSequences:
    """The measures of `harness.metrics.sequences` of a model and through its dictionaries.

    `spliced`: with all sites replaced at once; it also has `kl` (nats) from the model.
    `change`: spliced less model, of the same sequences. `l0`: active features of a token, in the
    spliced run, on average over sites.
    """

    model: SequenceQuality
    spliced: SequenceQuality
    change: SequenceQuality
    l0: float


@torch.no_grad()
def spliced_sequences(
    model: Transformer, dictionaries: DictionarySet, batch: TrainingBatch
) -> SplicedSequences:
    """Measure on sequences with `allowed`; see `StreamData.sequences`."""
    plain, spliced, tokens = [], [], 0
    counts: list[int] = []
    for one in parted(batch, model.embedding.device.type):
        rows = torch.arange(one.tokens.shape[1], device=one.tokens.device) < one.lengths[:, None]
        replace = {site: _counted(each, rows, counts) for site, each in dictionaries.items()}
        before = model(one.tokens, one.lengths)
        after = replaced_logits(model, one.tokens, replace, one.lengths)
        kl = divergence(before, after).double().where(one.live, float("nan"))
        plain.append(one.measured(before))
        spliced.append(one.measured(after) | {"kl": kl})
        tokens += int(rows.sum())
    apart = [
        {name: other[name] - value for name, value in one.items()}
        for one, other in zip(plain, spliced, strict=True)
    ]
    l0 = sum(counts) / (tokens * len(dictionaries))
    return SplicedSequences(joined(plain), joined(spliced), joined(apart), l0)


def _counted(one: Dictionary, rows: Tensor, counts: list[int]) -> Replace:
    """What a dictionary decodes of a site's value; notes how many features of `rows` are active."""

    def replace(x: Tensor) -> Tensor:
        code = one.encode(x)
        counts.append(int((code[rows] > 0).sum()))
        return one.decode(code)

    return replace
