"""Files give back what was written; SAELens' form means what SAELens computes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from harness.dictionaries.dictionary import Activation, Dictionary, DictionarySet, random_dictionary
from harness.dictionaries.files.saelens import (
    hook_of_site,
    read_saelens,
    site_of_hook,
    write_saelens,
)
from harness.dictionaries.files.store import FILE, fitting, load_dictionaries, save_dictionaries
from harness.errors import HarnessError, NotFound
from harness.models.config import TransformerConfig

WIDTH, FEATURES, K = 6, 10, 3
ACTIVATIONS: list[Activation] = ["relu_l1", "topk", "batchtopk", "jumprelu"]
CONFIG = TransformerConfig(
    n_layers=2, n_heads=2, d_model=WIDTH, d_head=3, d_mlp=8, d_vocab=6, n_ctx=4
)


def filled(activation: Activation, *, pre_bias: bool = True, width: int = WIDTH) -> Dictionary:
    k = K if activation == "topk" else None
    one = random_dictionary(width, FEATURES, activation, seed=2, k=k, pre_bias=pre_bias)
    with torch.no_grad():
        for weight in (one.encoder, one.encoder_bias, one.decoder_bias):
            weight.add_(0.3 * torch.randn(weight.shape))
        if one.threshold is not None:
            one.threshold.copy_(torch.rand(one.threshold.shape))
    return one.requires_grad_(False)


def same(one: Dictionary, other: Dictionary) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def as_saelens(folder: Path, x: Tensor) -> tuple[Tensor, Tensor]:
    """Code and decoded activations as SAELens 6 computes them from its files."""
    config = json.loads((folder / "cfg.json").read_text())
    weights = load_file(folder / "sae_weights.safetensors")
    centred = x - weights["b_dec"] * config["apply_b_dec_to_input"]
    before = centred @ weights["W_enc"] + weights["b_enc"]
    lengths = weights["W_dec"].norm(dim=1)
    rescaled = config.get("rescale_acts_by_decoder_norm", False)
    if config["architecture"] == "topk":
        before = before * lengths if rescaled else before
        values, places = before.topk(config["k"], -1)
        code = torch.zeros_like(before).scatter(-1, places, values.relu())
    elif config["architecture"] == "jumprelu":
        code = before.relu() * (before > weights["threshold"])
    else:
        code = before.relu()
    decoded = (code / lengths if rescaled else code) @ weights["W_dec"] + weights["b_dec"]
    return code, decoded


def test_our_file_gives_back_the_same_dictionaries(tmp_path: Path) -> None:
    saved = DictionarySet(
        {f"a{i}.out": filled(one, pre_bias=i % 2 == 0) for i, one in enumerate(ACTIVATIONS)},
        {"task": "toy"},
    )
    save_dictionaries(saved, tmp_path)
    read = load_dictionaries(tmp_path)
    assert list(read) == list(saved)
    assert read.source == {"task": "toy"}
    for site, one in saved.items():
        assert same(one, read[site])
        assert (one.activation, one.k, one.pre_bias) == (
            read[site].activation, read[site].k, read[site].pre_bias
        )  # fmt: skip
    first = (tmp_path / FILE).read_bytes()
    save_dictionaries(read, tmp_path)
    assert (tmp_path / FILE).read_bytes() == first


@pytest.mark.parametrize("pre_bias", [True, False])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_what_is_written_for_saelens_is_the_same_function(
    tmp_path: Path, activation: Activation, pre_bias: bool
) -> None:
    one = filled(activation, pre_bias=pre_bias)
    write_saelens("m1.out", one, tmp_path, model="toy")
    x = torch.randn(50, WIDTH)
    code, decoded = as_saelens(tmp_path, x)
    torch.testing.assert_close(one.encode(x), code, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(one(x), decoded, atol=1e-5, rtol=1e-5)
    site, read = read_saelens(tmp_path)
    assert site == "m1.out"
    torch.testing.assert_close(read(x), one(x), atol=1e-5, rtol=1e-5)


def written(folder: Path, kind: str, /, **changes: Any) -> Path:
    """A folder as SAELens writes it, with decoder rows that do not have length 1."""
    folder.mkdir(exist_ok=True)
    draw = torch.Generator().manual_seed(5)
    tensors = {
        "W_enc": torch.randn(WIDTH, FEATURES, generator=draw),
        "b_enc": torch.randn(FEATURES, generator=draw),
        "W_dec": torch.randn(FEATURES, WIDTH, generator=draw) * 3,
        "b_dec": torch.randn(WIDTH, generator=draw),
    }
    if kind == "jumprelu":
        tensors["threshold"] = torch.rand(FEATURES, generator=draw)
    config = {
        "d_in": WIDTH, "d_sae": FEATURES, "dtype": "float32", "device": "cuda",
        "apply_b_dec_to_input": True, "normalize_activations": "none",
        "reshape_activations": "none", "architecture": kind,
        "metadata": {"hook_name": "blocks.1.hook_mlp_out", "sae_lens_version": "6.5.0"},
    }  # fmt: skip
    if kind == "topk":
        config |= {"k": K, "rescale_acts_by_decoder_norm": True}
    config |= changes
    save_file(tensors, folder / "sae_weights.safetensors")
    (folder / "cfg.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("architecture", ["standard", "topk", "jumprelu"])
def test_what_saelens_wrote_decodes_the_same(tmp_path: Path, architecture: str) -> None:
    folder = written(tmp_path, architecture)
    dictionaries = load_dictionaries(folder)
    assert list(dictionaries) == ["m1.out"]
    x = torch.randn(50, WIDTH)
    code, decoded = as_saelens(folder, x)
    one = dictionaries["m1.out"]
    torch.testing.assert_close(one(x), decoded, atol=1e-4, rtol=1e-4)
    assert torch.equal(one.encode(x) > 0, code > 0)
    torch.testing.assert_close(one.decoder.norm(dim=1), torch.ones(FEATURES))


def test_folders_of_several_sites_are_read_in_the_order_of_the_model(tmp_path: Path) -> None:
    for name, site in (("x", "m0.out"), ("y", "a0.out"), ("z", "m1.stream")):
        (tmp_path / name).mkdir()
        write_saelens(site, filled("jumprelu"), tmp_path / name)
    read = fitting(load_dictionaries(tmp_path), CONFIG)
    assert list(read) == ["a0.out", "m0.out", "m1.stream"]


@pytest.mark.parametrize("site", ["embed", "a1.out", "m0.hidden", "a0.z", "m1.stream"])
def test_sites_are_hooks(site: str) -> None:
    assert site_of_hook(hook_of_site(site)) == site


def test_the_stream_before_a_layer_is_that_after_the_one_before() -> None:
    assert site_of_hook("blocks.3.hook_resid_pre") == "m2.stream"
    with pytest.raises(HarnessError, match="is no site here"):
        site_of_hook("blocks.0.hook_resid_pre")
    with pytest.raises(HarnessError, match="no hook that SAELens knows"):
        hook_of_site("final")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "gated"}, "architecture 'gated' is not read here"),
        ({"architecture": "transcoder"}, "architecture 'transcoder' is not read here"),
        ({"normalize_activations": "layer_norm"}, "normalize_activations is 'layer_norm'"),
        ({"activation_fn": "tanh-relu"}, "activation function 'tanh-relu' of architecture"),
        # Older versions wrote k-sparse ones so; with `relu` alone they would have other codes.
        (
            {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 3}},
            "activation function 'topk' of architecture 'standard' is not read here",
        ),
        ({"metadata": {}}, "hook_name, which says what it is a dictionary of, is missing"),
        ({"metadata": {"hook_name": "blocks.0.ln1"}}, "hook 'blocks.0.ln1' is no site"),
        ({"d_sae": 11}, "d_sae is 11, but the weights have 10"),
        ({"architecture": "jumprelu"}, "tensor 'threshold' of a jumprelu dictionary is missing"),
        ({"architecture": "topk", "k": "3"}, "k is '3', not an integer"),
        ({"architecture": "topk", "k": 3}, "rows of W_dec have different lengths"),
    ],
)
def test_what_saelens_has_and_we_do_not_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(HarnessError) as error:
        load_dictionaries(written(tmp_path, "standard", **changes))
    assert message in str(error.value)
    assert str(tmp_path) in str(error.value)


def broken(tmp_path: Path, **tensors: Tensor) -> Path:
    save_dictionaries(DictionarySet({"a0.out": filled("jumprelu")}), tmp_path)
    path = tmp_path / FILE
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        note = file.metadata()
    held = {name.partition("/")[2]: value for name, value in load_file(path).items()} | tensors
    save_file({f"a0.out/{name}": x for name, x in held.items()}, path, metadata=note)
    return tmp_path


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"decoder": torch.ones(FEATURES, WIDTH)}, "do not all have length 1"),
        ({"encoder": torch.ones(FEATURES, 2)}, "not floats of shape (10, 6)"),
        ({"encoder_bias": torch.full((FEATURES,), torch.nan)}, "not finite"),
        ({"threshold": -torch.ones(FEATURES)}, "a threshold is negative"),
        ({"more": torch.ones(2)}, "tensor 'more' of a jumprelu dictionary is unknown"),
    ],
)
def test_a_broken_file_of_ours_is_refused(
    tmp_path: Path, tensors: dict[str, Tensor], message: str
) -> None:
    with pytest.raises(HarnessError) as error:
        load_dictionaries(broken(tmp_path, **tensors))
    assert message in str(error.value)


def test_what_is_no_dictionary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="holds no dictionaries"):
        load_dictionaries(tmp_path)
    (tmp_path / FILE).write_bytes(b"nothing")
    with pytest.raises(HarnessError, match="cannot be read as safetensors"):
        load_dictionaries(tmp_path)
    save_file({"a0.out/decoder": torch.ones(2, 2)}, tmp_path / FILE)
    with pytest.raises(HarnessError, match="is no file of dictionaries"):
        load_dictionaries(tmp_path)


def test_dictionaries_that_do_not_fit_a_model_are_refused() -> None:
    with pytest.raises(HarnessError, match=r"dictionary of 'a2\.out', which the model"):
        fitting(DictionarySet({"a2.out": filled("topk")}), CONFIG)
    with pytest.raises(HarnessError, match=r"a0\.out is 5 wide, the model's site 6"):
        fitting(DictionarySet({"a0.out": filled("topk", width=5)}), CONFIG)
