"""Real cells, end to end: a small model trained on brackets, every method, all choices."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from support.fake_cells import a_method, a_model, a_task, loaded
from support.rounding import kl_bound

from harness.circuits.edges.optimal import learn_constants
from harness.circuits.files import load_circuit
from harness.datasets import stream
from harness.datasets.open import open_data
from harness.discovery.acdc.acdc import Acdc
from harness.errors import HarnessError
from harness.runs.compute.cell import compute_cell
from harness.runs.plan import ModelSource, make_cell
from harness.runs.plan.identities import task_identity
from harness.runs.store import CellStore
from harness.runs.store.circuits import stored_circuit
from harness.runs.store.models import ModelStore
from harness.spec.load import Library
from harness.spec.types import CircuitTarget, Runtime, TrainingTarget

EDGES = 1 * 2 * 3 * 1 + (1 + 2) + 4  # one layer of two heads: q, k, v; MLP; logits


USUAL = Runtime(threads=1)  # small tensors; test processes share the cores


def a_cell(method="eap", seed=0, limit=None, runtime=USUAL, **choices):
    task = a_task()
    task = replace(
        task,
        evaluation=replace(
            task.evaluation,
            **{"sizes": (0.2, 0.5, 1.0), "discovery_pairs": 24, "test_pairs": 32, **choices},
        ),
    )
    model = replace(a_model(), training=replace(a_model().training, steps=40, learning_rate=0.01))
    source = ModelSource(model, "toy-model", loaded(task).folder)
    return make_cell(loaded(task), source, a_method(method), "method", seed, runtime, limit)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return ModelStore(tmp_path_factory.mktemp("models"))


@pytest.fixture
def few_steps(monkeypatch):
    """Constants are learned for fewer steps than usual."""
    monkeypatch.setattr(
        "harness.circuits.edges.patchable.learn_constants", partial(learn_constants, steps=150)
    )


def compute(cell, models):
    return compute_cell(cell, models, lambda text: None)


def stored(cell, models, folder):
    """Publish the cell as a run would, and return the bytes of its result."""
    store = CellStore(folder)
    store.publish(cell.id, compute(cell, models), {})
    return (folder / "cells" / cell.id / "result.json").read_bytes()


def test_circuits_that_a_method_settled_on_stand_beside_those_cut_from_its_scores(
    models, tmp_path, monkeypatch
):
    """The part `settled` of ACDC's result is the result of the same scores without circuits."""
    cell = a_cell("acdc")
    result = json.loads(stored(cell, models, tmp_path / "own"))
    settled = result.pop("settled")
    assert settled["circuits"] == 8

    discover = Acdc.discover
    monkeypatch.setattr(
        Acdc, "discover", lambda self, problem: replace(discover(self, problem), circuits=())
    )
    cut = json.loads(stored(cell, models, tmp_path / "cut"))
    assert "settled" not in cut
    assert settled["curve"] == cut["curve"]
    assert settled["summary"] == cut["summary"]
    assert settled["summary"]["size_at"] == "ranking"
    assert result["summary"]["size_at"] == "grid"
    assert settled["summary"]["cmd"] != result["summary"]["cmd"]
    assert {name: result[name] for name in ("whole", "empty", "plain", "ground_truth")} == {
        name: cut[name] for name in ("whole", "empty", "plain", "ground_truth")
    }
    own, other = (
        CellStore(tmp_path / run).tensors(cell.id, "examples.safetensors") for run in ("own", "cut")
    )
    for name in ("metric", "kl", "accuracy"):
        assert np.array_equal(own[f"by_score/{name}"], other[f"curve/{name}"])


