"""Checkpoints of openai/circuit_sparsity: made here in their form, run by a slow model of it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from support.slow_reference import small_model
from torch import Tensor

from harness.errors import HarnessError, NotFound
from harness.models.checkpoint import load_model, save_model
from harness.models.loading.folder import has_post_norms, model_files
from harness.models.loading.read import config_of_folder
from harness.models.loading.weight_sparse.circuits import kept_channels, mean_activations
from harness.models.sites import tapped_run
from harness.runs.plan.weights import weight_digests
from harness.spec.types import LoadModel, ModelFormat

EIGHT = "attn_in,attn_out,mlp_in,mlp_out,mlp_neuron,attn_v,attn_k,attn_q"
CONFIG: dict[str, Any] = {
    "block_size": 9,
    "vocab_size": 17,
    "n_layer": 2,
    "n_head": 3,
    "d_head": 4,
    "d_model": 12,
    "d_mlp": 20,
    "rms_norm": True,
    "tied_unembed": False,
    "afrac": 0.25,
    "afrac_loctypes": EIGHT,
    "enable_bigram_table": True,
    "learnable_bigram_table": True,
    "sink": True,
    "flash": True,
    "tokenizer_name": "tinypython_2k",
    "d_pos_emb": None,
}
TOKENS = torch.randint(17, (4, 7), generator=torch.Generator().manual_seed(3))


def random_state(config: dict[str, Any], positions: bool = False) -> dict[str, Tensor]:
    """A state dict with their names, every tensor random; nine tenths of the maps are zero."""
    draw = torch.Generator().manual_seed(0)
    width, heads = config["d_model"], config["n_head"] * config["d_head"]
    hidden = config.get("d_mlp", config.get("n_mlp", 4 * width))
    vocabulary = config["vocab_size"]

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw) / math.sqrt(shape[-1])

    def sparse(*shape: int) -> Tensor:
        return 3 * normal(*shape) * (torch.rand(shape, generator=draw) < 0.3)

    state = {
        "transformer.wte.weight": normal(vocabulary, width) * 3,
        "transformer.wpe.weight": normal(config["block_size"], width) * positions,
        "transformer.ln_f.weight": 1 + normal(width),
        "final_logits_bias": normal(vocabulary),
        "lm_head.weight": sparse(vocabulary, width),
    }
    if config.get("tied_unembed", True):
        state["lm_head.weight"] = state["transformer.wte.weight"]
    if config.get("enable_bigram_table"):
        state["bigram_table"] = normal(vocabulary, vocabulary)
    norm_bias = not config.get("rms_norm") and config.get("ln_bias", True)
    if norm_bias:
        state["transformer.ln_f.bias"] = normal(width)
    for layer in range(config["n_layer"]):
        block = f"transformer.h.{layer}"
        maps = {
            "attn.c_attn": (3 * heads, width),
            "attn.c_proj": (width, heads),
            "mlp.c_fc": (hidden, width),
            "mlp.c_proj": (width, hidden),
        }
        for name, shape in maps.items():
            state[f"{block}.{name}.weight"] = sparse(*shape)
            if config.get("bias", True):
                state[f"{block}.{name}.bias"] = normal(shape[0])
        for name in ("ln_1", "ln_2"):
            state[f"{block}.{name}.weight"] = 1 + normal(width)
            if norm_bias:
                state[f"{block}.{name}.bias"] = normal(width)
        if config.get("sink"):
            state[f"{block}.attn.attn_imp.sink_logit"] = normal(config["n_head"])
    return state


def saved(folder: Path, config: dict[str, Any], state: dict[str, Tensor]) -> Path:
    (folder / "beeg_config.json").write_text(json.dumps(config))
    torch.save(state, folder / "final_model.pt")
    return folder


class Theirs:
    """Their forward for one prompt, a token and a head at a time."""

    def __init__(self, config: dict[str, Any], state: dict[str, Tensor]) -> None:
        self.c, self.s = config, {name: one.double() for name, one in state.items()}
        self.values: dict[str, list[list[float]]] = {}

    def top(self, place: str, x: Tensor) -> Tensor:
        """x [T, n], each row with its largest k entries alone."""
        keep = self.c.get("afrac")
        if keep in (None, 1) or place not in self.c["afrac_loctypes"].split(","):
            return x
        out = torch.zeros_like(x)
        for row, into in zip(x, out, strict=True):
            order = sorted(range(len(row)), key=lambda i: -abs(float(row[i])))
            for i in order[: int(keep * len(row))]:
                into[i] = row[i]
        return out

    def norm(self, name: str, x: Tensor) -> Tensor:
        gain = self.s[f"{name}.weight"]
        if self.c.get("rms_norm"):
            return x / (x.square().mean(-1, keepdim=True) + 2**-23).sqrt() * gain
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * gain
        return scaled + self.s.get(f"{name}.bias", 0)

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.s[f"{name}.weight"].T + self.s.get(f"{name}.bias", 0)

    def attention(self, block: str, x: Tensor) -> Tensor:
        width, heads = self.c["d_head"], self.c["n_head"]
        read = self.top("attn_in", self.norm(f"{block}.ln_1", x))
        parts = self.linear(f"{block}.attn.c_attn", read).split(heads * width, -1)
        q, k, v = (self.top(f"attn_{n}", one) for n, one in zip("qkv", parts, strict=True))
        y = torch.zeros_like(q)
        for head in range(heads):
            own = slice(head * width, (head + 1) * width)
            sink = self.s.get(f"{block}.attn.attn_imp.sink_logit")
            for t in range(len(x)):
                scores = [float(q[t, own] @ k[i, own]) / math.sqrt(width) for i in range(t + 1)]
                total = sum(map(math.exp, scores))
                total += math.exp(float(sink[head])) if sink is not None else 0
                for i, score in enumerate(scores):
                    y[t, own] += math.exp(score) / total * v[i, own]
        return self.top("attn_out", self.linear(f"{block}.attn.c_proj", y))

    def mlp(self, block: str, x: Tensor) -> Tensor:
        hidden = self.linear(f"{block}.mlp.c_fc", self.top("mlp_in", self.norm(f"{block}.ln_2", x)))
        if self.c.get("activation_type", "gelu") == "relu":
            hidden = hidden.clamp(min=0)
        else:
            hidden = hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2
        return self.top(
            "mlp_out", self.linear(f"{block}.mlp.c_proj", self.top("mlp_neuron", hidden))
        )

    def logits(self, prompt: list[int]) -> Tensor:
        s = self.s
        x = torch.stack([s["transformer.wte.weight"][token] for token in prompt])
        x = x + s["transformer.wpe.weight"][: len(prompt)]
        for layer in range(self.c["n_layer"]):
            x = x + self.attention(f"transformer.h.{layer}", x)
            x = x + self.mlp(f"transformer.h.{layer}", x)
        out = self.norm("transformer.ln_f", x) @ s["lm_head.weight"].T
        out = out + s.get("final_logits_bias", 0)
        if "bigram_table" in s:
            out = out + torch.stack([s["bigram_table"][token] for token in prompt])
        return out


FORMS: dict[str, dict[str, Any]] = {
    "as trained": {},
    "learned positions": {"positions": True},
    "activations dense": {"afrac": None},
    "all kept": {"afrac": 1.0},
    "some places": {"afrac": 0.5, "afrac_loctypes": "attn_in,mlp_neuron,attn_k"},
    "no sinks or bigrams": {"sink": False, "enable_bigram_table": False},
    "layernorm, tied, relu": {
        "rms_norm": False,
        "tied_unembed": True,
        "activation_type": "relu",
        "afrac": None,
        "positions": True,
    },
    "no linear biases": {"rms_norm": False, "bias": False},
    "no norm biases": {"rms_norm": False, "ln_bias": False},
}


@pytest.mark.parametrize("form", FORMS)
def test_logits_are_those_of_a_slow_model_of_the_same_form(form, tmp_path):
    config = {**CONFIG, **FORMS[form]}
    positions = config.pop("positions", False)
    state = random_state(config, positions)
    model = load_model(saved(tmp_path, config, state), dtype=torch.float64)
    slow = Theirs(config, state)
    wanted = torch.stack([slow.logits(prompt) for prompt in TOKENS.tolist()])
    torch.testing.assert_close(model(TOKENS), wanted, rtol=1e-9, atol=1e-9)
    assert model.config.positions == ("learned" if positions else "none")
    assert config_of_folder(tmp_path) == model.config
    final = tapped_run(model, TOKENS, lambda site, value: value)
    assert torch.equal(model.to_logits(final, TOKENS), model(TOKENS))


def test_old_files_are_read_and_unknown_fields_named(tmp_path, caplog):
    """`n_mlp` is d_mlp; no `sink` means none; no bias of the logits means zero."""
    config = {**CONFIG, "n_mlp": 20, "use_tied_aux_matrix": False, "bigram_table_rank": 4}
    del config["d_mlp"], config["sink"]
    state = random_state(config)
    del state["final_logits_bias"]
    state["transformer.h.0.attn.bias"] = torch.ones(1, 1, 9, 9).tril()  # a causal mask
    model = load_model(saved(tmp_path, config, state), "circuit_sparsity", dtype=torch.float64)
    slow = Theirs(config, state)
    wanted = torch.stack([slow.logits(prompt) for prompt in TOKENS.tolist()])
    torch.testing.assert_close(model(TOKENS), wanted, rtol=1e-9, atol=1e-9)
    assert not model.config.attention_sink
    assert not model.config.unembed_bias
    assert "ignored, since this reader does not know it: 'bigram_table_rank'" in caplog.text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"d_pos_emb": 32}, "d_pos_emb is 32"),
        ({"residual_activation_type": "relu"}, "residual_activation_type is 'relu'"),
        ({"use_tied_aux_matrix": True}, "use_tied_aux_matrix is True"),
        ({"activation_type": "swish"}, "activation_type is 'swish'"),
        ({"afrac_loctypes": "attn_in,resid_post_mlp"}, "names 'resid_post_mlp'"),
        ({"afrac": 0.01}, "keeps none of the 12 entries"),
        ({"d_model": 13, "d_head": None}, "d_model 13 is not divisible by n_head 3"),
        ({"n_layer": 3}, "missing transformer.h.2"),
        ({"vocab_size": 18}, "the configuration says \\(18, 12\\)"),
        ({"sink": False}, "unknown transformer.h.0.attn.attn_imp.sink_logit"),
    ],
)
def test_what_asks_for_another_model_is_refused(change, words, tmp_path):
    saved(tmp_path, {**CONFIG, **change}, random_state(CONFIG))
    with pytest.raises(HarnessError, match=words):
        load_model(tmp_path)


def test_files_that_are_no_state_dict_are_refused(tmp_path):
    saved(tmp_path, CONFIG, random_state(CONFIG))
    assert [path.name for path in model_files(tmp_path)] == ["beeg_config.json", "final_model.pt"]
    assert not has_post_norms(tmp_path)
    weights = tmp_path / "final_model.pt"
    for held, words in (
        ({"model": {"a": torch.ones(1)}}, "model is no tensor"),
        ([torch.ones(1)], "holds no state dict"),
        ({"a": Path("x")}, "asks for more than tensors"),
    ):
        torch.save(held, weights)
        with pytest.raises(HarnessError, match=words):
            load_model(tmp_path)
    weights.write_bytes(b"no zip")
    with pytest.raises(HarnessError, match=r"final_model\.pt"):
        load_model(tmp_path)
    weights.unlink()
    with pytest.raises(NotFound, match=r"has no final_model\.pt"):
        load_model(tmp_path)


def test_beside_another_model_the_format_says_whose_files_are_read_and_identified(tmp_path):
    saved(tmp_path, CONFIG, random_state(CONFIG))
    other = small_model("gpt2-like")
    save_model(other, tmp_path)  # config.json and model.safetensors
    named: tuple[tuple[ModelFormat, int, set[str]], ...] = (
        ("auto", other.config.d_vocab, {"config.json", "model.safetensors"}),
        ("circuit_sparsity", 17, {"beeg_config.json", "final_model.pt"}),
    )
    for form, vocabulary, files in named:
        assert load_model(tmp_path, form).config.d_vocab == vocabulary
        assert set(weight_digests(LoadModel(path=str(tmp_path), format=form), tmp_path)) == files
    (tmp_path / "config.json").unlink()
    with pytest.raises(NotFound, match=r"has no config\.json"):
        load_model(tmp_path, "harness")


def test_a_published_circuit_names_channels_and_means(tmp_path):
    path = tmp_path / "viz_data.pt"
    kept = {
        "3.attn.act_in": torch.tensor([4, 17]),
        "3.attn.q": [0],
        "11.mlp.post_act": torch.tensor([233]),
        "0.mlp.resid_delta": torch.tensor([], dtype=torch.long),
        "final_resid": torch.tensor([9]),
    }
    torch.save({"circuit_data": kept, "num_total_nodes": 100}, path)
    assert kept_channels(path) == ("a3.in.4", "a3.in.17", "a3.q.0", "m11.hidden.233", "final.9")
    torch.save({"1.attn.v": torch.arange(3.0), "final_resid": torch.ones(1, 1, 4)}, path)
    means = mean_activations(path)
    assert means["a1.v"].tolist() == [0, 1, 2]
    assert means["final"].shape == (4,)
    for held, words in (
        ({"samples": {}}, "has no `circuit_data`"),
        ({"circuit_data": {"3.attn.y": [1]}}, "'3.attn.y' is no place"),
        ({"circuit_data": {"3.attn.q": [-1]}}, "is no list"),
    ):
        torch.save(held, path)
        with pytest.raises(HarnessError, match=words):
            kept_channels(path)
