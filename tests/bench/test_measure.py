"""The bench: every row with its floor, models by name, spec or folder, memory by counting."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from harness.bench import measure, rows
from harness.bench.floors import floors
from harness.bench.memory import step_gib
from harness.bench.models import MODELS, VOCABULARY, count_parameters, shape_of
from harness.bench.subject import ROWS, Bench, Subject
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.patched.live import LiveNodes
from harness.discovery.patching import cost as activation_patching_cost
from harness.discovery.patching.edges import Patcher
from harness.discovery.registry import built_in, make_method
from harness.errors import HarnessError, NotFound
from harness.models.config import GPT2_SMALL, TransformerConfig
from harness.runs.compute.cost import in_fresh_process

TINY = Bench(model="small-random", batch=2, length=6, threads=1, repeats=1)
CODELLAMA = MODELS["codellama-13b-random"]


@pytest.fixture
def without_peaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of its own for each row would take long."""
    monkeypatch.setattr(measure, "in_fresh_process", lambda *_: 1.0)


# ---------------------------------------------------------------- floors
def test_floors_of_gpt2_small_by_hand() -> None:
    head, mlp = 4 * 768 * 64, 2 * 768 * 3072
    blocks, unembed = 12 * (12 * head + mlp), 768 * 50257
    mixing = 32_491 * 768
    plain, answer = 3 * (blocks + unembed), unembed / 18
    graph = Graph.of(GPT2_SMALL)
    one_head = LiveNodes(graph, ((3,), *((),) * 11), (False,) * 12)
    found = floors(GPT2_SMALL, 18, one_head)
    assert list(found) == list(ROWS)
    assert 0.7 < found["eap"] < 0.9
    small = head + answer + (3 + 2) * 768  # the input to q, k, v; both writers to the logits
    forward = blocks + answer
    layer = 12 * head + mlp
    above = sum((mlp + (11 - x) * layer) + (11 - x) * layer for x in range(12))
    wanted = {
        "eap": 3 * blocks + 2 * answer + mixing,
        "eap_ig_clean_corrupted": 4 * forward + mixing,
        "eap_ig_activations(2)": 3 * blocks + mixing + 2 * 2 * (blocks + above + 25 * answer),
        "mask_gradient_ig(5)": blocks + 5 * (2 * forward + 3 * mixing),
        "evaluation": forward + mixing,
        "evaluation @0.5%": small,
        "subnetwork_probing step": blocks + 3 * forward + 3 * mixing,
    }
    for name, cost in wanted.items():
        assert found[name] == pytest.approx(cost / plain), name


def test_floors_of_one_layer_edge_by_edge() -> None:
    """L = 1, D = 4, H = 2, K = 2, gated MLP of 3, V = 5, T = 2; heads share keys and values."""
    config = TransformerConfig(
        n_layers=1,
        n_heads=2,
        n_key_value_heads=1,
        d_model=4,
        d_head=2,
        d_mlp=3,
        d_vocab=5,
        n_ctx=2,
        gated=True,
    )
    one_map, mlp, answer = 8, 3 * 4 * 3, 10
    blocks = (2 + 1 + 1 + 2) * one_map + mlp
    plain = 3 * (blocks + 20)
    graph = Graph.of(config)
    # input to 2 q, 1 k, 1 v; input and 2 heads to the MLP; these and the MLP to the logits
    assert graph.n_edges == 4 + 3 + 4
    query, shared = 2 * one_map + mlp, 3 * one_map + mlp
    patched = 2 * query + 2 * shared + 3 * mlp + 11 * answer
    found = floors(config, 2, LiveNodes.all(graph))
    assert found["activation_patching per edge"] == pytest.approx(patched / 11 / plain)
    replaced = blocks + 2 * mlp + 4 * answer  # the input; two heads; the MLP; each read
    assert found["node_patching"] == pytest.approx((2 * blocks + answer + replaced) / plain)
    pairs = 1 + 3 + 4
    assert found["information_flow_routes"] == pytest.approx((blocks + pairs * 4) / plain)
    whole = (blocks + answer + 11 * 4) / plain
    assert found["evaluation"] == pytest.approx(whole)
    assert found["evaluation @0.5%"] == pytest.approx(whole)  # all nodes live


