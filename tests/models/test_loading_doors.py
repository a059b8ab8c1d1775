"""What a configuration may say: one fact once, known fields, sizes that the tensors have.

Each case stands for a kind of file that used to load as another model, to hang or to crash.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.hugging_face import MODELS, config_json, random_theirs, saved
from support.lens_form import in_lens_form, write
from support.slow_reference import small_model

from harness.errors import HarnessError
from harness.models.checkpoint import load_model, save_model
from harness.models.config import GPT2_SMALL, Rotary, TransformerConfig
from harness.models.loading import gpt2, transformer_lens
from harness.models.loading.folder import read_config
from harness.models.loading.gemma import one_more
from harness.models.loading.translation import flattened, transposed
from harness.models.shapes import parameter_shapes
from harness.models.transformer import Transformer

transformers = pytest.importorskip("transformers")

TOKENS = torch.randint(41, (2, 12), generator=torch.Generator().manual_seed(2))
LINEAR = {"rope_type": "linear", "factor": 4.0}
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A saved model of each name, made once."""
    made = {}

    def folder(name):
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            saved(name, made[name])
        return made[name]

    return folder


def copied(folder, to, drop=(), **changes):
    """The model with other fields in its configuration."""
    config = read_config(folder)
    for name in drop:
        config.pop(name, None)
    (to / "config.json").write_text(json.dumps({**config, **changes}))
    os.link(folder / "model.safetensors", to / "model.safetensors")
    return to


# ---------------------------------------------------------------- two spellings of one fact
@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("llama", {"rope_scaling": LINEAR}, "rope_parameters and rope_scaling both say"),
        (
            "llama",
            {"rope_scaling": {"rope_type": "longrope", "long_factor": [1.0]}},
            "rope_parameters and rope_scaling both say",
        ),
        ("llama", {"rope_theta": 5.0}, r"rope_theta is 5\.0, but rope_parameters\.rope_theta is"),
        (
            "llama-linear",
            {"rope_parameters": {**LINEAR, "type": "yarn"}},
            r"rope_parameters\.type is 'yarn', but rope_parameters\.rope_type is 'linear'",
        ),
        (
            "llama",
            {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}},
            "this family rotates whole heads",
        ),
        ("llama3", {"original_max_position_embeddings": 48}, "both say the same thing"),
        ("pythia", {"rope_theta": 77.0}, r"rope_theta is 77\.0, but the base of rotary"),
        ("pythia", {"rotary_pct": 0.5}, "rotary_pct is 0.5, but the share of a head"),
        ("pythia", {"head_dim": 4}, "head_dim is 4, but the width over the number of heads is 8"),
        ("gpt2", {"hidden_size": 48}, "hidden_size is 48, but n_embd is 24"),
        ("gpt2", {"n_ctx": 32}, "n_ctx is 32, but n_positions is 64"),
        ("gpt2", {"num_hidden_layers": 1}, "num_hidden_layers is 1, but n_layer is 2"),
        ("gemma", {"hidden_activation": "relu"}, "hidden_act and hidden_activation differ"),
        ("gemma2", {"hidden_act": "relu"}, "hidden_act and hidden_activation differ"),
        ("gemma2", {"sliding_window_size": 9}, "sliding_window_size is 9, but sliding_window is 5"),
        ("gemma3", {"rope_scaling": LINEAR}, "rope_parameters and rope_scaling both say"),
        ("gemma3", {"rope_parameters": {"rope_theta": 9.0}}, "rope_parameters.rope_theta"),
        ("gemma3", {"rope_local_base_freq": 5.0}, "rope_local_base_freq is 5.0, but"),
        (
            "qwen2-window",
            {"use_sliding_window": False},
            "names windows where there is no sliding_window",
        ),
    ],
)
def test_two_spellings_that_differ_are_refused(name, changes, message, folders, tmp_path):
    with pytest.raises(HarnessError, match=message):
        load_model(copied(folders(name), tmp_path, **changes))


def test_one_fact_may_be_told_twice(folders, tmp_path):
    """The same model, with what it says told once more."""
    twice = {"rope_theta": 10000, "rope_scaling": LINEAR | {"rope_theta": 10000.0}}
    wanted = load_model(folders("llama-linear"))
    found = load_model(copied(folders("llama-linear"), tmp_path, **twice))
    assert found.config == wanted.config


