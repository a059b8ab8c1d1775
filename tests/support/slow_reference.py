"""An independent, slow transformer over edges, written from the definition alone.

Every reader of every head gets its own residual stream, summed edge by edge in Python loops; norms,
attention and activations are spelled out. It shares no code with the harness but the weights'
names. `edges` maps (row, column) to a multiplier: 1 keeps the edge, 0 drops it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from harness.models.config import Rotary, TransformerConfig
from harness.models.transformer import Transformer, random_model


def norm(x: Tensor, kind: str, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    if kind == "none":
        return x
    if kind == "layernorm":
        x = x - x.mean(-1, keepdim=True)
    x = x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps) * weight
    return x if bias is None else x + bias


def activation(x: Tensor, name: str) -> Tensor:
    if name == "relu":
        return x.clamp(min=0)
    if name == "silu":
        return x / (1 + torch.exp(-x))
    if name == "gelu":
        return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))
    return x * 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def turned(x: Tensor, rotary: Rotary | None) -> Tensor:
    """Rotary positions of x [..., T, K] as products of complex numbers, one pair at a time."""
    if rotary is None:
        return x
    n = rotary.n_rotated or x.shape[-1]
    position = torch.arange(x.shape[-2], dtype=x.dtype)
    out = x.clone()
    for i in range(n // 2):
        angle = position / rotary.base ** (2 * i / n) / rotary.factor  # `linear` scaling or none
        z = torch.complex(x[..., i], x[..., i + n // 2]) * torch.exp(1j * angle)
        out[..., i], out[..., i + n // 2] = z.real, z.imag
    return out


class SlowModel:
    """The same weights, one stream per reader.

    `per_head`: heads that share keys and values read them by edges of their own, so that columns
    of keys and values are counted by head.
    """

    def __init__(self, model: Transformer, inputs: str = "token", per_head: bool = False) -> None:
        self.c: TransformerConfig = model.config
        self.inputs, self.per_head = inputs, per_head
        self.w = dict(model.named_parameters())

    def norm_of(self, name: str, x: Tensor) -> Tensor:
        c = self.c
        return norm(x, c.norm, self.w.get(f"{name}.weight"), self.w.get(f"{name}.bias"), c.norm_eps)

    def _linear(self, name: str, x: Tensor, rows: slice = slice(None)) -> Tensor:
        out = x @ self.w[f"{name}.weight"][rows].T
        bias = self.w.get(f"{name}.bias")
        return out if bias is None else out + bias[rows]

    def _attention_scores(self, layer: int, q: Tensor, k: Tensor) -> Tensor:
        """Scores [B, T, T] of one head, minus infinity where a key is not seen."""
        c, block = self.c, f"blocks.{layer}"
        if c.qk_norm:
            q = self.norm_of(f"{block}.query_norm", q)
            k = self.norm_of(f"{block}.key_norm", k)
        rotary = c.window_rotary if layer in c.window_layers and c.window_rotary else c.rotary
        scale = 1 / math.sqrt(c.d_head) if c.query_scale is None else c.query_scale
        scores = turned(q, rotary) @ turned(k, rotary).transpose(-1, -2) * scale
        if c.attention_softcap is not None:
            scores = c.attention_softcap * (scores / c.attention_softcap).tanh()
        for query in range(scores.shape[-2]):
            for key in range(scores.shape[-1]):
                far = layer in c.window_layers and query - key >= c.window
                if (c.causal and key > query) or far:
                    scores[..., query, key] = -torch.inf
        return scores

    def looks(self, layer: int, head: int, scores: Tensor) -> Tensor:
        """How much each query of a head looks at each key, from its scores [B, T, T]."""
        weights = (scores - scores.amax(-1, keepdim=True)).exp()
        total = weights.sum(-1, keepdim=True)
        if self.c.attention_sink:
            sink = self.w[f"blocks.{layer}.sink_logit"][head]
            total = total + (sink - scores.amax(-1, keepdim=True)).exp()
        return weights / total

    def _hidden(self, block: str, x: Tensor) -> Tensor:
        """The MLP's hidden layer after its activation."""
        hidden = self._linear(f"{block}.mlp_in", x)
        if not self.c.gated:
            return activation(hidden, self.c.activation)
        m = self.c.d_mlp
        return activation(hidden[..., :m], self.c.activation) * hidden[..., m:]

    def tap(self, column: int, layer: int | None, x: Tensor) -> Tensor:
        """A part of what a reader reads [B, T, D], on its way; for subclasses that look at it.

        `layer`: what attention adds there before its norm takes it; None: all the rest.
        """
        return x

    def writers(
        self,
        tokens: Tensor,
        mask: Tensor,
        replaced: list[Tensor] | None,
        start: Tensor | None = None,
    ) -> tuple[list[Tensor], Tensor]:
        """All writers' outputs and the logits, every position, under a mask [W, R] or [T, W, R].

        With post-norms a head's output is that before its layer's norm, which is taken of the mix
        that a reader sees; an MLP's is that after its norm.
        `replaced`: what each writer's dropped edges carry (None = zeros). `start`: other token
        embeddings for a graph without input writers.
        """
        c = self.c
        position = torch.zeros(tokens.shape[1], c.d_model, dtype=mask.dtype)
        if c.positions == "learned":
            position = self.w["position_embedding"][: tokens.shape[1]]
        embed = self.w["embedding"][tokens] * c.embedding_scale
        position = position.expand_as(embed)
        out, constant = {
            "token": ([embed], position),
            "summed": ([embed + position], torch.zeros_like(embed)),
            "split": ([embed, position], torch.zeros_like(embed)),
            "none": ([], (embed if start is None else start) + position),
        }[self.inputs]

        inputs = len(out)

        def stream(column: int) -> Tensor:
            x, attention = constant, {}
            for row, value in enumerate(out):
                other = torch.zeros_like(value) if replaced is None else replaced[row]
                m = mask[..., row, column, None]  # one number, or one of each position [T, 1]
                mixed = m * value + (1 - m) * other
                layer, place = divmod(row - inputs, c.n_heads + 1)
                if c.post_norms and row >= inputs and place < c.n_heads:
                    attention[layer] = attention.get(layer, 0) + mixed
                else:
                    x = x + mixed
            for layer, a in attention.items():
                bias = self.w.get(f"blocks.{layer}.out_map.bias")
                whole = self.tap(column, layer, a if bias is None else a + bias)
                x = x + self.norm_of(f"blocks.{layer}.attention_post_norm", whole)
            return self.tap(column, None, x)

        column = 0
        for layer in range(c.n_layers):
            block = f"blocks.{layer}"
            heads = []
            shared = c.n_heads // c.n_groups
            readers = c.n_heads if self.per_head else c.n_groups  # of keys, and of values
            for head in range(c.n_heads):
                group = head // shared
                own = head if self.per_head else group
                q, k, v = (
                    self._linear(
                        f"{block}.qkv_map",
                        self.norm_of(f"{block}.attention_norm", stream(column + reader)),
                        slice(rows * c.d_head, (rows + 1) * c.d_head),
                    )
                    for reader, rows in (
                        (head, head),
                        (c.n_heads + own, c.n_heads + group),
                        (c.n_heads + readers + own, c.n_heads + c.n_groups + group),
                    )
                )
                z = self.looks(layer, head, self._attention_scores(layer, q, k)) @ v
                part = self.w[f"{block}.out_map.weight"][:, head * c.d_head : (head + 1) * c.d_head]
                heads.append(z @ part.T)
            before = stream(column + c.n_heads + 2 * readers)
            out += heads
            if f"{block}.out_map.bias" in self.w and not c.post_norms:
                constant = constant + self.w[f"{block}.out_map.bias"]
            column += c.n_heads + 2 * readers
            if c.d_mlp == 0:
                continue
            x = self.norm_of(f"{block}.mlp_norm", before if c.parallel else stream(column))
            written = self._linear(f"{block}.mlp_out", self._hidden(block, x))
            out.append(self.norm_of(f"{block}.mlp_post_norm", written) if c.post_norms else written)
            column += 1
        final = self.norm_of("final_norm", stream(column))
        logits = final @ self.w["embedding" if c.tied else "unembedding"].T
        if c.unembed_bias:
            logits = logits + self.w["unembedding_bias"]
        if c.bigram_table:
            rows = [[self.w["bigram_table"][token] for token in prompt] for prompt in tokens]
            logits = logits + torch.stack([torch.stack(row) for row in rows])
        if c.logit_softcap is not None:
            logits = c.logit_softcap * (logits / c.logit_softcap).tanh()
        return out, logits

    def logits(self, clean: Tensor, corrupted: Tensor, mask: Tensor) -> Tensor:
        """Logits at all positions under interchange ablation."""
        ones = torch.ones_like(mask)
        replaced, _ = self.writers(corrupted, ones, None)
        return self.writers(clean, mask, replaced)[1]