# ---------------------------------------------------------------- rows
def test_rows_have_the_names_that_the_help_lists() -> None:
    assert tuple(ROWS) == rows.NAMES
    assert tuple(MODELS) == rows.BUILT_IN


@pytest.mark.usefixtures("without_peaks")
def test_the_bench_has_every_row_with_its_floor() -> None:
    found = measure.run_bench(TINY, rows.NAMES)
    assert [row["method"] for row in found["rows"]] == list(rows.NAMES)
    for row in found["rows"]:
        assert list(row) == [
            "method",
            "cost_fb",
            "floor_fb",
            "seconds",
            "tokens_per_second",
            "peak_mib",
            "ratio",
        ]
        assert row["ratio"] is found["plain_ratio"] is None
        assert row["cost_fb"] == pytest.approx(row["seconds"] / found["plain_fb_seconds"])
        assert row["tokens_per_second"] == pytest.approx(12 / row["seconds"])
        assert (row["floor_fb"] > 0) == (row["method"] != "projection")  # which only compares
    assert {name: found[name] for name in list(found)[:8]} == {
        "model": "small-random",
        "parameters": count_parameters(MODELS["small-random"]),
        "edges": 479,
        "batch": [2, 6],
        "threads": 1,
        "device": "cpu",
        "dtype": "float32",
        "tf32": False,
    }


@pytest.mark.usefixtures("without_peaks")
def test_rows_may_be_named_and_have_a_default() -> None:
    assert [row["method"] for row in measure.run_bench(TINY)["rows"]] == list(rows.STANDARD)
    named = measure.run_bench(TINY, ("node_attribution", "eap"))["rows"]
    assert [row["method"] for row in named] == ["eap", "node_attribution"]


@pytest.mark.usefixtures("without_peaks")
def test_the_bench_runs_in_half_precision() -> None:
    found = measure.run_bench(replace(TINY, dtype="bfloat16"), ("eap", "edge_pruning step"))
    assert found["dtype"] == "bfloat16"
    assert len(found["rows"]) == 2
    whole = measure.run_bench(TINY, ("eap",))["counted_gib"]
    for part in ("weights", "writers", "folded readers"):
        assert found["counted_gib"][part] == pytest.approx(whole[part] / 2)
    assert found["counted_gib"]["masks"] == whole["masks"]  # learned in float32


