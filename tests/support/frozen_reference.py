"""An independent, slow frozen run: one prompt, token by token, with Python loops over heads.

A first pass notes what every norm divides by, every attention weight, every act(z) / z, every soft
cap's share and every active feature; a second pass uses these notes on changed writes. What a part
does along all frozen paths is then the difference of two numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from harness.dictionaries.dictionary import Dictionary
from harness.models.sites import tapped_run
from harness.models.transformer import Transformer
from support.slow_reference import SlowModel, activation

Changes = Mapping[tuple[str, int], Tensor]
"""What is added to a write, by writer and token: [D]."""


class FrozenReference(SlowModel):
    """Logits, activities and centred scores of a prompt under changed writes, all else frozen."""

    def __init__(
        self, model: Transformer, tokens: Tensor, dictionaries: Mapping[str, Dictionary]
    ) -> None:
        super().__init__(model)
        self.tokens, self.dictionaries = tokens, dictionaries
        self.notes: dict[Any, Tensor] = {}
        self.own: dict[str, Tensor] = {}
        tapped_run(model, tokens[None], lambda site, x: self.own.setdefault(site, x[0])[None])
        self.plain = self.run({})

    def noted(self, key: Any, value: Tensor) -> Tensor:
        return self.notes.setdefault(key, value)

    def frozen_norm(self, name: str, x: Tensor, key: Any = None) -> Tensor:
        c = self.c
        if c.norm == "none":
            return x
        y = x - x.mean(-1, keepdim=True) if c.norm == "layernorm" else x
        y = y / self.noted((name, key), torch.sqrt((y * y).mean(-1, keepdim=True) + c.norm_eps))
        bias = self.w.get(f"{name}.bias")
        y = y * self.w[f"{name}.weight"]
        return y if bias is None else y + bias

    def coded(self, site: str, x: Tensor) -> Tensor:
        """A module's output through its dictionary: active features stay, the error is a leaf."""
        if site not in self.dictionaries:
            return x
        one = self.dictionaries[site]
        active = self.noted((site, "active"), one.active(x))
        before = (x - one.decoder_bias if one.pre_bias else x) @ one.encoder.T + one.encoder_bias
        code = torch.where(active, before, 0.0)
        self.values[site] = code
        rebuilt = code @ one.decoder + one.decoder_bias
        return rebuilt + self.noted((site, "error"), x - rebuilt)

    def run(self, changes: Changes) -> dict[str, Tensor]:
        """By name: `logits` [T, V], codes by site [T, F], scores `a0` [H, T, T], before caps."""
        c, w, T = self.c, self.w, len(self.tokens)
        self.values: dict[str, Tensor] = {}

        def write(name: str, x: Tensor) -> Tensor:
            moved = x.clone()
            for (writer, token), change in changes.items():
                if writer == name:
                    moved[token] += change
            return moved

        x = write("embed", w["embedding"][self.tokens] * c.embedding_scale)
        if c.positions == "learned":
            x = x + write("position", w["position_embedding"][:T])
        for layer in range(c.n_layers):
            block = f"blocks.{layer}"
            before = x
            out = self.coded(f"a{layer}.out", self.attention(layer, x))
            x = x + write(f"a{layer}", out)
            if c.d_mlp:
                read = self.frozen_norm(f"{block}.mlp_norm", before if c.parallel else x)
                hidden = self.hidden(layer, self.sparse(layer, "m.in", read))
                written = self._linear(f"{block}.mlp_out", hidden)
                if c.post_norms:
                    written = self.frozen_norm(f"{block}.mlp_post_norm", written)
                written = self.sparse(layer, "m.out", written)
                x = x + write(f"m{layer}", self.coded(f"m{layer}.out", written))
        logits = self.frozen_norm("final_norm", x) @ w["embedding" if c.tied else "unembedding"].T
        if c.unembed_bias:
            logits = logits + w["unembedding_bias"]
        if c.bigram_table:
            logits = logits + w["bigram_table"][self.tokens]
        if c.logit_softcap is not None:
            cap = c.logit_softcap
            logits = logits * self.noted("cap", cap * (logits / cap).tanh() / logits)
        return {**self.values, "logits": logits}

    def attention(self, layer: int, x: Tensor) -> Tensor:
        c, block = self.c, f"blocks.{layer}"
        read = self.sparse(layer, "a.in", self.frozen_norm(f"{block}.attention_norm", x))
        shared = c.n_heads // c.n_groups
        total = torch.zeros_like(x)
        for head in range(c.n_heads):
            group = head // shared
            q, k, v = (
                self._linear(
                    f"{block}.qkv_map", read, slice(rows * c.d_head, (rows + 1) * c.d_head)
                )
                for rows in (head, c.n_heads + group, c.n_heads + c.n_groups + group)
            )
            q, k, v = (
                self.sparse(layer, f"a.{part}", x, head if part == "q" else group)
                for part, x in zip("qkv", (q, k, v), strict=True)
            )
            pattern = self.noted(
                (layer, head), self.looks(layer, head, self._attention_scores(layer, q, k))
            )
            part = self.w[f"{block}.out_map.weight"][:, head * c.d_head : (head + 1) * c.d_head]
            total = total + (pattern @ v) @ part.T
        bias = self.w.get(f"{block}.out_map.bias")
        total = total if bias is None else total + bias
        if c.post_norms:
            total = self.frozen_norm(f"{block}.attention_post_norm", total)
        return self.sparse(layer, "a.out", total)

    def hidden(self, layer: int, read: Tensor) -> Tensor:
        """The hidden layer with gates as they were; a product of two in two halves."""
        z = self._linear(f"blocks.{layer}.mlp_in", read)
        m = self.c.d_mlp
        gate = z[..., :m]
        share = self.noted((layer, "gate"), activation(gate, self.c.activation) / gate)
        if not self.c.gated:
            out = share * gate
        else:
            up = z[..., m:]
            up_then, gate_then = self.noted((layer, "up"), up), self.noted((layer, "in"), gate)
            out = (share * gate * up_then + share * gate_then * up) / 2
        out = self.sparse(layer, "m.hidden", out)
        self.values[f"m{layer}.hidden"] = out
        return out

    def sparse(self, layer: int, kind: str, x: Tensor, head: int | None = None) -> Tensor:
        """What AbsTopK kept at a site in the model's own run stays."""
        if self.c.activation_sparsity is None:
            return x
        kept = self.own[f"{kind[0]}{layer}{kind[1:]}"] != 0
        width = self.c.d_head
        return x * (kept if head is None else kept[:, head * width : (head + 1) * width])