def test_null_and_absent_are_not_the_same_window(folders, tmp_path):
    """As in `transformers`: a null says that there is none, nothing says the usual one."""
    assert load_model(folders("mistral")).config.window is None
    found = load_model(copied(folders("mistral"), tmp_path, drop=["sliding_window"])).config
    assert (found.window, found.window_layers) == (4096, (0, 1, 2))


def test_a_vision_model_ties_both_or_none(folders, tmp_path):
    text = read_config(folders("gemma3"))
    with pytest.raises(HarnessError, match="not the same in text_config and beside it"):
        config_json(tmp_path, "gemma3", text_config=text, tie_word_embeddings=False)
    with pytest.raises(HarnessError, match="hidden_size: this reader does not support it"):
        config_json(tmp_path, "gemma3", text_config=text, hidden_size=24)


# ---------------------------------------------------------------- unknown fields
@pytest.mark.parametrize("name", ["gpt2", "pythia", "llama", "qwen3", "gemma2", "gemma3"])
def test_a_field_that_nobody_knows_is_refused_by_name(name, folders, tmp_path):
    with pytest.raises(HarnessError, match=r"config\.json: residual_scale: this reader does not"):
        load_model(copied(folders(name), tmp_path, residual_scale=0.5))


def test_fields_inside_are_refused_with_their_place(folders, tmp_path):
    rope = {"rope_parameters": {"rope_type": "default", "factor": 8.0}}
    with pytest.raises(HarnessError, match=r"config\.json: rope_parameters\.factor: this reader"):
        load_model(copied(folders("llama"), tmp_path, **rope))


@pytest.mark.parametrize(
    "changes",
    [
        {"auto_map": {"AutoModelForCausalLM": "modeling.Other"}},
        {"per_layer_config": {"0": {"num_attention_heads": 2}}},
        {"is_encoder_decoder": True},
        {"pruned_heads": {"0": [1]}},
        {"quantization_config": {"bits": 4}},
    ],
)
def test_fields_that_make_another_model_are_refused(changes, folders, tmp_path):
    with pytest.raises(HarnessError, match=next(iter(changes))):
        load_model(copied(folders("llama"), tmp_path, **changes))


@pytest.mark.parametrize("name", MODELS)
def test_every_field_that_transformers_writes_is_known(name, tmp_path):
    """Also those of generation and training, at whatever they are."""
    from transformers import GenerationConfig

    family, sizes = MODELS[name]
    text = "Text" if family == "Gemma3" else ""
    config = getattr(transformers, f"{family}{text}Config")(**sizes)
    fields = GenerationConfig._get_default_generation_params() | config.to_dict()
    assert config_json(tmp_path, **json.loads(json.dumps(fields, default=str))).n_layers


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"final_rms": True}, "final_rms is True, and a final norm of another kind"),
        ({"attn_coeff": 0}, "attn_coeff: this reader does not support it"),
        ({"num_experts": 2}, "num_experts: this reader"),
        ({"rotary_scaling_factor": 8.0}, "rotary_scaling_factor: this reader"),
        ({"load_in_4bit": True}, "quantised weights are not read"),
        ({"attn_scale": 0}, "attn_scale is 0, and scores are divided by it"),
        ({"attn_scale": -2.0}, r"attn_scale is -2\.0, and scores are divided by it"),
        ({"normalization_type": "RMSPre"}, "the norms have weights, which these have not"),
        ({"rotary_dim": 64}, "rotary_dim is 64, and a head has 4 coordinates"),
    ],
)
def test_fields_of_lens_form_are_read_or_refused(changes, message, tmp_path):
    state, config = in_lens_form(small_model("llama-like"))
    write(tmp_path, state, {**config, **changes})
    with pytest.raises(HarnessError, match=message):
        load_model(tmp_path)


def test_a_norm_that_is_not_stated_is_not_taken_for_none(tmp_path):
    """Theirs is then LN; null says that there is none."""
    state, config = in_lens_form(small_model("no-norm-bidirectional"))
    write(tmp_path, state, config)
    assert load_model(tmp_path).config.norm == "none"
    del config["normalization_type"]
    write(tmp_path, state, config)
    with pytest.raises(HarnessError, match="normalization_type is missing"):
        load_model(tmp_path)


def test_the_bookkeeping_of_lens_form_is_let_through(tmp_path):
    """What its `to_dict` gives beside what is read."""
    state, config = in_lens_form(small_model("llama-like"))
    more = {
        **{"model_name": "custom", "init_mode": "gpt2", "seed": 3, "n_params": 1, "device": "cpu"},
        **{"use_attn_result": True, "tokenizer_name": None, "final_rms": False, "n_devices": 1},
        **{"d_vocab_out": config["d_vocab"], "num_experts": None, "rotary_scaling_factor": 1.0},
        **{"window_size": None, "yarn_factor": 1.0, "dtype": "float32", "use_yarn_rope": False},
    }
    write(tmp_path, state, {**config, **more})
    load_model(tmp_path)


