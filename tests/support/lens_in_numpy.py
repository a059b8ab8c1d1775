"""A transformer in numpy, float64, from TransformerLens' weights and config as they are stored.

It shares no code with the harness, nor the harness's names: loops over prompts, layers and heads.
`remove` names components (`a1.h0`, `m0`) whose output is left out.
"""

from __future__ import annotations

import math

import numpy as np

Weights = dict[str, np.ndarray]


def random_lens_model(
    *,
    n_layers: int = 2,
    n_heads: int = 2,
    d_model: int = 10,
    d_head: int = 4,
    d_vocab: int = 6,
    d_vocab_out: int = 6,
    n_ctx: int = 8,
    attn_only: bool = True,
    causal: bool = True,
    seed: int = 0,
) -> tuple[Weights, dict[str, object]]:
    """Weights and the fields of a `HookedTransformerConfig`, as its `to_dict` gives them."""
    rng = np.random.default_rng(seed)

    def draw(*shape: int, scale: float = 1.0) -> np.ndarray:
        return rng.standard_normal(shape) * scale / math.sqrt(shape[-2] if len(shape) > 1 else 4)

    w = {
        "embed.W_E": draw(d_vocab, d_model, scale=2.0),
        "pos_embed.W_pos": draw(n_ctx, d_model, scale=2.0),
        "ln_final.w": 1 + draw(d_model),
        "ln_final.b": draw(d_model),
        "unembed.W_U": draw(d_model, d_vocab_out),
        "unembed.b_U": draw(d_vocab_out),
    }
    for layer in range(n_layers):
        block = f"blocks.{layer}"
        w |= {f"{block}.ln1.w": 1 + draw(d_model), f"{block}.ln1.b": draw(d_model)}
        for letter in "QKV":
            w[f"{block}.attn.W_{letter}"] = draw(n_heads, d_model, d_head, scale=1.5)
            w[f"{block}.attn.b_{letter}"] = draw(n_heads, d_head)
        w |= {
            f"{block}.attn.W_O": draw(n_heads, d_head, d_model),
            f"{block}.attn.b_O": draw(d_model),
            f"{block}.attn.mask": np.tri(n_ctx, dtype=bool),
            f"{block}.attn.IGNORE": np.array(-np.inf),
        }
        if not attn_only:
            w |= {f"{block}.ln2.w": 1 + draw(d_model), f"{block}.ln2.b": draw(d_model)}
            w |= {f"{block}.mlp.W_in": draw(d_model, 4 * d_model)}
            w |= {f"{block}.mlp.b_in": draw(4 * d_model)}
            w |= {f"{block}.mlp.W_out": draw(4 * d_model, d_model)}
            w |= {f"{block}.mlp.b_out": draw(d_model)}
    config: dict[str, object] = {
        "n_layers": n_layers,
        "n_heads": n_heads,
        "d_model": d_model,
        "d_head": d_head,
        "d_mlp": None if attn_only else 4 * d_model,
        "d_vocab": d_vocab,
        "d_vocab_out": d_vocab_out,
        "n_ctx": n_ctx,
        "act_fn": None if attn_only else "relu",
        "attn_only": attn_only,
        "attention_dir": "causal" if causal else "bidirectional",
        "normalization_type": "LN",
        "eps": 1e-5,
        "positional_embedding_type": "standard",
        "attn_scale": math.sqrt(d_head),
        "use_attn_scale": True,
    }
    return w, config


def normed_by(w: Weights, name: str, x: np.ndarray, config: dict[str, object]) -> np.ndarray:
    if config["normalization_type"] is None:
        return x
    return layer_norm(x, w[f"{name}.w"], w[f"{name}.b"], config["eps"])


def layer_norm(x: np.ndarray, w: np.ndarray, b: np.ndarray, eps: float) -> np.ndarray:
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * w + b


def logits(
    w: Weights, config: dict[str, object], tokens: np.ndarray, remove: frozenset[str] = frozenset()
) -> np.ndarray:
    """Logits [n, T, outputs] of tokens [n, T]."""
    return np.stack([_one(w, config, prompt, remove) for prompt in tokens])


def _one(w, config, prompt, remove):
    causal = config["attention_dir"] == "causal"
    x = w["embed.W_E"][prompt] + w["pos_embed.W_pos"][: len(prompt)]
    for layer in range(config["n_layers"]):
        block = f"blocks.{layer}"
        a = {name: w[f"{block}.attn.{name}"] for name in ("W_Q", "W_K", "W_V", "W_O", "b_O")}
        a |= {name: w[f"{block}.attn.{name}"] for name in ("b_Q", "b_K", "b_V")}
        normed = normed_by(w, f"{block}.ln1", x, config)
        total = np.zeros_like(x)
        for head in range(config["n_heads"]):
            if f"a{layer}.h{head}" in remove:
                continue
            q, k, v = (normed @ a[f"W_{one}"][head] + a[f"b_{one}"][head] for one in "QKV")
            for place in range(len(prompt)):
                seen = place + 1 if causal else len(prompt)
                scores = np.array([q[place] @ k[key] for key in range(seen)])
                weights = np.exp((scores - scores.max()) / config["attn_scale"])
                z = weights @ v[:seen] / weights.sum()
                total[place] += z @ a["W_O"][head]
        x = x + total + a["b_O"]
        if not config["attn_only"] and f"m{layer}" not in remove:
            normed = normed_by(w, f"{block}.ln2", x, config)
            hidden = np.maximum(normed @ w[f"{block}.mlp.W_in"] + w[f"{block}.mlp.b_in"], 0)
            x = x + hidden @ w[f"{block}.mlp.W_out"] + w[f"{block}.mlp.b_out"]
    return normed_by(w, "ln_final", x, config) @ w["unembed.W_U"] + w["unembed.b_U"]


def folded(w: Weights, config: dict[str, object]) -> Weights:
    """The same model with value biases folded into the output biases: b_V W_O goes to b_O."""
    w = dict(w)
    for layer in range(config["n_layers"]):
        attn = f"blocks.{layer}.attn"
        added = sum(w[f"{attn}.b_V"][h] @ w[f"{attn}.W_O"][h] for h in range(config["n_heads"]))
        w[f"{attn}.b_O"] = w[f"{attn}.b_O"] + added
        w[f"{attn}.b_V"] = np.zeros_like(w[f"{attn}.b_V"])
    return w