@pytest.mark.parametrize(
    "method", ["random", "random_paths", "activation_patching", "eap", "eap_ig"]
)
def test_every_method_gives_a_valid_result_with_its_anchors(method, models, tmp_path):
    result = json.loads(stored(a_cell(method), models, tmp_path))  # checked against the schema
    assert result["total"] == EDGES
    assert [point["requested"] for point in result["curve"]] == [2, 6, EDGES]
    assert result["unit"] == "edges"
    assert [point["counts"] for point in result["curve"]] == [
        {"edges": point["size"]} for point in result["curve"]
    ]
    whole, empty, last = result["whole"], result["empty"], result["curve"][-1]
    assert whole["faithfulness"]["value"] == 1
    assert whole["kl"]["value"] == pytest.approx(0, abs=1e-9)
    assert whole["agreement"]["value"] == 1
    assert empty["faithfulness"]["value"] == 0
    assert last["faithfulness"]["value"] == 1
    assert last["size"] == EDGES
    assert last["sparsity"] == 0
    assert (result["n_examples"], result["n_discovery"]) == (32, 24)
    assert set(result["model_quality"]) == {"validation", "test"}


@pytest.mark.parametrize("ablation", ["interchange", "zero"])
def test_the_plain_model_is_the_model_with_all_edges_within_rounding(ablation, models):
    """Edges add up to the model whatever the ablation; the plain model's distances are 0."""
    result = compute(a_cell("random", ablation=ablation), models).result
    plain, whole = result["plain"], result["whole"]
    assert plain.keys() == whole.keys()
    assert (plain["kl"]["value"], plain["squared_error"]["value"]) == (0, 0)
    for name, measured in whole.items():
        for number in ("value", "low", "high"):
            assert plain[name][number] == pytest.approx(measured[number], abs=1e-5), name


@pytest.mark.parametrize("method", ["eap", "random"])
def test_sizes_that_reach_a_faithfulness_are_searched_along_one_ranking(method, models):
    """Never beyond the smallest measured circuit that reaches it."""
    result = compute(a_cell(method), models).result
    assert result["summary"]["size_at"] == "ranking"
    for threshold in (0.85, 0.95, 0.99):
        size = result["summary"][f"size_at_{threshold:.2f}"]
        reaching = [
            point["size"]
            for point in result["curve"]
            if point["faithfulness"]["value"] >= threshold
        ]
        assert size is not None
        assert 0 < size <= min(reaching) <= EDGES


def test_counts_ask_for_so_many_elements(models, tmp_path):
    result = json.loads(stored(a_cell("eap", counts=(3, 5, EDGES)), models, tmp_path))
    assert [point["requested"] for point in result["curve"]] == [3, 5, EDGES]
    assert [point["size_requested"] for point in result["curve"]] == [3 / EDGES, 5 / EDGES, 1]
    assert result["summary"]["cmd"]["value"] is not None


def test_more_elements_than_there_are_is_an_error(models):
    with pytest.raises(HarnessError, match=rf"evaluation\.counts.*{EDGES + 1}.*there are {EDGES}"):
        compute(a_cell("eap", counts=(3, EDGES + 1)), models)


@pytest.mark.parametrize("method", ["eap", "random_paths"])
def test_targets_are_reached_by_the_smallest_circuit_and_measured_there(method, models, tmp_path):
    targets = (CircuitTarget(faithfulness=0.9), CircuitTarget(kl=0.01), CircuitTarget(kl=0.0))
    cell = a_cell(method, targets=targets)
    assert cell.id != a_cell(method).id
    result = json.loads(stored(cell, models, tmp_path))
    first, second, last = result["curve"]
    assert first["faithfulness"]["value"] >= 0.9 - 1e-6
    assert second["kl"]["value"] <= 0.01 + 1e-6
    assert first["target"] == {"measure": "faithfulness", "value": 0.9, "reached": True}
    assert last["size"] <= EDGES
    assert result["summary"]["cmd"]["value"] is None  # no grid of sizes, no area
    # One element less along the ranking does not reach it.
    less = compute(a_cell(method, counts=(first["requested"] - 1,)), models).result["curve"][0]
    assert less["faithfulness"]["value"] < 0.9


def test_a_result_says_where_answers_need_not_be_how_prompts_go_on(models, tmp_path):
    """That changes no number, so the id is the same."""
    cell = a_cell("random")
    data = replace(cell.task.spec.data, continues=False)
    task = replace(cell.task, spec=replace(cell.task.spec, data=data))
    other = replace(cell, task=task)
    assert task_identity(task) == task_identity(cell.task)
    usual, said = (
        json.loads(stored(one, models, tmp_path / name))
        for one, name in ((cell, "usual"), (other, "said"))
    )
    assert said.pop("continues") is False
    assert said == usual


