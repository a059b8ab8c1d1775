"""The one transformer, read top to bottom: GPT-2, Pythia, Llama, Qwen, Gemma are configurations,
and so are weight-sparse transformers (sinks, a bigram table, AbsTopK).

Shapes: B prompts, T tokens, D = d_model, H heads of width K = d_head, G groups of heads that share
keys and values, R = H + 2G reading maps, M = d_mlp (2M before a gated activation; 0 without MLPs),
V = n_outputs, the tokens or classes that the model answers with.
Each block offers its parts (`read`, `split`, `attend`, `project`, `add_attention`; `read_mlp`,
`mlp_in`, `activate`, `write_mlp`) separately, so that the patched pass in `harness.circuits` runs
the same weights with a stream per reader, and `harness.models.sites` what lies between the parts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.models.abs_topk import abs_topk, largest
from harness.models.attention import attention
from harness.models.config import TransformerConfig
from harness.models.gathered import Gathered, Gatherings, shard
from harness.models.norm import Norm
from harness.models.rotary import apply_rotary
from harness.spec.types import SparseSite

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "gelu_quick": lambda x: x * torch.sigmoid(1.702 * x),
    "relu": F.relu,
    "silu": F.silu,
    "tanh": torch.tanh,
}
READS: tuple[SparseSite, ...] = ("a.q", "a.k", "a.v")


class Block(Gathered):
    """Attention then MLP (if there are any), each reading the stream through its own norm."""

    def __init__(self, config: TransformerConfig, layer: int) -> None:
        super().__init__()
        self.config, self.layer = config, layer
        self.attention_norm = Norm(config)
        # Rows: queries of all heads, then keys of all groups, then values.
        reads, width = config.n_read_maps * config.d_head, config.n_heads * config.d_head
        self.qkv_map = nn.Linear(config.d_model, reads, bias=config.has_bias("qkv"))
        self.out_map = nn.Linear(width, config.d_model, bias=config.has_bias("out"))
        if config.has_mlp:
            self.mlp_norm = Norm(config)
            # Rows of a gated MLP: the gate, then what it gates.
            hidden = 2 * config.d_mlp if config.gated else config.d_mlp
            self.mlp_in = nn.Linear(config.d_model, hidden, bias=config.has_bias("mlp"))
            self.mlp_out = nn.Linear(config.d_mlp, config.d_model, bias=config.has_bias("mlp"))
        self.activation = ACTIVATIONS[config.activation]
        if config.qk_norm:
            self.query_norm = Norm(config, config.d_head)
            self.key_norm = Norm(config, config.d_head)
        if config.post_norms:
            self.attention_post_norm, self.mlp_post_norm = Norm(config), Norm(config)
        if config.attention_sink:
            self.sink_logit = nn.Parameter(torch.zeros(config.n_heads))
        every: tuple[SparseSite, ...] = get_args(SparseSite)
        self.kept = {site: kept for site in every if (kept := config.kept_at(site))}

    def sparse(self, site: SparseSite, x: Tensor) -> Tensor:
        """The value x [..., width] of a site with only what AbsTopK keeps there."""
        return abs_topk(x, self.kept[site]) if site in self.kept else x

    def attention_in(self, x: Tensor) -> Tensor:
        """Residual stream [..., D] to attention's input."""
        return self.sparse("a.in", self.attention_norm(x))

    def read(self, x: Tensor) -> Tensor:
        """Residual stream [B, T, D] to queries, keys, values of all heads [B, T, R, K]."""
        projected: Tensor = self.qkv_map(self.attention_in(x))
        if not self.kept.keys().isdisjoint(READS):
            each = zip(READS, projected.split(self.read_widths(), -1), strict=True)
            masks = [largest(part, self.kept.get(site, part.shape[-1])) for site, part in each]
            projected = projected * torch.cat(masks, -1)
        return projected.view(*x.shape[:-1], -1, self.config.d_head)

    def read_widths(self) -> list[int]:
        """How many rows of `qkv_map` are queries, keys and values."""
        shared = self.config.n_groups * self.config.d_head
        return [self.config.n_heads * self.config.d_head, shared, shared]

    def split(self, reads: Tensor, axis: int) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, h of each on `axis`, from the reading maps on `axis`.

        The maps are those of all H heads, or of some whole groups of heads.
        """
        each = self.config.n_heads // self.config.n_groups
        groups = reads.shape[axis] // (each + 2)
        q, k, v = reads.split([groups * each, groups, groups], axis)
        return q, self.share(k, axis), self.share(v, axis)

    def share(self, x: Tensor, axis: int) -> Tensor:
        """Keys or values of some groups on `axis`, repeated for every head that shares them."""
        each = self.config.n_heads // self.config.n_groups
        return x if each == 1 else x.repeat_interleave(each, axis)

    def attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        padding: Tensor | None = None,
        *,
        axis: int,
        heads: Tensor | None = None,
    ) -> Tensor:
        """Mix values by attention, all [..., T, K]; `padding` True where a key may be seen.

        `axis`: where heads lie, all or `heads` alone, each repeated to fill it.
        """
        config, rotary = self.config, self.config.rotary_of(self.layer)
        if config.qk_norm:
            q, k = self.query_norm(q), self.key_norm(k)
        if rotary is not None:
            q, k = apply_rotary(q, rotary), apply_rotary(k, rotary)
        return attention(
            q,
            k,
            v,
            causal=config.causal,
            window=config.window_of(self.layer),
            scale=config.query_scale,
            softcap=config.attention_softcap,
            padding=padding,
            sink=self._sink(q, axis, heads) if config.attention_sink else None,
        )

    def _sink(self, q: Tensor, axis: int, heads: Tensor | None) -> Tensor:
        """Logits of the heads of q [..., T, K], to broadcast to its axes in front [...]."""
        logits: Tensor = self.sink_logit
        if heads is not None:
            logits = logits[heads.to(logits.device)]
        each = logits.repeat_interleave(q.shape[axis] // len(logits))
        return each.view(-1, *[1] * (q.ndim - 3 - axis))

    def heads(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        """The attention-weighted values of each head, before the output map: [B, T, H, K]."""
        q, k, v = self.split(self.read(x).transpose(1, 2), axis=1)  # each [B, H, T, K]
        return self.attend(q, k, v, padding, axis=1).transpose(1, 2)

    def project(self, z: Tensor) -> Tensor:
        """Heads [B, T, H, K] to their summed output [B, T, D], bias included."""
        out: Tensor = self.out_map(z.flatten(-2))
        return out

    def add_attention(self, out: Tensor) -> Tensor:
        """What attention adds to the stream, for the heads' summed output [..., D]."""
        out = self.attention_post_norm(out) if self.config.post_norms else out
        return self.sparse("a.out", out)

    def read_mlp(self, x: Tensor) -> Tensor:
        """Residual stream [..., D] to the input of `mlp_in`."""
        return self.sparse("m.in", self.mlp_norm(x))

    def activate(self, hidden: Tensor) -> Tensor:
        """The output of `mlp_in` [..., M] (gated: 2M) to the input of `mlp_out` [..., M]."""
        if self.config.gated:
            gate, up = hidden.chunk(2, -1)
            return self.sparse("m.hidden", self.activation(gate) * up)
        return self.sparse("m.hidden", self.activation(hidden))

    def write_mlp(self, activated: Tensor) -> Tensor:
        """The output of `activate` [..., M] to what the MLP adds to the stream [..., D]."""
        out: Tensor = self.mlp_out(activated)
        out = self.mlp_post_norm(out) if self.config.post_norms else out
        return self.sparse("m.out", out)

    def mlp(self, x: Tensor) -> Tensor:
        """What the MLP adds to the stream [..., D] for its input [..., D]; without MLPs nothing."""
        if not self.config.has_mlp:
            return torch.zeros_like(x)
        return self.write_mlp(self.activate(self.mlp_in(self.read_mlp(x))))

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        """The residual stream [B, T, D] after this block."""
        x = self.enters(x)
        after = x + self.add_attention(self.project(self.heads(x, padding)))
        if self.config.has_mlp:
            after = after + self.mlp(x if self.config.parallel else after)
        return self.leaves(after)

    # Per-head views of the weights, for the patched pass.
    def read_weights(self) -> tuple[Tensor, Tensor | None]:
        """Maps of every q, k, v reader [R, D, K] and their biases [R, 1, K]."""
        rows = self.config.n_read_maps
        weight = self.qkv_map.weight.view(rows, self.config.d_head, -1).transpose(1, 2)
        bias = self.qkv_map.bias
        return weight, None if bias is None else bias.view(rows, 1, self.config.d_head)

    def value_bias(self) -> Tensor:
        """The bias of every head's values [H, K], of a layer whose q, k, v maps have biases."""
        bias, rows = self.qkv_map.bias, self.config.n_groups * self.config.d_head
        return self.share(bias[-rows:].view(-1, self.config.d_head), 0)

    def out_weights(self) -> Tensor:
        """Output map of every head [H, K, D]; the bias belongs to no head."""
        parts = self.out_map.weight.view(-1, self.config.n_heads, self.config.d_head)
        return parts.permute(1, 2, 0)


