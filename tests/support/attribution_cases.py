"""Gradients at readers, taken with hooks on the plain model alone."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.circuits.edges.graph import Graph
from harness.datasets.batch import Batch
from harness.models.transformer import Transformer


class HookedRun:
    """A plain run on tokens, all outputs and gradients caught by module hooks.

    `gradients`: of the summed loss at the input of every norm, by its place `(layer, part)`;
    q, k and v of all heads share one. `hold`: outputs (without the heads' bias) that a layer's
    heads or MLP write instead of their own, by the same places; (-1, "inputs") for the embeddings.
    """

    def __init__(self, model: Transformer, batch: Batch, loss, tokens=None, hold=None):
        self.model, self.hold = model, hold or {}
        self.gradients: dict[tuple[int, str], Tensor] = {}
        self.heads: dict[int, Tensor] = {}
        self.attention: dict[int, Tensor] = {}  # before a norm takes it
        self.mlps: dict[int, Tensor] = {}
        tokens = batch.clean if tokens is None else tokens
        self.embedded = self.hold.get((-1, "inputs"), model.embed(tokens))
        handles = list(self._hooks())
        x = (self.embedded + model.position(tokens.shape[1])).requires_grad_()
        for block in model.layers():
            x = block(x)
        self.logits = batch.at_positions(model.unembed(x, tokens))
        if loss is not None:
            loss(self.logits).sum().backward()
        for handle in handles:
            handle.remove()

    def _hooks(self):
        for layer, block in enumerate(self.model.layers()):
            yield block.attention_norm.register_forward_pre_hook(self._tap(layer, "attention"))
            yield block.out_map.register_forward_hook(self._heads(layer, block))
            if not block.config.has_mlp:
                continue
            yield block.mlp_norm.register_forward_pre_hook(self._tap(layer, "mlp"))
            mlp = block.mlp_post_norm if block.config.post_norms else block.mlp_out
            yield mlp.register_forward_hook(self._mlp(layer))
        yield self.model.final_norm.register_forward_pre_hook(self._tap(-1, "final"))

    def _tap(self, *place):
        def hook(_, args):
            branch = args[0].view_as(args[0])
            if branch.requires_grad:
                branch.register_hook(lambda at: self.gradients.__setitem__(place, at))
            return (branch,)

        return hook

    def _heads(self, layer, block):
        def hook(module, args, out):
            z = args[0].detach().unflatten(-1, (block.config.n_heads, -1))
            self.heads[layer] = torch.einsum("bthk,hkd->hbtd", z, block.out_weights())
            held = self.hold.get((layer, "heads"))
            out = out if held is None else held + (0 if module.bias is None else module.bias)
            self.attention[layer] = out.detach()
            return out

        return hook

    def _mlp(self, layer):
        def hook(_, __, out):
            self.mlps[layer] = out.detach()
            return self.hold.get((layer, "mlp"))

        return hook

    def written(self) -> Tensor:
        """Outputs of all writers, the token embedding being the one input: [W, B, T, D]."""
        layers = [torch.cat([self.heads[at], *self._mlp_of(at)]) for at in sorted(self.heads)]
        return torch.cat([self.embedded.detach()[None], *layers])

    def _mlp_of(self, layer: int) -> list[Tensor]:
        return [self.mlps[layer][None]] if layer in self.mlps else []

    def products(self, differences: Tensor, graph: Graph) -> dict[tuple[int, str], Tensor]:
        """Σ difference · gradient of writers [W] at every norm; 0 for those that come later."""
        found, differences = {}, self._at_stream(differences, graph)
        for (layer, part), gradient in self.gradients.items():
            before = {
                "attention": graph.before_attention(layer),
                "mlp": graph.before_mlp(layer),
                "final": graph.n_writers,
            }[part]
            product = torch.einsum("wbtd,btd->w", differences, gradient)
            found[layer, part] = product * (torch.arange(graph.n_writers) < before)
        return found

    def _at_stream(self, differences: Tensor, graph: Graph) -> Tensor:
        """Heads' differences through their layer's norm to first order, where there is one."""
        found = differences.clone()
        for layer, block in enumerate(self.model.layers()):
            if block.config.post_norms:
                rows, a = graph.head_rows(layer), self.attention[layer]
                for row in range(rows.start, rows.stop):
                    at = (a,), (differences[row],)
                    found[row] = torch.func.jvp(block.attention_post_norm, *at)[1]
        return found


def by_norm(scores: Tensor, graph: Graph) -> dict[tuple[int, str], Tensor]:
    """Scores [W, R] added up over readers that share a norm."""
    found = {(-1, "final"): scores[:, graph.logits_column]}
    for layer in range(graph.n_layers):
        found[layer, "attention"] = scores[:, graph.qkv_columns(layer)].sum(1)
        if graph.mlps:
            found[layer, "mlp"] = scores[:, graph.mlp_column(layer)]
    return found
