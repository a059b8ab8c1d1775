"""Sites: named places in the transformer where an activation is read, replaced or gated.

In order of computation, with l the layer, B prompts, T tokens, D = d_model, H heads and G groups of
keys and values of width K = d_head, M = d_mlp. Right: the names of openai/circuit_sparsity.
    embed, position  token embeddings; learned positions, where there are any      [B, T, D]
    a{l}.in          attention's input, after its norm                [B, T, D]    attn.act_in
    a{l}.q           queries, before their norm and rotary positions  [B, T, H·K]  attn.q
    a{l}.k, a{l}.v   keys, also before these; values                  [B, T, G·K]  attn.k, attn.v
    a{l}.z           heads' outputs, before the output map            [B, T, H·K]  attn.y
    a{l}.out         what attention adds to the stream                [B, T, D]    attn.resid_delta
    a{l}.stream      the stream after that; not in a parallel model   [B, T, D]
    m{l}.in          the MLP's input, after its norm                  [B, T, D]    mlp.act_in
    m{l}.hidden      the MLP's hidden layer; if gated, the product    [B, T, M]    mlp.post_act
    m{l}.out         what the MLP adds to the stream                  [B, T, D]    mlp.resid_delta
    m{l}.stream      the stream after the block                       [B, T, D]
    final            the unembedding's input, after the final norm    [B, T, D]
Where there is a bias or a post-norm, `out` is taken after it. Heads lie one after the other on the
last axis. In a parallel model the MLP reads the stream that attention reads; layers without MLP
have no sites `m{l}`. The writes `embed`, `position`, `a{l}.out` and `m{l}.out` sum to the stream.
Where there is activation sparsity, a site's value is the one after it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import torch
from torch import Tensor

from harness.models.config import TransformerConfig
from harness.models.transformer import READS, Block, Transformer

SiteKind = Literal[
    "embed",
    "position",
    "a.in",
    "a.q",
    "a.k",
    "a.v",
    "a.z",
    "a.out",
    "a.stream",
    "m.in",
    "m.hidden",
    "m.out",
    "m.stream",
    "final",
]

Tap = Callable[[str, Tensor], Tensor]
"""Takes a site's name and its value [..., T, width]; returns the value to use in its place.

It may return the value itself, which must not be modified in place, or add axes in front.
"""


@dataclass(frozen=True, slots=True)
class Site:
    """One place; its values are [..., T, width]."""

    kind: SiteKind
    width: int
    layer: int | None = None
    heads: int | None = None
    """How many heads, or groups of keys and values, `width` consists of."""

    @property
    def name(self) -> str:
        """The kind with the layer after its first letter: `a3.out`."""
        return self.kind if self.layer is None else f"{self.kind[0]}{self.layer}{self.kind[1:]}"


def sites(config: TransformerConfig) -> tuple[Site, ...]:
    """All sites of a transformer, in order of computation."""
    D = config.d_model
    embeddings = [Site("embed", D)]
    if config.positions == "learned":
        embeddings.append(Site("position", D))
    blocks = [_sites_of_block(config, layer) for layer in range(config.n_layers)]
    return (*embeddings, *chain.from_iterable(blocks), Site("final", D))


def _sites_of_block(config: TransformerConfig, layer: int) -> list[Site]:
    D, K, H, G = config.d_model, config.d_head, config.n_heads, config.n_groups
    attention = [
        Site("a.in", D, layer),
        Site("a.q", H * K, layer, H),
        Site("a.k", G * K, layer, G),
        Site("a.v", G * K, layer, G),
        Site("a.z", H * K, layer, H),
        Site("a.out", D, layer),
    ]
    if not config.parallel:
        attention.append(Site("a.stream", D, layer))
    if not config.has_mlp:
        return attention
    return [
        *attention,
        Site("m.in", D, layer),
        Site("m.hidden", config.d_mlp, layer),
        Site("m.out", D, layer),
        Site("m.stream", D, layer),
    ]


def tapped_run(
    model: Transformer, tokens: Tensor, tap: Tap, lengths: Tensor | None = None
) -> Tensor:
    """The value of site `final` [..., B, T, D] for tokens [B, T], every site passing through `tap`.

    `Transformer.to_logits` turns it into logits, at all positions or at some. With a tap that
    changes nothing these are the logits of `Transformer.forward`, bit for bit on a CPU. Axes that
    a tap adds in front, such as one of S masks, are carried on from there; everything before is
    computed once. Gradients flow through taps. `lengths`: as in `Transformer.stream`.
    """
    padding = model.padding(tokens, lengths)
    x, position = tap("embed", model.embed(tokens)), model.position(tokens.shape[1])
    if model.config.positions == "learned":
        position = tap("position", position.expand(len(tokens), -1, -1))
    x = x + position
    for block in model.layers():
        x = _run_block(block, x, tap, padding)
    return tap("final", model.final_norm(x))


def _run_block(block: Block, x: Tensor, tap: Tap, padding: Tensor | None) -> Tensor:
    """The stream after a block; `Block.forward` with a tap at every site."""
    layer, parallel, x = block.layer, block.config.parallel, block.enters(x)
    after = x + tap(f"a{layer}.out", _attention(block, x, tap, padding))
    if not parallel:
        after = tap(f"a{layer}.stream", after)
    if not block.config.has_mlp:
        return block.leaves(after)
    read = tap(f"m{layer}.in", block.read_mlp(x if parallel else after))
    hidden = tap(f"m{layer}.hidden", block.activate(block.mlp_in(read)))
    after = after + tap(f"m{layer}.out", block.write_mlp(hidden))
    return block.leaves(tap(f"m{layer}.stream", after))


def _attention(block: Block, x: Tensor, tap: Tap, padding: Tensor | None) -> Tensor:
    """What attention adds to the stream x [..., B, T, D]."""
    layer, config = block.layer, block.config
    reads = block.qkv_map(tap(f"a{layer}.in", block.attention_in(x)))
    parts = zip(READS, reads.split(block.read_widths(), -1), strict=True)
    q, k, v = (
        tap(f"a{layer}{kind[1:]}", block.sparse(kind, part))
        .unflatten(-1, (-1, config.d_head))
        .transpose(-3, -2)
        for kind, part in parts
    )
    z = _attend(block, q, block.share(k, -3), block.share(v, -3), padding)
    z = tap(f"a{layer}.z", z.transpose(-3, -2).flatten(-2))
    return block.add_attention(block.project(z.unflatten(-1, (config.n_heads, -1))))


def _attend(block: Block, q: Tensor, k: Tensor, v: Tensor, padding: Tensor | None) -> Tensor:
    """`Block.attend` of q, k, v [..., B, H, T, K], whose axes in front may differ.

    They become one axis, as the fast kernels take four.
    """
    front = torch.broadcast_shapes(*(x.shape[:-3] for x in (q, k, v)))
    q, k, v = (x.expand(*front, *x.shape[-3:]).flatten(0, -4) for x in (q, k, v))
    if padding is not None:
        padding = padding.expand(*front, *padding.shape[-3:]).flatten(0, -4)
    z: Tensor = block.attend(q, k, v, padding, axis=1).unflatten(0, front)
    return z
