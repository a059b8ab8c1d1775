"""Public Othello-GPT weights: minGPT's and TransformerLens' layouts, without the padding symbol."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from support.lens_form import in_lens_form, write
from torch import Tensor

from harness.datasets.generators.othello.source import Othello, OthelloParams
from harness.datasets.splits import Shares
from harness.datasets.stream import StreamData
from harness.errors import HarnessError
from harness.models.checkpoint import load_model
from harness.models.config import TransformerConfig
from harness.models.fit import require_tokens
from harness.models.transformer import Transformer, random_model
from harness.runs.plan.fit import fit_problem
from harness.spec.load import Library
from harness.spec.types import LoadModel

CONFIG = TransformerConfig(2, 4, 32, 8, 128, 61, 59, activation="gelu")


def theirs() -> Transformer:
    """A model of 61 symbols whose norms, biases and embeddings are all random."""
    model = random_model(CONFIG, 0, dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def in_mingpt_form(model: Transformer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The names and shapes of minGPT, written down from its `GPT` and `Block` classes."""
    c, ours = model.config, {name: p.detach() for name, p in model.named_parameters()}
    state = {
        "tok_emb.weight": ours["embedding"],
        "pos_emb": ours["position_embedding"][None],
        "head.weight": ours["unembedding"],
        "ln_f.weight": ours["final_norm.weight"],
        "ln_f.bias": ours["final_norm.bias"],
    }
    for layer in range(c.n_layers):
        block = f"blocks.{layer}."
        state[f"{block}attn.mask"] = torch.ones(1, 1, c.n_ctx, c.n_ctx).tril()
        for kind in ("weight", "bias"):
            parts = ours[f"{block}qkv_map.{kind}"].split(c.d_model)
            for name, part in zip(("query", "key", "value"), parts, strict=True):
                state[f"{block}attn.{name}.{kind}"] = part
            for name, mine in (
                ("ln1", "attention_norm"),
                ("ln2", "mlp_norm"),
                ("attn.proj", "out_map"),
                ("mlp.0", "mlp_in"),
                ("mlp.2", "mlp_out"),
            ):
                state[f"{block}{name}.{kind}"] = ours[f"{block}{mine}.{kind}"]
    fields = {
        "n_layer": c.n_layers,
        "n_head": c.n_heads,
        "n_embd": c.d_model,
        "vocab_size": c.d_vocab,
        "block_size": c.n_ctx,
        "attn_pdrop": 0.1,
    }
    return {name: value.clone().contiguous() for name, value in state.items()}, fields


def in_lens_layout(model: Transformer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    state, fields = in_lens_form(model)
    return state, {**fields, "act_fn": "gelu"}


FORMS = {"mingpt": in_mingpt_form, "transformer_lens": in_lens_layout}
Form = Callable[[Transformer], tuple[dict[str, Tensor], dict[str, Any]]]


@pytest.mark.parametrize("kind", FORMS)
def test_the_same_model_in_both_layouts(kind: str, tmp_path: Path) -> None:
    model = theirs()
    write(tmp_path, *FORMS[kind](model))
    tokens = torch.randint(61, (3, 59), generator=torch.Generator().manual_seed(2))
    for form in ("auto", kind):
        loaded = load_model(tmp_path, form)  # type: ignore[arg-type]
        torch.testing.assert_close(loaded(tokens), model(tokens), rtol=1e-11, atol=1e-11)
    moves = load_model(tmp_path, without_tokens=[0])
    assert moves.config.d_vocab == 60
    torch.testing.assert_close(
        moves(tokens.clamp(min=1) - 1), model(tokens.clamp(min=1))[..., 1:], rtol=1e-11, atol=1e-11
    )


def li_symbol(cell: int) -> int:
    """Their symbol of a cell: padding is 0."""
    return cell + 1 if cell <= 26 else cell - 1 if cell <= 34 else cell - 3


def test_our_tokens_are_their_symbols_but_padding(tmp_path: Path) -> None:
    data = StreamData(Othello(OthelloParams(size=8, min_ply=10), False), Shares({}, 0))
    pairs = data.pairs("test", 20, 0)
    model = theirs()
    write(tmp_path, *in_mingpt_form(model))
    moves = load_model(tmp_path, without_tokens=[0])
    require_tokens(moves.config, pairs)
    assert data.longest == moves.config.n_ctx == 59
    playable = data.source.board.playable  # type: ignore[attr-defined]
    length = int(pairs.lengths[0])
    ours = torch.from_numpy(pairs.clean[:1, :length].astype("int64"))
    symbols = torch.tensor([[li_symbol(int(playable[token])) for token in ours[0]]])
    torch.testing.assert_close(moves(ours), model(symbols)[..., 1:], rtol=1e-11, atol=1e-11)


def test_the_padding_symbol_does_not_fit_the_task(tmp_path: Path) -> None:
    """With it the model has one output more than the task has tokens: moves would be shifted."""
    (tmp_path / "othello").mkdir()
    write(tmp_path / "othello", *in_mingpt_form(theirs()))
    task = Library().task("othello_moves_8x8")
    spec = LoadModel(path=str(tmp_path / "othello"), without_tokens=(0,))
    assert fit_problem(task, spec, tmp_path) is None
    whole = LoadModel(path=str(tmp_path / "othello"))
    assert "the model has 61 tokens, the task 60 moves" in str(fit_problem(task, whole, tmp_path))
    wrong = LoadModel(path=str(tmp_path / "othello"), without_tokens=(61,))
    assert "there is no token 61" in str(fit_problem(task, wrong, tmp_path))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"n_head": 5}, "n_embd = 32 is not divisible by it"),
        ({"vocab_size": 60}, "tok_emb.weight has shape (61, 32)"),
        ({"block_size": 60}, "pos_emb has shape (1, 59, 32)"),
        ({"n_layer": 3}, "missing blocks.2."),
        ({"rotary": True}, "rotary"),
    ],
)
def test_what_is_not_of_this_form_is_refused(
    change: dict[str, Any], text: str, tmp_path: Path
) -> None:
    state, fields = in_mingpt_form(theirs())
    write(tmp_path, state, {**fields, **change})
    with pytest.raises(HarnessError, match=r"config\.json") as error:
        load_model(tmp_path)
    assert text in str(error.value)


def test_classes_and_tied_embeddings_keep_all_tokens(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    state, fields = in_lens_layout(theirs())
    state["unembed.W_U"] = state["unembed.W_U"][:, :2].contiguous()
    save_file(state, tmp_path / "one/model.safetensors")
    (tmp_path / "one/config.json").write_text(json.dumps({**fields, "d_vocab_out": 2}))
    with pytest.raises(HarnessError, match="answers in classes"):
        load_model(tmp_path / "one", without_tokens=[0])