def test_one_norm_that_lost_its_weights_is_missing(tmp_path):
    """Norms are folded all together; a single one without weights is not taken as folded."""
    state, config = in_lens_form(small_model("gpt2-like"))
    del state["blocks.1.ln2.w"], state["blocks.1.ln2.b"]
    write(tmp_path, state, config)
    with pytest.raises(HarnessError, match=r"missing blocks\.1\.ln2\.b; missing blocks\.1\.ln2\.w"):
        load_model(tmp_path)


# ---------------------------------------------------------------- activations, context
@pytest.mark.parametrize(
    "theirs",
    [
        *("gelu", "gelu_python", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "quick_gelu"),
        *("relu", "silu", "swish", "tanh"),
    ],
)
def test_activations_are_those_of_transformers(theirs, folders, tmp_path):
    from transformers.activations import ACT2FN

    model = load_model(copied(folders("gpt2"), tmp_path, activation_function=theirs))
    x = torch.linspace(-6, 6, 1001)
    (block, *_) = model.layers()
    assert (block.activation(x) - ACT2FN[theirs](x)).abs().max() <= 1e-6


@pytest.mark.parametrize(
    "name", ["llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3"]
)
def test_without_a_stated_context_it_is_that_of_the_family(name, folders, tmp_path):
    theirs = type(random_theirs(name).config)()
    drop = ["max_position_embeddings"]
    found = load_model(copied(folders(name), tmp_path, drop=drop))
    assert found.config.n_ctx == theirs.max_position_embeddings


# ---------------------------------------------------------------- shapes without torch
SHAPES = [
    GPT2_SMALL,
    *(small_model(name).config for name in ("gpt2-like", "llama-like", "grouped", "rmsnorm")),
    small_model("no-norm-bidirectional").config,
    small_model("tied-wide-heads").config,
    replace(small_model("grouped").config, d_mlp=0),
    replace(small_model("gpt2-like", unembed_bias=True).config, d_vocab_out=3),
    small_model("llama-like", qk_norm=True, post_norms=True, unembed_bias=True).config,
]


@pytest.mark.parametrize("config", SHAPES)
def test_shapes_are_those_of_the_parameters(config):
    with torch.device("meta"):
        wanted = {name: tuple(p.shape) for name, p in Transformer(config).named_parameters()}
    assert parameter_shapes(config) == wanted


@pytest.mark.parametrize(
    ("change", "shape"),
    [
        (transposed, (3, 5)),
        (flattened, (3, 5)),
        (one_more, (4,)),
        (gpt2._LINEAR, (3, 6)),
        (gpt2._LINEAR, (6,)),
        (transformer_lens._head_rows, (2, 3, 5)),
        (transformer_lens._head_columns, (2, 3, 5)),
    ],
)
def test_a_change_of_a_tensor_changes_its_shape_so(change, shape):
    assert change.shape(shape) == tuple(change(torch.zeros(shape)).shape)


def test_matrices_of_other_axes_have_no_changed_shape():
    assert transposed.shape((3,)) is None
    assert transformer_lens._head_rows.shape((3, 4)) is None
    assert transformer_lens._head_columns.shape((3, 4)) is None


def test_reading_a_folder_imports_no_torch(folders):
    code = (
        "import sys; from pathlib import Path\n"
        "from harness.models.loading.read import read_checkpoint\n"
        "read_checkpoint(Path(sys.argv[1]))\n"
        "assert not {'torch', 'polars'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(folders("llama"))], check=True, cwd=ROOT)


# ---------------------------------------------------------------- shards
def shard(folder, weights, index):
    for name, part in weights.items():
        save_file(part, folder / name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))


def test_a_tensor_in_two_shards_is_refused(folders, tmp_path):
    weights = load_file(folders("llama") / "model.safetensors")
    names = sorted(weights)
    one = {name: weights[name] for name in names[:10]}
    two = {name: weights[name] for name in names[9:]}
    two[names[9]] = weights[names[9]] + 1
    index = dict.fromkeys(one, "a.safetensors") | dict.fromkeys(two, "b.safetensors")
    (tmp_path / "config.json").write_text((folders("llama") / "config.json").read_text())
    shard(tmp_path, {"a.safetensors": one, "b.safetensors": two}, index)
    with pytest.raises(HarnessError, match=rf"{names[9]} stands in a\.safetensors too"):
        load_model(tmp_path)


