"""Files of checkpoints: shards, what is missing, broken, odd or too much, memory, and the hub."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.hugging_face import MODELS, random_theirs, saved

from harness.errors import HarnessError, NotFound
from harness.models import checkpoint
from harness.models.checkpoint import load_model
from harness.models.loading import location
from harness.models.loading.folder import model_files
from harness.spec.schema import check
from harness.spec.types import LoadModel
from harness.spec.yaml.source import parse_text

pytest.importorskip("transformers")

TOKENS = torch.randint(41, (2, 12), generator=torch.Generator().manual_seed(2))


def edit_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


def edit_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def same_model(found, wanted):
    assert found.config == wanted.config
    torch.testing.assert_close(found(TOKENS), wanted(TOKENS), rtol=0, atol=0)


# ---------------------------------------------------------------- shards
def test_shards_are_one_checkpoint(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    saved("llama", whole)
    saved("llama", parts, max_shard_size="6KB")
    files = [path.name for path in model_files(parts)]
    assert files[:2] == ["config.json", "model.safetensors.index.json"]
    assert len(files) > 5
    same_model(load_model(parts), load_model(whole))
    (parts / files[3]).unlink()
    with pytest.raises(HarnessError, match=rf"has no {files[3]}, of the \d+ files that"):
        load_model(parts)


def test_a_broken_index_is_named(tmp_path):
    saved("llama", tmp_path, max_shard_size="6KB")
    index = tmp_path / "model.safetensors.index.json"
    for text, message in (
        ("{", "not valid JSON"),
        ("[]", "must hold one object"),
        ('{"weight_map": ["x"]}', "must map tensors to files"),
        ('{"weight_map": {"x": "../y.safetensors"}}', "not the name of a file in this folder"),
    ):
        index.write_text(text)
        with pytest.raises(HarnessError, match=message):
            load_model(tmp_path)


# ---------------------------------------------------------------- what is not right
def test_missing_files_are_named(tmp_path):
    with pytest.raises(HarnessError, match=r"has no config\.json and no model\.safetensors$"):
        load_model(tmp_path)
    saved("gpt2", tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(HarnessError, match=r"(?s)pytorch_model\.bin is a pickle.*save_pretrained"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("gpt2", {"model_type": "opt"}, "model_type is 'opt', not one of gpt2, gpt_neox, llama"),
        ("gpt2", {"add_cross_attention": True}, "cross-attention is not supported"),
        ("gpt2", {"activation_function": "mish"}, "activation_function is 'mish', not one of"),
        ("gpt2", {"n_layer": None}, "n_layer is missing"),
        ("gpt2", {"n_layer": "2"}, "n_layer is '2', not a positive whole number"),
        ("gpt2", {"n_head": 0}, "n_head is 0, not a positive whole number"),
        ("gpt2", {"tie_word_embeddings": "yes"}, "tie_word_embeddings is 'yes', not true or false"),
        ("llama", {"rope_parameters": {"rope_type": "longrope"}}, "rope_type is 'longrope', not"),
        (
            "llama",
            {"rope_parameters": {"rope_type": "linear"}},
            "parameters.factor is missing",
        ),
        ("llama", {"rope_parameters": 3}, "rope_parameters is 3, not an object"),
        ("llama", {"partial_rotary_factor": 0.5}, "this family rotates whole heads"),
        ("llama", {"quantization_config": {"bits": 4}}, "quantised weights are not read"),
        ("llama", {"rms_norm_eps": "small"}, "rms_norm_eps is 'small', not a number"),
        ("llama", {"num_key_value_heads": 3}, "n_heads = 4 is not divisible"),
        ("gemma2", {"use_bidirectional_attention": True}, "only causal attention"),
        ("gemma2", {"layer_types": ["full_attention"]}, "one kind per layer"),
        (
            "gemma2",
            {"layer_types": ["full_attention", "x", "x"]},
            "'x' is an unknown kind of attention",
        ),
        ("mistral", {"layer_types": ["full_attention"] * 3}, "Mistral has layers of one kind"),
    ],
)
def test_a_configuration_that_is_not_built_in_is_refused(name, changes, message, tmp_path):
    saved(name, tmp_path)
    edit_config(tmp_path, **changes)
    with pytest.raises(HarnessError, match=message):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "llama",
            lambda w: w.pop("model.layers.1.mlp.up_proj.weight"),
            r"config\.json: missing model\.layers\.1\.mlp\.up_proj\.weight$",
        ),
        (
            "llama",
            lambda w: w.update({"model.layers.0.self_attn.q_proj.bias": torch.zeros(24)}),
            r"unknown model\.layers\.0\.self_attn\.q_proj\.bias \(24,\)",
        ),
        (
            "gpt2",
            lambda w: w.update({"transformer.h.0.mlp.c_fc.weight": torch.zeros(24, 90)}),
            r"mlp\.c_fc\.weight has shape \(24, 90\), the configuration says \(96, 24\)",
        ),
        (
            "llama",
            lambda w: w.update({"model.layers.0.self_attn.v_proj.weight": torch.zeros(1, 24)}),
            r"v_proj\.weight has shape \(1, 24\), the configuration says \(48, 24\)",
        ),
        (
            "llama",
            lambda w: w.update({"model.norm.weight": torch.ones(1)}),
            r"norm\.weight has shape \(1,\)",
        ),
        (
            "pythia",
            lambda w: w.update(
                {"gpt_neox.layers.0.attention.query_key_value.bias": torch.ones(50)}
            ),
            r"query_key_value\.bias has shape \(50,\)",
        ),
        (
            "llama-tied",
            lambda w: w.update({"lm_head.weight": torch.ones(41, 24)}),
            "lm_head.weight is not the embedding, though the configuration ties both",
        ),
        (
            "gpt2",
            lambda w: w.update({"transformer.wte.weight": torch.ones(41, 24, dtype=torch.int8)}),
            "wte.weight is stored as I8; only",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named(name, change, message, tmp_path):
    saved(name, tmp_path)
    edit_weights(tmp_path, change)
    with pytest.raises(HarnessError, match=message):
        load_model(tmp_path)


def test_a_wrong_format_is_refused(tmp_path):
    saved("gpt2", tmp_path)
    with pytest.raises(HarnessError, match=r"config\.json: not a model configuration"):
        load_model(tmp_path, "harness")
    with pytest.raises(HarnessError, match="n_heads is missing"):
        load_model(tmp_path, "transformer_lens")
    checkpoint.save_model(load_model(tmp_path), tmp_path)
    with pytest.raises(HarnessError, match="model_type is missing"):
        load_model(tmp_path, "huggingface")


# ---------------------------------------------------------------- harmless variants
def test_buffers_of_older_checkpoints_are_left_out(tmp_path):
    for name, extra in (
        ("gpt2", "transformer.h.1.attn.bias"),
        ("gpt2", "transformer.h.0.attn.masked_bias"),
        ("pythia", "gpt_neox.layers.0.attention.rotary_emb.inv_freq"),
        ("pythia", "gpt_neox.layers.1.attention.bias"),
        ("llama", "model.layers.2.self_attn.rotary_emb.inv_freq"),
    ):
        saved(name, tmp_path)
        before = load_model(tmp_path)
        edit_weights(tmp_path, lambda w, e=extra: w.update({e: torch.ones(2, dtype=torch.uint8)}))
        same_model(load_model(tmp_path), before)


def test_a_tied_matrix_may_be_there_twice(tmp_path):
    saved("llama-tied", tmp_path)
    before = load_model(tmp_path)
    edit_weights(
        tmp_path, lambda w: w.update({"lm_head.weight": w["model.embed_tokens.weight"].clone()})
    )
    same_model(load_model(tmp_path), before)


def test_names_without_their_prefix(tmp_path):
    """The published GPT-2 was saved without its output layer."""
    theirs = saved("gpt2", tmp_path)
    before = load_model(tmp_path)
    theirs.transformer.save_pretrained(tmp_path)
    assert "wte.weight" in load_file(tmp_path / "model.safetensors")
    same_model(load_model(tmp_path), before)


@pytest.mark.parametrize("prefix", ["language_model.model.", "model.language_model."])
def test_the_language_model_of_a_vision_model(prefix, tmp_path):
    saved("gemma3-linear", tmp_path)
    before = load_model(tmp_path)

    def wrap(weights):
        for name in list(weights):
            weights[prefix + name.removeprefix("model.")] = weights.pop(name)
        weights["vision_tower.vision_model.embeddings.weight"] = torch.ones(3)
        weights["multi_modal_projector.weight"] = torch.ones(3)

    edit_weights(tmp_path, wrap)
    text = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gemma3", "text_config": text}))
    same_model(load_model(tmp_path), before)


def test_mixed_precisions_are_kept_without_loss(tmp_path):
    theirs = random_theirs("llama")
    theirs.model.norm.double()
    theirs.save_pretrained(tmp_path)
    assert load_model(tmp_path).embedding.dtype == torch.float64


# ---------------------------------------------------------------- memory
LOADING = """
import sys
from pathlib import Path
from harness.models.checkpoint import load_model