@pytest.mark.usefixtures("without_peaks")
def test_two_precisions_are_run_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that runs move on: by 3 s of processor time in one precision, 4 in the other.

    A row that times itself took 6 s in one, 2 in the other.
    """
    wall, processor, order = 0.0, 0.0, list[str]()
    dtype_of = {torch.float32: "float32", torch.bfloat16: "bfloat16"}

    def runs(subject, chosen):
        dtype = dtype_of[subject.model.embedding.dtype]

        def turn():
            nonlocal wall, processor
            order.append(dtype)
            wall += 10.0
            processor += {"float32": 4.0, "bfloat16": 3.0}[dtype]

        own = {"float32": 2.0, "bfloat16": 6.0}[dtype]
        return {"plain": turn, "eap": turn, "acdc per edge": lambda: own}

    monkeypatch.setattr(measure, "_runs", runs)
    monkeypatch.setattr(measure.time, "perf_counter", lambda: wall)
    monkeypatch.setattr(measure.time, "process_time", lambda: processor)
    asked = replace(TINY, dtype="bfloat16", beside="float32", repeats=2)
    found = measure.run_bench(asked, ("eap", "acdc per edge"))
    assert (found["dtype"], found["beside"]) == ("bfloat16", "float32")
    assert found["plain_fb_seconds"] == 10
    assert found["plain_ratio"] == 3 / 4
    assert [row["ratio"] for row in found["rows"]] == [3 / 4, 3]
    assert [row["seconds"] for row in found["rows"]] == [10, 6]
    assert order == ["float32", "bfloat16"] * 2 * 3  # plain and eap, once to warm up


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(NotFound, match=r"no row 'acdc' to bench; rows are eap, .*node_patch"):
        measure.run_bench(TINY, ("acdc",))
    with pytest.raises(NotFound, match="no model 'gpt5' to bench: it is none of gpt2-small-random"):
        measure.run_bench(replace(TINY, model="gpt5"))
    with pytest.raises(HarnessError, match="'small-random' takes 64 tokens, not 65"):
        measure.run_bench(replace(TINY, length=65))
    with pytest.raises(HarnessError, match=r"tf32 .* does not go with float32 on cpu"):
        measure.run_bench(replace(TINY, tf32=True))
    with pytest.raises(HarnessError, match=r"tf32 .* does not go with bfloat16 on cuda"):
        measure.run_bench(replace(TINY, tf32=True, device="cuda", dtype="bfloat16"))
    for beside, asked in (
        ("bfloat16", replace(TINY, dtype="bfloat16", beside="bfloat16")),
        ("float32 rounded to TF32", replace(TINY, device="cuda", tf32=True, beside="bfloat16")),
    ):
        with pytest.raises(HarnessError, match=f"bfloat16 beside {beside} cannot be measured"):
            measure.run_bench(asked)


def test_the_sample_of_activation_patching_adds_up_its_edges(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where every edge takes a second so does the mean edge, whichever are timed."""
    subject = Subject(TINY)
    patched = 0

    def a_second_each(run):
        nonlocal patched
        found = run()
        edges = len(found) if isinstance(found, torch.Tensor) else 0
        patched += edges
        return float(edges), found

    monkeypatch.setattr(activation_patching_cost, "_timed", a_second_each)
    for every, layers in ((1, 4), (4, 1), (9, 1)):
        patched = 0
        seconds = activation_patching_cost.seconds_per_edge(subject.problem(), every=every)
        assert seconds == pytest.approx(1)
        assert patched < layers * 4 * 21 + 21  # q, k, v, MLP of at most 21 writers; the logits


def test_patching_reader_by_reader_is_the_method() -> None:
    """What the sample times are the method's own numbers."""
    subject = Subject(TINY)
    problem = subject.problem()
    whole = make_method("activation_patching", {}).discover(problem)
    patcher = Patcher(problem, subject.batch, problem.loss("metric", subject.batch))
    _, removed = next(patcher.edges(subject.graph.before_attention(2)))
    clean, new = patcher.clean_reads(2), patcher.new_reads(2, removed)
    column = subject.graph.qkv_columns(2).start + 5
    found = patcher.at_reader(2, 5, clean, new) / len(subject.batch)
    scores = problem.edges.space.matrix(whole.scores)
    torch.testing.assert_close(scores[: len(found), column], found)


def test_every_method_states_its_cost() -> None:
    for kind, info in built_in().items():
        module = importlib.import_module(info.method.__module__)
        stated = (module.__doc__ or "").partition("Cost")
        assert "forward+backward" in " ".join(stated[2].split()), kind


# ---------------------------------------------------------------- models
def test_codellama_has_its_parameters_and_edges() -> None:
    assert count_parameters(CODELLAMA) == pytest.approx(13.0e9, rel=0.005)
    assert Graph.of(CODELLAMA, "none").n_edges == 3_872_820
    assert Graph.of(CODELLAMA).n_edges == 3_877_661


def test_llama_3_has_its_parameters_and_edges() -> None:
    assert count_parameters(MODELS["llama3-8b-random"]) == pytest.approx(8.03e9, rel=0.001)
    assert Graph.of(MODELS["llama3-8b-random"]).n_edges == 805_681


def test_a_spec_that_trains_its_model_says_its_shape() -> None:
    config = shape_of("small-6l-8h", 18)
    assert (config.n_layers, config.n_heads, config.d_model) == (6, 8, 64)
    assert (config.d_vocab, config.n_ctx) == (VOCABULARY, 18)