def test_a_tensor_in_another_shard_than_the_index_says_is_refused(folders, tmp_path):
    weights = load_file(folders("llama") / "model.safetensors")
    names = sorted(weights)
    index = dict.fromkeys(names[:10], "a.safetensors") | dict.fromkeys(names[9:], "b.safetensors")
    (tmp_path / "config.json").write_text((folders("llama") / "config.json").read_text())
    parts = {"a.safetensors": names[:10], "b.safetensors": names[10:]}
    shard(tmp_path, {k: {n: weights[n] for n in v} for k, v in parts.items()}, index)
    with pytest.raises(HarnessError, match=rf"{names[9]} is in this file, and the index says"):
        load_model(tmp_path)


@pytest.mark.parametrize("name", ["x" * 5000, "ü" * 200, "a\x00b", "a\ud800", "../x", "a\nb"])
def test_names_of_shards_that_no_file_has_are_refused(name, folders, tmp_path):
    (tmp_path / "config.json").write_text((folders("llama") / "config.json").read_text())
    shard(tmp_path, {}, {"x": name})
    with pytest.raises(HarnessError, match="is not the name of a file in this folder") as refused:
        load_model(tmp_path)
    assert len(str(refused.value)) < 400


# ---------------------------------------------------------------- pickles
def test_a_pickled_state_is_converted_by_the_two_lines_of_the_message(tmp_path):
    state, config = in_lens_form(small_model("gpt2-like"))
    (tmp_path / "config.json").write_text(json.dumps(config))
    torch.save(state, tmp_path / "state.pt")
    with pytest.raises(HarnessError, match=r"state\.pt is a pickle, which can run code") as refused:
        load_model(tmp_path)
    lines = [line.strip() for line in str(refused.value).splitlines()[1:]]
    assert len(lines) == 2
    exec("\n".join(lines), {})
    load_model(tmp_path)


def test_a_pickle_of_transformers_is_converted_by_the_two_lines(folders, tmp_path):
    theirs = random_theirs("gpt2")
    (tmp_path / "config.json").write_text((folders("gpt2") / "config.json").read_text())
    torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(HarnessError, match="is a pickle") as refused:
        load_model(tmp_path)
    exec("\n".join(line.strip() for line in str(refused.value).splitlines()[1:]), {})
    found, wanted = load_model(tmp_path)(TOKENS), theirs(TOKENS).logits
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)


