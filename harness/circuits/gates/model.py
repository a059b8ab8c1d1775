"""A model with gates at sites: each element passes, is replaced by a constant, or is mixed.

Shapes: S masks, E elements, B prompts, T tokens, P read positions, V outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from harness.circuits.background import Background, prompts_of, required
from harness.circuits.baseline import Baseline
from harness.circuits.gates.codes import Code, Coded
from harness.circuits.gates.counterfactuals import (
    Activated,
    Codes,
    GatedCounterfactuals,
    activated,
    means,
)
from harness.circuits.gates.space import GatedSpace, Gates
from harness.circuits.patchable import TRAINING_MEANS
from harness.datasets.batch import Batch
from harness.errors import HarnessError
from harness.models.sites import Tap, sites, tapped_run
from harness.models.transformer import Block, Transformer
from harness.spec.types import Evaluation


@dataclass(frozen=True)
class GatedModel:
    """A frozen model whose sites `codes` are gated; implements `PatchableModel`.

    `codes` has a code for each of `space.gates`, in that order. `background` gives means over what
    the model was trained on; one of a circuit's file is used for the ablation that it is of.
    """

    model: Transformer
    space: GatedSpace
    codes: Codes
    background: Background | Baseline | None = None

    def counterfactuals(
        self, choices: Evaluation, pairs: Sequence[Batch], seed: int
    ) -> GatedCounterfactuals:
        """What dropped elements carry; means are those of the pairs, or of the background.

        Raises `HarnessError` for `mean_training` without a background.
        """
        kind = choices.ablation
        plain = GatedCounterfactuals(self.model, self.space, self.codes, kind)
        if isinstance(self.background, Baseline) and self.background.ablation == kind:
            return replace(plain, baseline=self._fitting(self.background))
        if kind == TRAINING_MEANS:
            return replace(plain, baseline=self._of_training())
        if kind in ("mean", "mean_positional"):
            prompts = ((batch.clean, None) for batch in pairs)
            values = means(self.model, self.codes, prompts, positional=kind == "mean_positional")
            over = {"prompts": str(sum(len(batch) for batch in pairs)), "of": "discovery pairs"}
            return replace(plain, baseline=Baseline(kind, values, over))
        return plain

    def _fitting(self, baseline: Baseline) -> Baseline:
        """The constants of a file. Raises `HarnessError` if they are those of another space."""
        if baseline.values.shape[-1] != self.space.constants:
            raise HarnessError(
                f"the circuit has {baseline.values.shape[-1]} constants for dropped elements, and "
                f"{self.space} need {self.space.constants}: it is a circuit of another model, or "
                "was found with another `granularity` or `component`"
            )
        return baseline

    def _of_training(self) -> Baseline:
        """The means over the training data."""
        background = required(self.background)
        values = means(self.model, self.codes, prompts_of(background, self.model.embedding.device))
        return Baseline(TRAINING_MEANS, values, background.described())

    @property
    def rebuilt(self) -> bool:
        """Whether what no element carries is always replaced at some site."""
        return any(one.rest == "dropped" for one in self.space.gates)

    # ------------------------------------------------------------ passes
    @torch.no_grad()
    def logits(self, batch: Batch, masks: Tensor, counterfactual: Activated) -> Tensor:
        """Logits [S, B, P, V] under masks [S, E]; all is run once up to where masks differ."""
        return self._run(batch, masks, counterfactual)

    def masked_logits(
        self, batch: Batch, masks: Tensor, counterfactual: Activated, *, exact_zeros: bool = False
    ) -> Tensor:
        """The same with gradients with respect to masks [S, E]."""
        return self._run(batch, masks, counterfactual)

    def _run(self, batch: Batch, masks: Tensor, counterfactual: Activated) -> Tensor:
        tap = self._tap(masks, counterfactual)
        read = batch.at_positions(tapped_run(self.model, batch.clean, tap))
        logits = self.model.to_logits(read, batch.read_tokens())
        return logits if logits.ndim == 4 else logits.expand(len(masks), *logits.shape)

    def _tap(self, masks: Tensor, counterfactual: Activated) -> Tap:
        """Gates every site by masks [S, E]."""
        gates = {
            site: _Gate(one, code, mask, coded)
            for (site, code), one, mask, coded in zip(
                self.codes.items(),
                self.space.gates,
                self.space.split(masks).values(),
                counterfactual.sites,
                strict=True,
            )
        }

        def tap(site: str, value: Tensor) -> Tensor:
            return gates[site].gated(value) if site in gates else value

        return tap

    @torch.no_grad()
    def differing(self, batch: Batch, counterfactual: Activated) -> Tensor:
        """Elements that differ from their counterfactual where all are kept: bool [E].

        At some token of some prompt. Inactive features do not, under zero ablation.
        """
        full = torch.ones(1, len(self.space), dtype=torch.bool, device=batch.clean.device)
        tap = self._tap(full, counterfactual)
        run = activated(self.model, self.codes, batch.clean, tap=tap)
        parts = []
        for one, values, instead in zip(
            self.space.gates, run.sites, counterfactual.sites, strict=True
        ):
            parts.append((values.elements != instead.elements).flatten(0, -2).any(0))
            if one.rest == "element" and values.rest is not None and instead.rest is not None:
                parts.append(torch.ne(values.rest, instead.rest).any()[None])
        return torch.cat(parts)

    @torch.no_grad()
    def activations(self, batch: Batch, mask: Tensor, counterfactual: Activated) -> Tensor:
        """What each element carries in the run under one mask [E], before its gate: [B, T, E].

        A rest that is an element stands as its norm.
        """
        run = activated(
            self.model, self.codes, batch.clean, tap=self._tap(mask[None], counterfactual)
        )
        parts = []
        for one, (elements, rest) in zip(self.space.gates, run.sites, strict=True):
            parts.append(elements)
            if one.rest == "element" and rest is not None:
                parts.append(rest.norm(dim=-1, keepdim=True))
        return torch.cat(parts, -1)

    @torch.no_grad()
    def patterns(self, batch: Batch, mask: Tensor, counterfactual: Activated) -> list[Tensor]:
        """What each token attends to in the run under one mask [E]: by layer, [B, H, T, T + 1].

        The last place is the attention sink's share, 0 without one.
        """
        gate, reads = self._tap(mask[None], counterfactual), dict[str, Tensor]()

        def tap(site: str, value: Tensor) -> Tensor:
            value = gate(site, value)
            if site.partition(".")[2] in ("q", "k"):
                reads[site] = value
            return value

        tapped_run(self.model, batch.clean, tap)
        shape = (*batch.clean.shape, -1, self.model.config.d_head)
        layers = []
        for block in self.model.layers():
            q, k = (
                reads[f"a{block.layer}.{one}"].expand(*batch.clean.shape, -1).view(shape)
                for one in "qk"
            )
            layers.append(_pattern(block, q.transpose(1, 2), k.transpose(1, 2)))
        return layers

    # ------------------------------------------------------------ memory
    @cached_property
    def _numbers_of_a_token(self) -> int:
        values = 2 * sum(site.width for site in sites(self.model.config))
        coded = [one for one in self.space.gates if one.rest != "none"]
        return values + sum(3 * one.size + 2 * one.width for one in coded)

    def numbers(self, tokens: int) -> int:
        """The value of every site before and after its gate, and what dictionaries code.

        Of a code: before its activation, after it, and gated; beside it what is decoded, and the
        rest.
        """
        return self._numbers_of_a_token * tokens

    def counterfactual_numbers(self, tokens: int) -> int:
        """Every gated activation of a run on so many tokens."""
        return self.space.constants * tokens


def _pattern(block: Block, q: Tensor, k: Tensor) -> Tensor:
    """The pattern [B, H, T, T + 1] of queries and keys of a layer [B, H or groups, T, K].

    Attention to values that are unit vectors, d_head of them at a time: as the model attends.
    """
    length, width = q.shape[-2:]
    k, parts = block.share(k, 1), []
    for start in range(0, length, width):
        unit = torch.eye(length, width, dtype=q.dtype, device=q.device).roll(start, 0)
        unit[:start] = 0  # what was rolled over the end
        parts.append(block.attend(q, k, unit.expand_as(k).contiguous(), axis=1))
    seen = torch.cat(parts, -1)[..., :length]
    return torch.cat([seen, 1 - seen.sum(-1, keepdim=True)], -1)


class _Gate(NamedTuple):
    """One site under S masks [S, elements], bool or float."""

    gates: Gates
    code: Code
    mask: Tensor
    counterfactual: Coded

    def gated(self, x: Tensor) -> Tensor:
        """The site's value [..., B, T, width], or [S, B, T, width] from where masks differ on."""
        mask = self._shared()
        if mask is None:
            return x
        coded, (instead, rest_instead) = self.code.encode(x), self.counterfactual
        elements = mask[..., : self.gates.size]
        value = self.code.decode(_mixed(coded.elements, elements, instead))
        if coded.rest is None or self.gates.rest == "none":
            return value
        if self.gates.rest == "kept":
            return value + coded.rest
        assert rest_instead is not None
        if self.gates.rest == "dropped":
            return value + rest_instead
        return value + _mixed(coded.rest, mask[..., self.gates.size :], rest_instead)

    def _shared(self) -> Tensor | None:
        """The masks as [·] where all are equal, else [S, 1, 1, ·]; None where all is kept."""
        mask = self.mask
        if mask.requires_grad:
            return mask[0] if len(mask) == 1 else mask[:, None, None]
        if bool((mask == mask[:1]).all()):
            whole = self.gates.rest != "dropped" and bool((mask == 1).all())
            return None if whole else mask[0]
        return mask[:, None, None]


def _mixed(x: Tensor, mask: Tensor, instead: Tensor) -> Tensor:
    """x where the mask is 1, `instead` where it is 0, linear between; exact at both ends."""
    if mask.dtype == torch.bool:
        return torch.where(mask, x, instead)
    return torch.lerp(*torch.broadcast_tensors(instead, x, mask.to(x)))
