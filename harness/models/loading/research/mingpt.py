"""State dicts of minGPT, as the original Othello-GPT has them (Li et al. 2023).

The folder's `config.json` holds the fields of its `GPTConfig`: `n_layer`, `n_head`, `n_embd`,
`vocab_size`, `block_size`. Norms have eps 1e-5, the activation is the exact GELU, the unembedding
has no bias. Othello-GPT knows 61 symbols, padding first and then the 60 cells in board order: with
`without_tokens: [0]` its tokens are those of the task's 60 moves.
"""

from __future__ import annotations

from collections.abc import Collection

from harness.models.config import TransformerConfig
from harness.models.loading.fields import Fields
from harness.models.loading.translation import Change, TensorSource, Translation
from harness.models.shapes import Shape

IGNORED = r"blocks\.\d+\.attn\.mask"

_HARMLESS = ("embd_pdrop", "resid_pdrop", "attn_pdrop", "model_type")
_OF_LAYER = {
    "attention_norm": ("ln1",),
    "qkv_map": ("attn.query", "attn.key", "attn.value"),
    "out_map": ("attn.proj",),
    "mlp_norm": ("ln2",),
    "mlp_in": ("mlp.0",),
    "mlp_out": ("mlp.2",),
}


def _without_batch(shape: Shape) -> Shape | None:
    return shape[1:] if len(shape) == 3 and shape[0] == 1 else None


def mingpt(fields: Fields, tensors: Collection[str]) -> Translation:
    """The translation of a state dict; `HarnessError` for fields that minGPT does not have."""
    width = fields.count("n_embd")
    heads = fields.count("n_head")
    if width % heads:
        fields.refuse("n_head", (), f"n_embd = {width} is not divisible by it")
    config = TransformerConfig(
        n_layers=fields.layers("n_layer"),
        n_heads=heads,
        d_model=width,
        d_head=width // heads,
        d_mlp=4 * width,
        d_vocab=fields.count("vocab_size"),
        n_ctx=fields.count("block_size"),
        activation="gelu",
    )
    # [1, T, D]: theirs has an axis for the prompts.
    positions = Change(lambda tensor: tensor[0], _without_batch)
    sources = {
        "embedding": TensorSource(("tok_emb.weight",)),
        "position_embedding": TensorSource(("pos_emb",), positions),
        "unembedding": TensorSource(("head.weight",)),
    }
    for kind in ("weight", "bias"):
        sources[f"final_norm.{kind}"] = TensorSource((f"ln_f.{kind}",))
        for layer in range(config.n_layers):
            block = f"blocks.{layer}."
            for ours, theirs in _OF_LAYER.items():
                names = tuple(f"{block}{name}.{kind}" for name in theirs)
                sources[f"{block}{ours}.{kind}"] = TensorSource(names)
    fields.ignore(_HARMLESS)
    fields.refuse_unread({})
    return Translation(config, sources, IGNORED)
