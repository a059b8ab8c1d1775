"""A dictionary: what a site holds as a sparse sum of directions, and the set of a model's.

    c = act(encoder · (x − decoder_bias if pre_bias) + encoder_bias)      [..., F], never negative
    x ≈ Σ_f c_f · decoder_f + decoder_bias                                [..., D]

Rows of `decoder` have length 1, so that c says how much of each direction there is. What is
missing, x − decode(encode(x)), is the error; with it the sum is exact.
The decoder's bias is a part of the sum like any feature.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.errors import HarnessError

Activation = Literal["relu_l1", "topk", "batchtopk", "jumprelu"]
"""How a code becomes sparse. With P the value before:

    relu_l1    max(P, 0); trained with a price on Σ c
    topk       max(P, 0) of the k largest of a token
    batchtopk  P where it exceeds one threshold for all features, else 0 (Bussmann et al. 2024);
               while it trains the threshold is what leaves k a token on average
    jumprelu   P where it exceeds the feature's own threshold (Rajamanoharan et al. 2024)
"""


GROUP = 4
"""Values that `largest` first lets stand for one another."""


def largest(values: Tensor, k: int) -> Tensor:
    """Places of the k largest of the last dimension, in no order: [..., F] to [..., k].

    They lie in the k groups whose maxima are largest, so that two small selections do in place of
    one among all F, in half the time. Of equal values any is chosen.
    """
    size = values.shape[-1]
    if size % GROUP or GROUP * k > size // GROUP:  # too few groups to leave any out
        return values.topk(k, -1, sorted=False).indices
    apart = size // GROUP  # members of a group are spread over the row
    groups = values.unflatten(-1, (GROUP, apart)).amax(-2)
    best = groups.topk(k, -1, sorted=False).indices
    members = torch.cat([best + member * apart for member in range(GROUP)], -1)
    chosen = values.gather(-1, members).topk(k, -1, sorted=False).indices
    return members.gather(-1, chosen)


class Dictionary(nn.Module):
    """F directions of width D, and the code of an activation in them.

    `threshold` is [1] for `batchtopk`, [F] for `jumprelu`, and not negative. It starts at 0.
    """

    threshold: Tensor | None

    def __init__(
        self,
        width: int,
        features: int,
        activation: Activation = "batchtopk",
        *,
        k: int | None = None,
        pre_bias: bool = True,
    ) -> None:
        super().__init__()
        if activation not in get_args(Activation):
            names = ", ".join(get_args(Activation))
            raise HarnessError(f"unknown activation {activation!r} of a dictionary; known: {names}")
        if activation == "topk" and not (k and 0 < k <= features):
            raise HarnessError(
                f"a topk dictionary of {features} features needs k of 1 to {features}"
            )
        self.activation, self.k, self.pre_bias = activation, k, pre_bias
        self.decoder = nn.Parameter(torch.zeros(features, width))
        self.encoder = nn.Parameter(torch.zeros(features, width))
        self.encoder_bias = nn.Parameter(torch.zeros(features))
        self.decoder_bias = nn.Parameter(torch.zeros(width))
        thresholds = {"batchtopk": 1, "jumprelu": features}.get(activation)
        self.register_buffer("threshold", None if thresholds is None else torch.zeros(thresholds))

    @property
    def features(self) -> int:
        """F."""
        return len(self.decoder)

    @property
    def width(self) -> int:
        """D."""
        return self.decoder.shape[1]

    def before_activation(self, x: Tensor) -> Tensor:
        """What the activation is applied to: [..., D] to [..., F]."""
        centred = x - self.decoder_bias if self.pre_bias else x
        return F.linear(centred, self.encoder, self.encoder_bias)

    def encode(self, x: Tensor) -> Tensor:
        """The code [..., F] of activations [..., D]; gradients flow through what is active."""
        return self.activate(self.before_activation(x))

    def decode(self, c: Tensor) -> Tensor:
        """The sum of directions [..., D] that a code [..., F] stands for."""
        return c @ self.decoder + self.decoder_bias

    def forward(self, x: Tensor) -> Tensor:
        """The activation as the dictionary sees it: [..., D]."""
        return self.decode(self.encode(x))

    def active(self, x: Tensor) -> Tensor:
        """Which features are in the code of x: bool [..., F]. Frozen, it makes `encode` affine."""
        return self.encode(x) > 0

    def activate(self, before: Tensor) -> Tensor:
        """The code of what `before_activation` says: [..., F]."""
        if self.activation == "topk":
            assert self.k is not None
            places = largest(before.detach(), self.k)
            values = before.gather(-1, places).relu()
            return torch.zeros_like(before).scatter_(-1, places, values)
        if self.threshold is None:
            return before.relu()
        if len(self.threshold) == 1:  # one number: a kernel ten times as fast as a comparison
            return F.threshold(before, float(self.threshold), 0.0)
        return torch.where(before > self.threshold, before, 0.0)

    @torch.no_grad()
    def renormalise(self) -> None:
        """Give the decoder's rows length 1 again after a step of a training, and nothing else."""
        self.decoder.div_(self.decoder.norm(dim=1, keepdim=True).clamp(min=1e-12))

    @torch.no_grad()
    def normalise(self) -> None:
        """Give the decoder's rows length 1, without changing what the dictionary decodes.

        Everything before the activation is multiplied by the old length. Not for `topk` with
        unequal lengths, whose choice of features would change.
        """
        length = self.decoder.norm(dim=1).clamp(min=torch.finfo(self.decoder.dtype).tiny)
        self.decoder.div_(length[:, None])
        self.encoder.mul_(length[:, None])
        self.encoder_bias.mul_(length)
        if self.threshold is not None:
            self.threshold = self.threshold * length if len(self.threshold) > 1 else self.threshold


def random_dictionary(
    width: int,
    features: int,
    activation: Activation = "batchtopk",
    *,
    seed: int,
    k: int | None = None,
    pre_bias: bool = True,
) -> Dictionary:
    """A dictionary of random unit directions, each read by the encoder as it is written.

    The start of training, and the baseline that a trained dictionary is compared with.
    """
    drawn = Dictionary(width, features, activation, k=k, pre_bias=pre_bias)
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(features, width, generator=generator)
    with torch.no_grad():
        drawn.decoder.copy_(rows / rows.norm(dim=1, keepdim=True))
        drawn.encoder.copy_(drawn.decoder)
    return drawn


@dataclass(frozen=True, eq=False)
class DictionarySet(Mapping[str, Dictionary]):
    """The dictionaries of one model, by the site of `harness.models.sites` that they are of.

    `by_site`: in the order of computation. `source`: where they come from, as plain JSON data.
    """

    by_site: Mapping[str, Dictionary]
    source: Mapping[str, object] = field(default_factory=dict)

    def __getitem__(self, site: str) -> Dictionary:
        return self.by_site[site]

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_site)

    def __len__(self) -> int:
        return len(self.by_site)

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> DictionarySet:
        """The same dictionaries on a device and in a precision; these are moved, not copied."""
        for one in self.values():
            one.to(device=device, dtype=dtype)
        return self

    def frozen(self) -> DictionarySet:
        """The same dictionaries, without gradients of their weights."""
        for one in self.values():
            one.requires_grad_(False)
        return self
