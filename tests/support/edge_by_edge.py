"""Brute force over edges in numpy, float64, from the description of a norm-free relu transformer.

It shares no code with the harness: edges are names, every reader sums its own stream writer by
writer, and one edge at a time is ablated. Weights go by their TransformerLens names and axes.
"""

from __future__ import annotations

import numpy as np

from harness.models.transformer import Transformer

TRUE = 1e-3


class EdgeByEdge:
    """A transformer whose readers each see their own sum of writers; `split`: `tok` and `pos`."""

    def __init__(self, weights: dict[str, np.ndarray], causal: bool, split: bool) -> None:
        self.w = {name: np.asarray(array, dtype=np.float64) for name, array in weights.items()}
        self.causal, self.split = causal, split
        self.n_layers = sum(name.endswith("W_in") for name in weights)
        self.n_heads = self.w["blocks.0.attn.W_Q"].shape[0]

    def inputs(self, tokens: np.ndarray) -> dict[str, np.ndarray]:
        token = self.w["embed.W_E"][tokens]
        position = np.broadcast_to(self.w["pos_embed.W_pos"][: tokens.shape[1]], token.shape)
        return {"tok": token, "pos": position} if self.split else {"input": token + position}

    def edges(self, positions: int | None = None) -> list[str]:
        """Every edge that the computation allows; `…@t` of each position where these are given."""
        writers, found = list(self.inputs(np.zeros((1, 1), dtype=int))), []
        for layer in range(self.n_layers):
            heads = [f"a{layer}.h{head}" for head in range(self.n_heads)]
            found += [f"{w}->{h}<{part}>" for h in heads for part in "qkv" for w in writers]
            writers += heads
            found += [f"{w}->m{layer}" for w in writers]
            writers.append(f"m{layer}")
        found += [f"{w}->logits" for w in writers]
        if positions is None:
            return found
        return [f"{edge}@{at}" for at in range(positions) for edge in found]

    def run(self, tokens, dropped=frozenset(), instead=None):
        """Outputs and every writer; a dropped edge carries `instead[writer]`, or nothing."""
        wrote = self.inputs(tokens)

        def stream(reader):
            total = np.zeros_like(next(iter(wrote.values())))
            for writer, value in wrote.items():
                other = 0 if instead is None else instead[writer]
                edge = f"{writer}->{reader}"
                if edge in dropped:
                    total = total + other
                    continue
                here = [f"{edge}@{at}" in dropped for at in range(tokens.shape[1])]
                total = total + np.where(np.array(here)[:, None], other, value)
            return total

        for layer in range(self.n_layers):
            attention = {part: self.w[f"blocks.{layer}.attn.W_{part.upper()}"] for part in "qkvo"}
            heads = {}
            for head in range(self.n_heads):
                name = f"a{layer}.h{head}"
                q, k, v = (stream(f"{name}<{part}>") @ attention[part][head] for part in "qkv")
                heads[name] = self.mixed(q, k, v) @ attention["o"][head]
            wrote |= heads
            mlp = f"blocks.{layer}.mlp"
            hidden = np.maximum(stream(f"m{layer}") @ self.w[f"{mlp}.W_in"], 0)
            wrote[f"m{layer}"] = hidden @ self.w[f"{mlp}.W_out"]
        return stream("logits") @ self.w["unembed.W_U"], wrote

    def mixed(self, q, k, v):
        scores = q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1])
        if self.causal:
            scores = np.where(np.tri(scores.shape[-1], dtype=bool), scores, -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        return weights / weights.sum(-1, keepdims=True) @ v

    def true_edges(self, prompts, ablation, positions=None):
        """The necessary edges and how far outputs move: (names, least by one, most by another).

        `prompts`: (clean, corrupted, read), each [n, T], of one length each; outputs count where
        `read` is true. `positions`: of prompts of one length, for edges of each. Checks that the
        true edges alone are enough.
        """
        moves = dict.fromkeys(self.edges(positions), 0.0)
        for clean, corrupted, read in prompts:
            whole, _ = self.run(clean)
            instead = None if ablation == "zero" else self.run(corrupted)[1]
            for edge in moves:
                changed, _ = self.run(clean, {edge}, instead)
                moves[edge] = max(moves[edge], np.abs(changed - whole)[read].max())
        true = {edge for edge, move in moves.items() if move > TRUE}
        for clean, corrupted, read in prompts:
            instead = None if ablation == "zero" else self.run(corrupted)[1]
            alone, _ = self.run(clean, set(moves) - true, instead)
            assert np.abs(alone - self.run(clean)[0])[read].max() < TRUE
        least = min(moves[edge] for edge in true)
        most = max((move for edge, move in moves.items() if edge not in true), default=0.0)
        return true, least, most


def weights_of(model: Transformer) -> dict[str, np.ndarray]:
    """The weights of a bias-free model under their TransformerLens names."""
    c, w = model.config, {n: p.double().numpy() for n, p in model.named_parameters()}
    assert not c.bias
    found = {
        "embed.W_E": w["embedding"],
        "pos_embed.W_pos": w["position_embedding"],
        "unembed.W_U": w["unembedding"].T,
    }
    for layer in range(c.n_layers):
        block, here = f"blocks.{layer}", {}
        qkv = w[f"{block}.qkv_map.weight"].reshape(3, c.n_heads, c.d_head, c.d_model)
        here |= {f"attn.W_{name}": qkv[i].transpose(0, 2, 1) for i, name in enumerate("QKV")}
        out = w[f"{block}.out_map.weight"].T
        here["attn.W_O"] = out.reshape(c.n_heads, c.d_head, c.d_model)
        here["mlp.W_in"] = w[f"{block}.mlp_in.weight"].T
        here["mlp.W_out"] = w[f"{block}.mlp_out.weight"].T
        found |= {f"{block}.{name}": array for name, array in here.items()}
    return found


def model_weights_from(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The inverse: weights under TransformerLens names as parameters of a bias-free model."""
    found = {
        "embedding": weights["embed.W_E"],
        "position_embedding": weights["pos_embed.W_pos"],
        "unembedding": weights["unembed.W_U"].T,
    }
    for layer in range(sum(name.endswith("W_in") for name in weights)):
        attention, mlp = f"blocks.{layer}.attn", f"blocks.{layer}.mlp"
        readers = [weights[f"{attention}.W_{name}"].transpose(0, 2, 1) for name in "QKV"]
        width = weights["embed.W_E"].shape[1]
        found[f"blocks.{layer}.qkv_map.weight"] = np.concatenate(readers).reshape(-1, width)
        found[f"blocks.{layer}.out_map.weight"] = weights[f"{attention}.W_O"].reshape(-1, width).T
        found[f"blocks.{layer}.mlp_in.weight"] = weights[f"{mlp}.W_in"].T
        found[f"blocks.{layer}.mlp_out.weight"] = weights[f"{mlp}.W_out"].T
    return found