ARCHITECTURES = {
    "gpt2-like": {},
    "rmsnorm": {"norm": "rmsnorm", "bias": False, "activation": "gelu"},
    "no-norm-bidirectional": {"norm": "none", "causal": False, "activation": "relu"},
    "tied-wide-heads": {"tied": True, "d_head": 9, "n_heads": 2},
    "no-positions": {"positions": "none", "unembed_bias": True, "n_layers": 1},
    "grouped": {"n_heads": 4, "n_key_value_heads": 2},
    "parallel": {"parallel": True},
    "llama-like": {
        "norm": "rmsnorm",
        "bias": False,
        "qkv_bias": True,
        "positions": "rotary",
        "rotary": Rotary(base=30.0),
        "gated": True,
        "activation": "silu",
        "n_heads": 4,
        "n_key_value_heads": 2,
    },
    "windowed-capped": {
        "norm": "rmsnorm",
        "bias": False,
        "positions": "rotary",
        "rotary": Rotary(base=9.0, n_rotated=2, scaling="linear", factor=3.0),
        "window": 3,
        "window_layers": (1,),
        "window_rotary": Rotary(base=5.0),
        "qk_norm": True,
        "query_scale": 0.8,
        "attention_softcap": 2.0,
        "logit_softcap": 3.0,
        "embedding_scale": 1.7,
    },
    "gemma-like": {
        "norm": "rmsnorm",
        "bias": False,
        "out_bias": True,
        "positions": "rotary",
        "rotary": Rotary(base=30.0),
        "gated": True,
        "activation": "gelu_tanh",
        "n_heads": 4,
        "n_key_value_heads": 2,
        "post_norms": True,
    },
    "attention-alone": {
        "d_mlp": 0,
        "n_heads": 4,
        "n_key_value_heads": 2,
        "d_vocab_out": 13,
        "unembed_bias": True,
    },
    "sinks-bigrams": {
        "norm": "rmsnorm",
        "positions": "none",
        "unembed_bias": True,
        "n_heads": 4,
        "n_key_value_heads": 2,
        "attention_sink": True,
        "bigram_table": True,
    },
    "sinks-windowed-capped": {
        "window": 3,
        "window_layers": (1,),
        "attention_softcap": 2.0,
        "attention_sink": True,
    },
    "post-layernorm-parallel": {"parallel": True, "post_norms": True},
}

POST_NORMS = [name for name, fields in ARCHITECTURES.items() if "post_norms" in fields]


def small_model(
    name: str, seed: int = 0, dtype: torch.dtype = torch.float64, **changes: object
) -> Transformer:
    """A random model of one of `ARCHITECTURES`, with all biases and norms random too."""
    sizes: dict[str, object] = {
        "n_layers": 2,
        "n_heads": 3,
        "d_model": 12,
        "d_head": 4,
        "d_mlp": 20,
        "d_vocab": 11,
        "n_ctx": 8,
    }
    config = TransformerConfig(**{**sizes, **ARCHITECTURES[name], **changes})  # type: ignore[arg-type]
    model = random_model(config, seed).to(dtype)
    draw = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=draw, dtype=torch.float64)
            scale = 0.3 if parameter.ndim < 2 else 1 / math.sqrt(parameter.shape[-1])
            parameter.add_(noise.to(dtype) * scale)
    return model.requires_grad_(False)