def test_ids_do_not_know_of_counts_and_targets_where_there_are_none():
    evaluation = a_cell().identity["task"]["evaluation"]
    assert "counts" not in evaluation
    assert "targets" not in evaluation
    assert a_cell(counts=(3,)).identity["task"]["evaluation"]["sizes"] == []


def test_stored_examples_reproduce_the_stored_estimates(models):
    output = compute(a_cell(), models)
    curve, examples = output.result["curve"], output.tensors["examples.safetensors"]
    for index, point in enumerate(curve):
        for name in ("metric", "kl", "accuracy"):
            mean = examples[f"curve/{name}"][index].mean()
            assert mean == pytest.approx(point[name]["value"], abs=1e-12)
    whole, empty = (examples[f"{name}/metric"].mean() for name in ("whole", "empty"))
    faithful = (examples["curve/metric"].mean(1) - empty) / (whole - empty)
    wanted = [point["faithfulness"]["value"] for point in curve]
    np.testing.assert_allclose(faithful, wanted, atol=1e-12)


@pytest.mark.parametrize("ablation", ["interchange", "mean", "resample", "zero"])
def test_the_worst_prompts_are_stored_in_words(models, ablation):
    """Run again by themselves, they differ from the model as they did among all pairs."""
    cell = a_cell("eap", ablation=ablation)
    output = compute(cell, models)
    prompts = json.loads(output.tensors["prompts.json"])
    row = [point["size"] for point in output.result["curve"]].index(prompts["size"])
    kl = output.tensors["examples.safetensors"]["curve/kl"][row]
    pairs = open_data(cell.task).pairs("test", 32, 0)
    tokens = open_data(cell.task).tokenizer.tokens
    assert [one["kl"] for one in prompts["pairs"]] == sorted(kl, reverse=True)[:12]
    for one in prompts["pairs"]:
        assert one["kl"] == kl[one["row"]]
        length = int(pairs.lengths[one["row"]])
        for name in ("clean", "corrupted"):
            ids = getattr(pairs, name)[one["row"], :length]
            assert one[name] == [tokens[token] for token in ids]
        (read,) = one["reads"]
        assert read["kl"] == pytest.approx(one["kl"], rel=1e-4, abs=1e-6)
        assert read["good"] == [tokens[token] for token in pairs.good[one["row"], 0] if token >= 0]
        shares = [guess["probability"] for guess in read["circuit"]["top"]]
        assert shares == sorted(shares, reverse=True)


def test_the_stored_circuit_is_one_of_the_curve(models, tmp_path):
    output = compute(a_cell("activation_patching"), models)
    path = tmp_path / "circuit.safetensors"
    path.write_bytes(output.tensors["circuit.safetensors"])
    circuit = load_circuit(path)
    assert circuit.source["method"] == "activation_patching"
    assert circuit.size in [point["size"] for point in output.result["curve"]]
    assert circuit.scores is not None
    assert circuit.scores.shape == circuit.kept.shape == (EDGES,)


def test_a_task_with_ordered_answers_has_their_measures(tmp_path):
    """The shipped task on a small model: in the curve, for the anchors, and by example."""
    task = Library().task("greater_than")
    small = {"sizes": (0.5, 1.0), "discovery_pairs": 8, "test_pairs": 16}
    task = replace(task, spec=replace(task.spec, evaluation=replace(task.spec.evaluation, **small)))
    model = replace(a_model(), training=replace(a_model().training, steps=2, warmup_steps=1))
    source = ModelSource(model, "tiny", task.folder)
    cell = make_cell(task, source, a_method("random"), "method", 0, USUAL, None)
    models = ModelStore(tmp_path / "models")
    result = json.loads(stored(cell, models, tmp_path / "run"))
    assert result["whole"]["kendall_tau"]["value"] == pytest.approx(1, abs=1e-3)
    assert result["curve"][-1]["prob_diff_10"] == result["whole"]["prob_diff_10"]
    examples = CellStore(tmp_path / "run").tensors(cell.id, "examples.safetensors")
    for name in ("prob_diff_10", "kendall_tau", "agreement"):
        for index, point in enumerate(result["curve"]):
            mean = examples[f"curve/{name}"][index].mean()
            assert mean == pytest.approx(point[name]["value"], abs=1e-12)


