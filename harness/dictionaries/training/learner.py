"""One dictionary while it is trained: its loss and gradients, its unit rows, its dead features.

Activations are scaled so that what is left of them without their mean has mean squared norm 1 in
each coordinate, and the scale is taken back out of the weights at the end: a dictionary of x·s with
biases b is one of x with b/s. With B activations x, code c and decoded x̂:

    loss = Σ (x̂ − x)² / (B·D)  +  price · Σ c / (B·√D)            (relu_l1)
                               +  price · Σ [c > 0] / (B·D)       (jumprelu)

Gradients are written out, which needs no graph and five matrix products: 10·B·D·F operations.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from harness.dictionaries.dictionary import Dictionary
from harness.spec.types import DictionaryForm

BANDWIDTH = 0.03
"""Of the rectangle that stands for the derivative of a jumprelu's threshold, after scaling."""

FIRST_THRESHOLD = 0.03
SAMPLE = 128
"""Activations that a batch's threshold is taken from."""

MEMORY = 0.99
"""Of the running mean that becomes the threshold of `batchtopk`."""


def threshold_for(before: Tensor, k: int) -> Tensor:
    """What k features a token on average are above, of [N, F] before the activation; at least 0."""
    sample = before.float().flatten()
    rank = sample.numel() - len(before) * k
    return sample.kthvalue(max(1, rank)).values.clamp(min=0)


def _where_positive(values: Tensor, condition: Tensor) -> Tensor:
    """Values where another tensor is above 0, else 0; four times as fast as a comparison."""
    kept: Tensor = torch.ops.aten.threshold_backward(values, condition, 0)
    return kept