# ---------------------------------------------------------------- absurd files
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ('{"model_type": "llama", "model_type": "gpt2"}', "'model_type' stands in it twice"),
        (b"\xff\xfe{}", "not valid JSON"),
        ('{"a": 1' + "0" * 5000 + "}", "not a model configuration|a is unknown"),
        (" " * (2**24 + 1), "at most 16777216 are read"),
        ("", "not valid JSON"),
        ("3", "must hold one object"),
    ],
    ids=["lists", "objects", "twice", "bytes", "digits", "size", "empty", "number"],
)
def test_files_that_are_no_configuration_are_refused(text, message, folders, tmp_path):
    copied(folders("llama"), tmp_path)
    (tmp_path / "config.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(HarnessError, match=message):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("llama", {"num_hidden_layers": 100_000}, "not a number of layers that 30 tensors can"),
        ("gemma3", {"num_hidden_layers": 10**12, "layer_types": None}, "tensors can hold"),
        ("mistral", {"num_hidden_layers": 10**12}, "tensors can hold"),
        ("gpt2", {"vocab_size": 10**18}, "vocab_size|d_vocab is 1000000000000000000, not at most"),
        ("gpt2", {"vocab_size": 1e18}, r"vocab_size is 1e\+18, not a positive whole number"),
        ("gpt2", {"n_embd": 10**8, "n_head": 1}, "has shape"),
        ("llama", {"rms_norm_eps": float("nan")}, "rms_norm_eps is nan, not a number"),
        ("llama", {"rms_norm_eps": -1e-5}, "norm_eps is -1e-05, not a number from 0 to 1"),
        ("llama", {"rms_norm_eps": 1e9}, "norm_eps is 1000000000.0, not a number from 0 to 1"),
        ("llama", {"rope_parameters": {"rope_theta": float("inf")}}, "rope_theta is inf, not"),
        ("llama", {"rope_parameters": {"rope_theta": 0}}, "base is 0.0, not a number above 1"),
        ("llama-linear", {"rope_parameters": {**LINEAR, "factor": 0}}, "factor is 0, not a posit"),
        ("gemma2", {"query_pre_attn_scalar": -4}, "scalar is -4, not a positive number"),
        ("gemma2", {"final_logit_softcapping": 0}, "softcapping is 0, not a positive number"),
        ("gemma2", {"sliding_window": -3}, "sliding_window is -3, not a positive whole number"),
        ("gemma2", {"hidden_activation": "x" * 10_000}, "hidden_activation is 'xxx"),
        ("llama", {"x" * 100_000: 1}, "this reader does not support it"),
    ],
)
def test_absurd_values_are_refused_before_anything_is_built(
    name, changes, message, folders, tmp_path, monkeypatch
):
    monkeypatch.setattr(Transformer, "__init__", lambda *_: pytest.fail("built"))
    with pytest.raises(HarnessError, match=message) as refused:
        load_model(copied(folders(name), tmp_path, **changes))
    assert len(str(refused.value)) < 800


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_layers": 100_000}, "n_layers is 100000, not at most 4096"),
        ({"n_layers": 4000}, "and the weights are 29 tensors"),
        ({"d_vocab": 10**18}, "d_vocab is 1000000000000000000, not at most"),
        ({"d_vocab": 10**400}, "d_vocab is"),
        ({"d_vocab": 10**9}, r"embedding has shape \(\d+, \d+\), the configuration says \(10000"),
        ({"norm_eps": float("nan")}, "norm_eps is nan, not a number from 0 to 1"),
        ({"norm_eps": -1.0}, r"norm_eps is -1\.0, not a number from 0 to 1"),
        ({"embedding_scale": 0.0}, r"embedding_scale is 0\.0, not a number above 0"),
        ({"embedding_scale": float("inf")}, "embedding_scale is inf"),
        ({"embedding_scale": 10**400}, "embedding_scale is"),
        ({"window_layers": [0, 0], "window": 3}, "not a list of layers"),
        ({"window_layers": [10**18], "window": 3}, "not a list of layers"),
        ({"window_layers": list(range(10**4)), "window": 3}, "not a list of layers"),
        ({"logit_softcap": -1.0}, "logit_softcap is -1.0"),
        ({"query_scale": 0.0}, "query_scale is 0.0"),
    ],
)
def test_absurd_values_of_our_own_form(changes, message, tmp_path):
    save_model(small_model("gpt2-like"), tmp_path)
    copied_config = {**read_config(tmp_path), **changes}
    (tmp_path / "config.json").write_text(json.dumps(copied_config))
    with pytest.raises(HarnessError, match=message) as refused:
        load_model(tmp_path)
    assert len(str(refused.value)) < 800


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base": 1.0}, "base is 1.0"),
        ({"base": float("nan")}, "base is nan"),
        ({"factor": 0.0}, "factor is 0.0"),
        ({"amplitude": -1.0}, "amplitude is -1.0"),
        ({"scaling": "yarn", "original_ctx": 8, "slow": 4.0, "fast": 4.0}, "must be less than"),
    ],
)
def test_absurd_rotary_numbers(changes, message):
    with pytest.raises(HarnessError, match=message):
        Rotary(**changes)


def test_the_largest_sizes_are_allowed():
    TransformerConfig(**{**GPT2_SMALL.to_dict(), "n_layers": 4096, "n_ctx": 2**31 - 1})


# ---------------------------------------------------------------- mutations
@pytest.mark.parametrize("mutants", [10, pytest.param(90, marks=pytest.mark.slow)])
def test_mutated_configurations_load_or_are_refused(mutants, folders, tmp_path):
    """Seven forms, each mutated so often: no other error, bounded time and memory (slow: 12 s)."""
    places = [folders(name) for name in ("gpt2", "pythia", "llama-yarn", "gemma3", "qwen2-window")]
    ours, lens = tmp_path / "ours", tmp_path / "lens"
    for folder in (ours, lens):
        folder.mkdir()
    save_model(small_model("llama-like"), ours)
    write(lens, *in_lens_form(small_model("llama-like")))
    done = subprocess.run(
        [sys.executable, "-m", "support.mutated_configs", str(mutants), *places, ours, lens],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["loaded"] + seen["refused"] == 7 * mutants
    assert seen["refused"] > 3 * mutants
    assert seen["loaded"] > mutants / 3
    assert seen["longest"] < 1000
    assert seen["slowest"] < 5
    assert seen["peak_mib"] < 1024