LLAMA = {
    "model_type": "llama",
    "hidden_size": 16,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "intermediate_size": 24,
    "vocab_size": 30,
    "max_position_embeddings": 32,
}


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    """A folder of a Llama without its weights."""
    folder = tmp_path / "llama"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA))
    return folder


@pytest.mark.usefixtures("without_peaks")
def test_a_folder_or_a_spec_that_loads_it_says_its_shape(llama: Path) -> None:
    spec = llama.parent / "tiny_llama.yaml"
    spec.write_text(
        "spec_version: 1\nname: tiny_llama\ntitle: Tiny Llama\nkind: load\npath: llama\n"
    )
    config = shape_of(str(llama), 18)
    assert (config.n_layers, config.n_groups, config.d_vocab) == (2, 2, 30)
    assert config.gated
    assert shape_of(str(spec), 18) == config
    own = llama.parent / "own"
    own.mkdir()
    (own / "config.json").write_text(json.dumps(config.to_dict()))
    assert shape_of(str(own), 18) == config
    asked = replace(TINY, model=str(spec))
    assert len(measure.run_bench(asked, ("edge_pruning step", "node_patching"))["rows"]) == 2


def test_a_shape_that_is_not_known_beforehand_is_refused(tmp_path: Path) -> None:
    head = "spec_version: 1\nname: far\ntitle: Far\n"
    (tmp_path / "far.yaml").write_text(head + "kind: load\nhub: some/model\n")
    with pytest.raises(HarnessError, match=r"of kind 'load', .* give the folder of a copy"):
        shape_of(str(tmp_path / "far.yaml"), 18)
    (tmp_path / "far.yaml").write_text(head + "kind: compile\n")
    with pytest.raises(HarnessError, match=r"of kind 'compile', .* before it is compiled"):
        shape_of(str(tmp_path / "far.yaml"), 18)
    (tmp_path / "config.json").write_text('{"act_fn": "gelu"}')
    with pytest.raises(HarnessError, match="TransformerLens does not say which biases"):
        shape_of(str(tmp_path), 18)


# ---------------------------------------------------------------- memory of a step
def test_a_step_of_codellama_fits_on_a_card_by_counting() -> None:
    found = step_gib(CODELLAMA, 8, 80, torch.bfloat16, "cuda")
    assert found["folded readers"] == pytest.approx(2 * 40 * 5120 * (3 * 5120 + 2 * 13824) / 2**30)
    assert found["writers"] == pytest.approx(2 * 2 * 1641 * 80 * 5120 / 2**30)  # one prompt
    assert found["all"] == pytest.approx(sum(found.values()) - found["all"])
    assert 40 < found["all"] < 141e9 / 2**30 - found["weights"]  # with gradients of the weights


def test_a_step_of_gpt2_small_runs_all_prompts_together_on_a_gpu() -> None:
    on_gpu = step_gib(GPT2_SMALL, 8, 80, torch.float32, "cuda")
    on_cpu = step_gib(GPT2_SMALL, 8, 80, torch.float32, "cpu")
    assert on_gpu["writers"] == pytest.approx(2 * 4 * 157 * 640 * 768 / 2**30)
    assert on_cpu["writers"] == pytest.approx(2 * 4 * 157 * 240 * 768 / 2**30)  # three prompts


@pytest.mark.slow
def test_a_step_takes_about_what_is_counted(tmp_path: Path) -> None:
    config = TransformerConfig(
        n_layers=6, n_heads=8, d_model=512, d_head=64, d_mlp=2048, d_vocab=512, n_ctx=64
    )
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    asked = Bench(model=str(tmp_path), batch=8, length=24, threads=1)
    counted = step_gib(config, 8, 24, torch.float32, "cpu")
    wanted = 1024 * (counted["all"] - counted["weights"])
    found = in_fresh_process(measure._peak, asked, "edge_pruning step")
    assert wanted > 100
    assert 0.8 * wanted < found < 1.6 * wanted