def test_a_measure_that_a_task_cannot_have_is_refused_before_the_search(models, monkeypatch):
    from harness.discovery.controls.random import Random

    monkeypatch.setattr(Random, "discover", lambda *_: pytest.fail("it searched"))
    with pytest.raises(HarnessError, match=r"evaluation.measures: kendall_tau need one ordered"):
        compute(a_cell("random", measures=("kendall_tau",)), models)


def test_the_circuit_of_every_size_is_stored(models, tmp_path):
    cell = a_cell("activation_patching")
    stored(cell, models, tmp_path)
    store = CellStore(tmp_path)
    curve = store.result(cell.id)["curve"]
    circuits = [stored_circuit(store, cell.id, point["size_requested"]) for point in curve]
    assert [circuit.size for circuit in circuits] == [point["size"] for point in curve]
    assert all(circuit.scores is None for circuit in circuits)
    one = stored_circuit(store, cell.id)
    assert (one.source["cut_from"], one.source["scores"]) == ("scores", "additive")
    assert any(torch.equal(one.kept, circuit.kept) for circuit in circuits)


def test_the_stored_scores_are_those_the_stored_circuit_was_cut_from(models, monkeypatch, tmp_path):
    """Of several rankings, the one made for its size; not the middle one."""
    from harness.discovery.controls.random import Random
    from harness.discovery.problem import Discovery

    def several(_, problem):
        ones = torch.ones(len(problem.space), dtype=torch.float64)
        rankings = {made_for: ones * made_for for made_for in (2, 6, EDGES)}
        return Discovery(rankings[2], rankings)

    monkeypatch.setattr(Random, "discover", several)
    cell = a_cell("random")
    result = json.loads(stored(cell, models, tmp_path))
    curve = result["curve"]
    assert result["summary"]["size_at"] == "grid"  # there is no one order to search along
    one = stored_circuit(CellStore(tmp_path), cell.id)
    requested = next(p["requested"] for p in curve if p["size"] == one.size)
    assert one.scores.max() == requested
    assert one.source["cut_from"] == f"scores made for about {requested} edges"
    assert one.source["scores"] == "ranks"


def test_same_cell_same_bytes_and_other_seed_other_discovery(models, tmp_path):
    first, again = (stored(a_cell(), models, tmp_path / name) for name in ("a", "b"))
    assert first == again
    one, two = (compute(a_cell(seed=seed), models).result for seed in (0, 1))
    assert one["data_digest"]["discovery"] != two["data_digest"]["discovery"]
    assert one["data_digest"]["test"] == two["data_digest"]["test"]


@pytest.mark.parametrize(
    "choices",
    [
        {"ablation": "zero"},
        {"ablation": "mean"},
        {"ablation": "resample"},
        {"ablation": "optimal"},
        {"metric": "prob_diff"},
    ],
    ids=lambda choices: "-".join(choices.values()),
)
def test_other_choices_run_and_differ(choices, models, few_steps):
    usual = compute(a_cell(), models).result
    other = compute(a_cell(**choices), models).result
    whole, empty = other["whole"], other["empty"]
    assert (whole["faithfulness"]["value"], empty["faithfulness"]["value"]) == (1, 0)
    assert whole["kl"]["value"] == pytest.approx(0, abs=1e-9)
    assert whole["agreement"]["value"] == 1
    assert whole["logit_diff"]["value"] == pytest.approx(  # the model is the model
        usual["whole"]["logit_diff"]["value"], rel=1e-5
    )
    assert other["curve"] != usual["curve"]
    assert {**other["choices"], "metric": other["metric"]}.items() >= choices.items()