class Transformer(nn.Module):
    """Token and position embedding, blocks, final norm, unembedding."""

    gatherings: Gatherings | None = None
    """Counts what is gathered, where the blocks' weights lie in shards over processes."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Parameter(torch.zeros(config.d_vocab, config.d_model))
        if config.positions == "learned":
            self.position_embedding = nn.Parameter(torch.zeros(config.n_ctx, config.d_model))
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.n_layers))
        self.final_norm = Norm(config)
        if not config.tied:
            self.unembedding = nn.Parameter(torch.zeros(config.n_outputs, config.d_model))
        self.unembedding_bias: Tensor | None = None
        if config.unembed_bias:
            self.unembedding_bias = nn.Parameter(torch.zeros(config.n_outputs))
        if config.bigram_table:
            self.bigram_table = nn.Parameter(torch.zeros(config.d_vocab, config.n_outputs))

    def block(self, layer: int) -> Block:
        """One block, as its weights lie."""
        block = self.blocks[layer]
        assert isinstance(block, Block)
        return block

    def layers(self, *, backwards: bool = False) -> Iterator[Block]:
        """The blocks, the last first if `backwards`; each has its weights whole until the next."""
        for block in reversed(self.blocks) if backwards else self.blocks:
            assert isinstance(block, Block)
            if self.gatherings is None:
                yield block
                continue
            with block.whole():
                yield block

    def shard(self, mesh: DeviceMesh) -> None:
        """Leave each process of a mesh its share of every block; the rest it has whole."""
        self.gatherings = shard(self.layers(), mesh)

    def embed(self, tokens: Tensor) -> Tensor:
        """Token embeddings alone [B, T, D]."""
        embedded = F.embedding(tokens, self.embedding)
        if self.config.embedding_scale == 1:
            return embedded
        # Rounded to the model's precision before the product, as Gemma was trained.
        return embedded * embedded.new_full((), self.config.embedding_scale)

    def position(self, length: int) -> Tensor:
        """Position embeddings [T, D]; zeros where positions are not learned."""
        if self.config.positions == "learned":
            return self.position_embedding[:length]
        return self.embedding.new_zeros(length, self.config.d_model)

    def start(self, tokens: Tensor) -> Tensor:
        """The residual stream before the first block [B, T, D]."""
        return self.embed(tokens) + self.position(tokens.shape[1])

    def unembed(self, x: Tensor, tokens: Tensor) -> Tensor:
        """Final residual stream [..., D] to logits [..., V].

        `tokens`: those where it is read, of a shape that broadcasts to [...].
        """
        return self.to_logits(self.final_norm(x), tokens)

    def to_logits(self, read: Tensor, tokens: Tensor) -> Tensor:
        """The output of the final norm [..., D] to logits [..., V], at `tokens` as in `unembed`."""
        matrix = self.embedding if self.config.tied else self.unembedding
        logits = F.linear(read, matrix, self.unembedding_bias)
        if self.config.bigram_table:
            logits = logits + F.embedding(tokens, self.bigram_table)
        cap = self.config.logit_softcap
        return logits if cap is None else cap * torch.tanh(logits / cap)

    def padding(self, tokens: Tensor, lengths: Tensor | None) -> Tensor | None:
        """Which keys of each prompt may be seen, bool [B, 1, 1, T]; None if causal."""
        if lengths is None or self.config.causal:
            return None
        seen = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]
        return seen[:, None, None, :]

    def stream(self, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The residual stream after the last block [B, T, D].

        `lengths` [B] matters only without a causal mask: keys beyond them are not seen.
        """
        padding = self.padding(tokens, lengths)
        x = self.start(tokens)
        for block in self.layers():
            x = block.forward(x, padding)  # no hooks: those of shards would gather once more
        return x

    def forward(self, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Logits [B, T, V] of tokens [B, T]."""
        return self.unembed(self.stream(tokens, lengths), tokens)

    @torch.no_grad()
    def initialise(self, generator: torch.Generator, scale: float | None = None) -> None:
        """Draw weights: normal with 1/√fan-in or `scale`, residual outputs divided by √(2·layers).

        Embeddings get 0.02 as in GPT-2, or `scale`; norms start at one, biases and sinks at zero; a
        bigram table is uniform in [0, 0.02). The generator is one of the weights' device.
        """
        for name, weight in self.named_parameters():
            if name == "bigram_table":
                weight.uniform_(0, 0.02, generator=generator)
                continue
            if weight.ndim < 2:
                weight.fill_(1.0 if name.endswith("norm.weight") else 0.0)
                continue
            own = scale or (0.02 if "embedding" in name else 1 / math.sqrt(weight.shape[1]))
            if name.endswith(("out_map.weight", "mlp_out.weight")):
                own /= math.sqrt(2 * self.config.n_layers)
            drawn = torch.randn(
                weight.shape, generator=generator, device=weight.device, dtype=weight.dtype
            )
            weight.copy_(drawn * own)


def random_model(
    config: TransformerConfig,
    seed: int,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    scale: float | None = None,
) -> Transformer:
    """A model with freshly drawn weights; equal seeds give equal weights on a kind of device.

    Drawn one at a time on `device` and in `dtype`, they fit wherever the model itself just fits.
    """
    with torch.device("meta"):
        model = Transformer(config)
    model = model.to(dtype).to_empty(device=device)
    model.initialise(torch.Generator(device).manual_seed(seed), scale)
    return model