def memory(which):
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith(which)]
    return 1024 * int(line.split()[1])

small, big = map(Path, sys.argv[1:])
load_model(small)  # what the first model of a process costs in code
before = memory("VmRSS")
model = load_model(big)
size = sum(p.numel() * p.element_size() for p in model.parameters())
print(size, (memory("VmHWM") - before) / size)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
def test_loading_needs_little_more_memory_than_the_model(tmp_path):
    small, big = tmp_path / "small", tmp_path / "big"
    saved("llama", small)
    big.mkdir()
    wider = {24: 1024, 40: 2800, 12: 512}
    weights = {
        name: torch.ones([wider.get(n, n) for n in weight.shape])
        for name, weight in load_file(small / "model.safetensors").items()
    }
    save_file(weights, big / "model.safetensors")
    shutil.copy(small / "config.json", big)
    edit_config(big, hidden_size=1024, intermediate_size=2800, head_dim=256)
    done = subprocess.run(
        [sys.executable, "-c", LOADING, str(small), str(big)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    size, peak = map(float, done.stdout.split())
    assert size > 120e6
    assert 0.9 < peak <= 1.2


# ---------------------------------------------------------------- the hub
def test_a_model_of_the_hub_is_fetched_once_and_without_pickles(tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    asked = []

    def snapshot_download(name, *, revision, allow_patterns):
        asked.append((name, revision, allow_patterns))
        return str(tmp_path)

    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    location._downloaded.cache_clear()
    spec = LoadModel(hub="someone/model", revision="abc")
    for _ in range(2):
        assert location.checkpoint_folder(spec, Path("/nowhere")) == tmp_path
    ((name, revision, patterns),) = asked
    assert (name, revision) == ("someone/model", "abc")
    assert not any(pattern.endswith(("bin", "*")) for pattern in patterns)
    location._downloaded.cache_clear()


def test_a_hub_that_cannot_be_reached_is_a_user_error(monkeypatch):
    hub = pytest.importorskip("huggingface_hub")

    def snapshot_download(*_, **__):
        raise hub.errors.LocalEntryNotFoundError("no connection\nlong advice")

    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    with pytest.raises(HarnessError, match=r"cannot fetch model 'a/b' .*: no connection\. Check"):
        location.checkpoint_folder(LoadModel(hub="a/b"), Path())


def test_a_path_never_asks_the_hub(tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(hub, "snapshot_download", lambda *_, **__: pytest.fail("network"))
    monkeypatch.setenv("HARNESS_FILES", str(tmp_path))
    with pytest.raises(NotFound, match="needs gpt2, which is not below"):
        location.checkpoint_folder(LoadModel(path="gpt2"), tmp_path)
    (tmp_path / "gpt2").mkdir()
    found = location.checkpoint_folder(LoadModel(path="gpt2"), Path("/nowhere"))
    assert found == tmp_path / "gpt2"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("path: x", None),
        ("hub: owner/name\nrevision: main\nformat: huggingface", None),
        ("path: x\nhub: owner/name", "give exactly one of path, hub"),
        ("format: auto", "give exactly one of path, hub"),
        ("path: x\nrevision: main", "hub"),
        ("hub: ../x/y", "must be an id on the hub"),
        ("path: x\nformat: gguf", "huggingface"),
    ],
)
def test_a_spec_names_a_folder_or_a_model_of_the_hub(lines, message, tmp_path):
    text = f"spec_version: 1\nname: m\ntitle: M\nkind: load\n{lines}\n"
    issues = check(parse_text(text, tmp_path / "m.yaml"), "model")
    assert [message in issue.message for issue in issues] == ([True] if message else [])


def test_every_family_is_tried():
    from harness.models.loading.huggingface import FAMILIES

    tried = {family for family, _ in MODELS.values()}
    assert len(tried) == len(FAMILIES) - 1  # gemma3 and gemma3_text are one