def test_learned_constants_are_those_of_the_cell_whatever_the_method(models, tmp_path, few_steps):
    """Equal bytes twice; another method measures the same empty circuit and the same constants."""
    cell = a_cell(ablation="optimal")
    first, again = (stored(cell, models, tmp_path / name) for name in ("a", "b"))
    assert first == again
    one = json.loads(first)
    two = compute(a_cell("eap_ig", ablation="optimal"), models).result
    mean = compute(a_cell(ablation="mean"), models).result
    assert one["empty"] == two["empty"] != mean["empty"]
    assert one["notes"] == two["notes"]
    # Here a few steps from a distance near 0; tests/circuits/test_optimal.py shows what they gain.
    assert one["notes"]["optimal/distance"] != one["notes"]["optimal/distance_of_means"]
    assert mean["notes"] == {}


def test_double_precision_agrees_with_single(models):
    single = compute(a_cell(), models).result
    double = compute(a_cell(runtime=replace(USUAL, dtype="float64")), models).result
    # They are trained apart, so only their sanity can be compared.
    assert double["whole"]["faithfulness"]["value"] == 1
    assert double["total"] == single["total"]


HALVES = pytest.mark.parametrize("dtype", ["bfloat16", "float16"])


def in_single_and(dtype, method, models):
    return [
        compute(a_cell(method, runtime=replace(USUAL, dtype=one)), models)
        for one in ("float32", dtype)
    ]


@HALVES
def test_half_precision_is_near_single(dtype, models):
    """Of the same trained weights and the same random circuits, every number of the curve.

    Logits of this model are about 0.1, and off by less than ε/2.
    """
    single, half = (one.result for one in in_single_and(dtype, "random_paths", models))
    error = torch.finfo(getattr(torch, dtype)).eps / 2
    points = [(one["empty"], one["whole"], *one["curve"]) for one in (single, half)]
    assert half["curve"] != single["curve"]
    for exact, rounded in zip(*points, strict=True):
        assert rounded.get("size") == exact.get("size")
        logit_diff, kl = (exact[name]["value"] for name in ("logit_diff", "kl"))
        assert abs(rounded["logit_diff"]["value"] - logit_diff) < error
        assert abs(rounded["kl"]["value"] - kl) < kl_bound(kl, error)


@HALVES
def test_half_precision_ranks_edges_as_single_does(dtype, models, tmp_path):
    scores = []
    for index, output in enumerate(in_single_and(dtype, "eap", models)):
        path = tmp_path / f"{index}.safetensors"
        path.write_bytes(output.tensors["circuit.safetensors"])
        circuit = load_circuit(path)
        scores.append(circuit.scores)
    assert not torch.equal(*scores)
    ranks = torch.stack([x.argsort().argsort().double() for x in scores])
    assert torch.corrcoef(ranks)[0, 1] > 0.95


@HALVES
def test_a_model_for_half_precision_is_trained_in_single(dtype, models):
    cells = [a_cell(runtime=replace(USUAL, dtype=one)) for one in ("float32", dtype)]
    for cell in cells:
        compute(cell, models)
    one, other = ((models.path(cell.model_id) / "model.safetensors").read_bytes() for cell in cells)
    assert cells[0].model_id != cells[1].model_id
    assert one == other


@HALVES
def test_a_precision_that_torch_has_not_got_is_a_clear_error(dtype, models, monkeypatch):
    def lacking(*_):
        raise RuntimeError('"baddbmm" not implemented for this type\nand more')

    monkeypatch.setattr("torch.baddbmm", lacking)
    wanted = f"runtime.dtype is {dtype}, but torch cannot compute in it on cpu here .*for this type"
    with pytest.raises(HarnessError, match=rf"{wanted}\); choose float32"):
        compute(a_cell(runtime=replace(USUAL, dtype=dtype)), models)


def test_limit_takes_fewer_pairs_and_is_marked(models):
    cell = a_cell(limit=5)
    result = compute(cell, models).result
    assert result["smoke"]
    assert (result["n_examples"], result["n_discovery"]) == (5, 5)
    assert cell.id != a_cell().id