class DictionaryLearner:
    """A dictionary in training. `k`: active features a token, of `topk` and `batchtopk`."""

    def __init__(
        self, dictionary: Dictionary, form: DictionaryForm, k: int, dtype: torch.dtype
    ) -> None:
        self.dictionary, self.form, self.k, self.dtype = dictionary, form, k, dtype
        device = dictionary.decoder.device
        self.scale = torch.ones((), device=device)
        self.fired = torch.zeros(dictionary.features, dtype=torch.bool, device=device)
        self.seen = torch.zeros((), dtype=torch.bool)  # whether the threshold is any batch's
        self.log_threshold: Tensor | None = None
        if form.activation == "jumprelu":
            first = dictionary.encoder_bias.new_full((dictionary.features,), FIRST_THRESHOLD)
            self.log_threshold = torch.nn.Parameter(first.log())

    # ------------------------------------------------------------ start and end
    @torch.no_grad()
    def start(self, x: Tensor) -> None:
        """Take scale and decoder bias from the first activations [N, D]."""
        mean = x.mean(0)
        spread = (x - mean).square().sum(1).mean().sqrt()
        self.scale.copy_(math.sqrt(x.shape[1]) / spread.clamp(min=1e-12))
        self.dictionary.decoder_bias.copy_(mean * self.scale)
        self.dictionary.encoder.mul_(0.5)

    @torch.no_grad()
    def finished(self) -> Dictionary:
        """The dictionary for activations as they are, not scaled."""
        ours, form = self.dictionary, self.form
        k = self.k if form.activation == "topk" else None
        out = Dictionary(ours.width, ours.features, form.activation, k=k, pre_bias=form.pre_bias)
        out = out.to(ours.decoder)
        out.decoder.copy_(ours.decoder)
        out.encoder.copy_(ours.encoder)
        out.encoder_bias.copy_(ours.encoder_bias / self.scale)
        out.decoder_bias.copy_(ours.decoder_bias / self.scale)
        if out.threshold is not None:
            threshold = self._threshold()
            assert threshold is not None
            out.threshold.copy_(threshold.clamp(min=0) / self.scale)
        return out.requires_grad_(False)

    def _threshold(self) -> Tensor | None:
        if self.log_threshold is not None:
            return self.log_threshold.detach().exp()
        return self.dictionary.threshold

    # ------------------------------------------------------------ one step
    @torch.no_grad()
    def backward(self, x: Tensor) -> Tensor:
        """Set the gradients of all weights for activations [B, D]; returns the loss."""
        ours = self.dictionary
        size, width = x.shape
        x = x * self.scale
        centred = (x - ours.decoder_bias if ours.pre_bias else x).to(self.dtype)
        encoder, decoder = ours.encoder.to(self.dtype), ours.decoder.to(self.dtype)
        before = torch.addmm(ours.encoder_bias.to(self.dtype), centred, encoder.T)
        code = self._code(before)
        error = torch.addmm(ours.decoder_bias.to(self.dtype), code, decoder).to(x) - x
        loss = error.square().sum() / (size * width)
        error.mul_(2 / (size * width))
        rounded = error.to(self.dtype)
        ours.decoder.grad = (code.T @ rounded).to(x)
        ours.decoder_bias.grad = error.sum(0)
        towards_code = rounded @ decoder.T
        if self.form.activation == "relu_l1":
            price = self.form.price / (size * math.sqrt(width))
            loss += price * code.sum(dtype=x.dtype)
            towards_code += price
        if self.log_threshold is not None:
            loss += self._thresholds(before, code, towards_code, size * width)
        towards_before = _where_positive(towards_code, code)
        ours.encoder.grad = (towards_before.T @ centred).to(x)
        ours.encoder_bias.grad = towards_before.sum(0, dtype=x.dtype)
        if ours.pre_bias:
            ours.decoder_bias.grad -= ours.encoder_bias.grad @ ours.encoder
        # What is in no code of the batch has a gradient of exactly 0.
        self.fired |= ours.encoder_bias.grad != 0
        along = (ours.decoder.grad * ours.decoder).sum(1, keepdim=True)
        ours.decoder.grad.addcmul_(along, ours.decoder, value=-1)
        return loss

    def _code(self, before: Tensor) -> Tensor:
        """The code as the training has it: `batchtopk` by the threshold of this batch."""
        if self.log_threshold is not None:
            return _where_positive(before, before - self.log_threshold.exp().to(before))
        if self.form.activation != "batchtopk":
            return self.dictionary.activate(before)
        threshold = threshold_for(before[:SAMPLE], self.k)
        running = self.dictionary.threshold
        assert running is not None
        if bool(self.seen):
            running.mul_(MEMORY).add_((1 - MEMORY) * threshold)
        else:  # a mean that starts at 0 would leave hundreds of features active for long
            running.fill_(threshold)
            self.seen.fill_(True)
        return torch.nn.functional.threshold(before, float(threshold), 0.0)

    def _thresholds(self, before: Tensor, code: Tensor, gradient: Tensor, numbers: int) -> Tensor:
        """Set the gradient of jumprelu's log thresholds; returns what their price adds."""
        assert self.log_threshold is not None
        threshold = self.log_threshold.exp()
        inside = BANDWIDTH / 2 - (before.to(threshold) - threshold).abs_()
        price = self.form.price / numbers
        pull = _where_positive(gradient.to(threshold), inside).sum(0)
        near = _where_positive(threshold.new_ones(()).expand_as(inside), inside).sum(0)
        by_threshold = -(threshold * pull + price * near)
        self.log_threshold.grad = by_threshold / BANDWIDTH * threshold
        return price * code.sign().sum(dtype=threshold.dtype)

    def renormalise(self) -> None:
        """Give the decoder's rows length 1 again, after a step."""
        self.dictionary.renormalise()

    # ------------------------------------------------------------ dead features
    @torch.no_grad()
    def resample(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Move features that did not fire to activations [N, D] that are badly decoded.

        Each is drawn by its squared error, as Bricken et al. (2023) do; the feature decodes that
        error, and its encoder is a fifth of the mean length of others. Returns which they are.
        """
        ours = self.dictionary
        dead = (~self.fired).nonzero().flatten()
        self.fired.zero_()
        if len(dead) == 0 or len(dead) == ours.features:
            return dead[:0]
        x = x * self.scale
        error = x - ours.decode(self._resting(x))
        weights = error.square().sum(1).double().cpu()
        if not bool(weights.sum() > 0):
            return dead[:0]
        many = len(dead) > int((weights > 0).sum())
        picked = torch.multinomial(weights, len(dead), replacement=many, generator=generator)
        rows = error[picked.to(error.device)]
        rows = rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-12)
        ours.decoder[dead] = rows
        ours.encoder[dead] = 0.2 * ours.encoder.norm(dim=1).mean() * rows
        ours.encoder_bias[dead] = 0
        if self.log_threshold is not None:
            self.log_threshold[dead] = math.log(FIRST_THRESHOLD)
        return dead

    def _resting(self, x: Tensor) -> Tensor:
        """The code without a batch's own threshold."""
        before = self.dictionary.before_activation(x)
        if self.log_threshold is not None:
            return torch.where(before > self.log_threshold.exp(), before, 0)
        return self.dictionary.activate(before)

    # ------------------------------------------------------------ what a checkpoint holds
    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """All that the optimiser changes, by name."""
        named = dict(self.dictionary.named_parameters())
        if isinstance(self.log_threshold, torch.nn.Parameter):
            named["log_threshold"] = self.log_threshold
        return named

    def state(self) -> dict[str, Tensor]:
        """All tensors that the next step depends on, but the optimiser's."""
        extra = {"scale": self.scale, "fired": self.fired, "seen": self.seen}
        if self.dictionary.threshold is not None:
            extra["threshold"] = self.dictionary.threshold
        return {**self.parameters(), **extra}