def test_discovery_prompts_may_come_again_and_the_result_says_so(models, monkeypatch):
    monkeypatch.setattr(stream, "PATIENCE", 5000)
    task = Library().task("known/reverse")
    distinct = len(open_data(task).pairs("train", 1000, 0, at_most=True))

    def result(**choices):
        evaluation = replace(task.spec.evaluation, test_pairs=4, **choices)
        changed = replace(task, spec=replace(task.spec, evaluation=evaluation))
        source = ModelSource(task.spec.model, "reverse", task.folder)
        cell = make_cell(changed, source, a_method("random"), "method", 0, USUAL)
        return compute(cell, models).result

    with pytest.raises(HarnessError, match=r"come again: evaluation\.discovery_repeats"):
        result(discovery_pairs=distinct + 9)
    found = result(discovery_pairs=distinct + 9, discovery_repeats=True)
    assert (found["n_discovery"], found["n_discovery_prompts"]) == (distinct + 9, distinct)
    once = result(discovery_pairs=distinct)
    assert once["n_discovery"] == once["n_discovery_prompts"] == distinct
    assert once["data_digest"]["discovery"] != found["data_digest"]["discovery"]


def test_the_model_is_trained_once_and_then_found(tmp_path):
    store, lines = ModelStore(tmp_path), []
    for method in ("random", "eap"):
        compute_cell(a_cell(method), store, lines.append)
    assert sum("training model" in line for line in lines) == 1
    assert "model toy-model" in lines[-1]
    assert "is in the cache" in lines[-1]


def test_an_unknown_device_is_a_clear_error(models, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(HarnessError, match="torch sees no CUDA device"):
        compute(a_cell(runtime=replace(USUAL, device="cuda")), models)


def test_scores_that_are_not_finite_are_refused(models, monkeypatch):
    from harness.discovery.controls.random import Random
    from harness.discovery.problem import Discovery

    monkeypatch.setattr(
        Random,
        "discover",
        lambda _, problem: Discovery(torch.full((len(problem.space),), torch.nan)),
    )
    with pytest.raises(HarnessError, match="scores that are not finite"):
        compute(a_cell("random"), models)


TASK = """
spec_version: 1
name: small
title: A small task
tokenizer: {kind: characters, bos: true}
data: {kind: generator, generator: brackets, params: {lengths: [9, 12]}}
evaluation:
  granularity: edge
  component: heads_qkv_mlps
  ablation: interchange
  positions: all
  direction: noising
  set: complement
  sizes: [0.1, 0.5, 1.0]
  discovery_pairs: 16
  test_pairs: 16
model:
  kind: train
  architecture: {n_layers: 1, n_heads: 2, d_model: 16}
  training: {objective: answer, steps: 300, batch_size: 64, evaluate_every: 50}
"""


def _run(folder, *, wait=True):
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "harness",
            "run",
            "small.yaml",
            "-o",
            "results",
            "--threads",
            "1",
            "--seeds",
            "0",
        ],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    if wait:
        assert process.wait() == 0
    return process


def _results(folder):
    cells = folder / "results" / "small" / "cells"
    return {path.parent.name: path.read_bytes() for path in cells.glob("*/result.json")}


@pytest.mark.slow
def test_kill_9_at_any_moment_then_rerun_gives_the_same_bytes(tmp_path):
    """Killed in training and between cells; the rerun ends as if nothing had happened."""
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "small.yaml").write_text(TASK)
    _run(tmp_path / "whole")
    killed = tmp_path / "killed"
    for seconds in (2.5, 4.0, 5.0, 6.0):
        process = _run(killed, wait=False)
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
    _run(killed)
    assert _results(killed) == _results(tmp_path / "whole")
    assert len(_results(killed)) == 5
    leftovers = [p for p in (killed / "results").rglob("*") if "draft" in p.name]
    assert not leftovers


@pytest.mark.slow
def test_two_runs_on_one_folder_finish_every_cell_once(tmp_path):
    (tmp_path / "small.yaml").write_text(TASK)
    both = [_run(tmp_path, wait=False) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert len(_results(tmp_path)) == 5
    models = [p for p in (tmp_path / "results" / "models").iterdir() if p.name[0] != "."]
    assert len(models) == 1


def test_early_stop_target_is_part_of_the_models_identity():
    cell = a_cell()
    training = replace(cell.model.training, target=TrainingTarget(value=0.9))
    source = ModelSource(replace(cell.model, training=training), "toy-model", cell.model_folder)
    other = make_cell(cell.task, source, cell.method, "method", 0, USUAL, None)
    assert other.model_id != cell.model_id
