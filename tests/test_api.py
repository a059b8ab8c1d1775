"""The public Python interface: the topic as a notebook, and what it refuses."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import harness
from harness.cli.topics import read_topic
from harness.errors import NotFound
from harness.reports.rows import COLUMNS

BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ROW = {"clean": "1 2 3", "corrupted": "2 2 3", "good": "1", "bad": "2"}


@pytest.fixture(scope="module")
def task() -> harness.OpenTask:
    return harness.load_task("known/reverse")


@pytest.fixture(scope="module")
def model(task: harness.OpenTask) -> harness.Transformer:
    return harness.load_model(task)


@pytest.fixture(scope="module")
def circuit(task: harness.OpenTask, model: harness.Transformer) -> harness.Circuit:
    return harness.discover(task, model, "eap_ig", size=0.2)


# ---------------------------------------------------------------- the package
def test_every_public_name_is_there() -> None:
    assert len(set(harness.__all__)) == len(harness.__all__)
    for name in harness.__all__:
        assert getattr(harness, name).__name__ == name
    assert set(harness.__all__) <= set(dir(harness))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        harness.nothing  # noqa: B018


def test_nothing_heavy_is_imported_before_it_is_used() -> None:
    code = (
        "import sys, harness\n"
        "harness.HarnessError, harness.MethodInfo, harness.GranularityInfo, harness.Generator\n"
        "harness.Discovery, harness.StreamData, harness.Vocabulary\n"
        "print([name for name in ('torch', 'polars', 'scipy') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


# ---------------------------------------------------------------- the topic
def test_the_topic_runs_as_a_notebook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    printed = []
    for language, file, text in BLOCK.findall(read_topic("python").text):
        if file:
            Path(file).parent.mkdir(parents=True, exist_ok=True)
            Path(file).write_text(text, encoding="utf-8")
        elif language == "python":
            exec(compile(text, "python.md", "exec"), names)
            printed.append(capsys.readouterr().out)
    assert Path("reverse.json").is_file()
    assert "'faithfulness'" in printed[1]
    assert "a3.h0->logits" in printed[1]
    assert list(names["rows"].columns) == list(COLUMNS)
    assert "3 computed, 0 reused, 0 failed" in printed[-1]
    assert "### reverse" in printed[-1]
    assert "A = eap_ig, B = eap." in printed[-1]


def test_a_circuit_is_evaluated_on_own_prompts_in_six_lines() -> None:
    blocks = [text for language, _, text in BLOCK.findall(read_topic("python").text)]
    (shown,) = (text for text in blocks if "Circuit.load" in text)
    assert len([line for line in shown.splitlines() if line.strip()]) <= 6
    for call in ("prompt_pairs", "evaluate", "strongest"):
        assert call in shown


def test_the_topic_says_what_calls_take() -> None:
    """Names of parameters in its tables are those of the functions."""
    shown = re.findall(r"^\| `(\w+)\(([^`]*)\)` \|", read_topic("python").text, re.MULTILINE)
    assert len(shown) == 9
    for name, given in shown:
        parameters = inspect.signature(getattr(harness, name)).parameters
        assert [one.split("=")[0].lstrip("*") for one in given.split(", ")] == list(parameters)


# ---------------------------------------------------------------- tasks and choices
def test_an_unknown_task_is_refused_with_a_near_name() -> None:
    with pytest.raises(NotFound, match="did you mean 'greater_than'"):
        harness.load_task("greater_thn")


def test_other_choices_leave_the_task_as_it_is(task: harness.OpenTask) -> None:
    changed = task.with_evaluation(ablation="mean").with_evaluation(test_pairs=8)
    assert changed.evaluation == replace(task.evaluation, ablation="mean", test_pairs=8)
    assert task.evaluation.ablation == "zero"
    assert len(harness.prompt_pairs(changed)) == 8


def test_one_key_says_how_large_circuits_are(task: harness.OpenTask) -> None:
    targets = task.with_evaluation(targets=[{"faithfulness": 0.95}, {"kl": 0.1}])
    assert [one.measure for one in targets.evaluation.targets or ()] == ["faithfulness", "kl"]
    assert repr(targets.evaluation.targets) == "(faithfulness 0.95, kl 0.1)"  # titles of cells
    assert targets.evaluation.sizes == ()
    assert targets.with_evaluation(test_pairs=8).evaluation.targets == targets.evaluation.targets
    counts = targets.with_evaluation(counts=[5, 10])
    assert (counts.evaluation.targets, counts.evaluation.counts) == (None, (5, 10))
    sizes = counts.with_evaluation(sizes=[0.5, 1.0])
    assert (sizes.evaluation.counts, sizes.evaluation.sizes) == (None, (0.5, 1.0))
    with pytest.raises(harness.HarnessError, match="give only one of counts, targets"):
        task.with_evaluation(counts=[5], targets=[{"kl": 0.1}])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ablation": "nothing"}, r"evaluation\.ablation: 'nothing' is not one of"),
        ({"ablatoin": "mean"}, "unknown key 'ablatoin'; did you mean 'ablation'"),
        ({"test_pairs": 0}, r"evaluation\.test_pairs: must be at least"),
        ({"sizes": [0.5, 0.1]}, r"evaluation\.sizes.*must ascend"),
        ({"granularity": "neuron"}, r"evaluation\.granularity: 'neuron'"),
    ],
)
def test_choices_that_a_file_could_not_make_are_refused(
    task: harness.OpenTask, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(harness.HarnessError, match=message):
        task.with_evaluation(**changes)


# ---------------------------------------------------------------- prompts
def test_own_rows_become_pairs_in_the_tokens_of_the_task(task: harness.OpenTask) -> None:
    pairs = harness.prompt_pairs(task, [ROW, {**ROW, "bad": ["2", "3"]}])
    text = task.data.tokenizer.decode
    assert [text(ids) for ids in pairs.clean] == ["<bos> 1 2 3"] * 2
    assert [text(ids) for ids in pairs.corrupted] == ["<bos> 2 2 3"] * 2
    assert pairs.positions.tolist() == [[3], [3]]
    good = task.data.tokenizer.single("1")
    assert pairs.good.tolist() == [[[good]], [[good]]]
    assert [int((row >= 0).sum()) for row in pairs.bad] == [1, 2]


def test_rows_that_cannot_be_used_are_named_by_number(task: harness.OpenTask) -> None:
    rows: list[Any] = [ROW, {"clean": "1 2"}, "1 2 3", {**ROW, "good": []}]
    with pytest.raises(harness.HarnessError) as error:
        harness.prompt_pairs(task, rows)
    lines = str(error.value).splitlines()
    assert [line.partition(":")[0] for line in lines] == ["row 1", "row 2", "row 3"]
    assert "corrupted" in lines[0]
    with pytest.raises(harness.HarnessError, match="row 1: '9' in '1 9' is not in the vocab"):
        harness.prompt_pairs(task, [ROW, {**ROW, "clean": "1 9"}])
    with pytest.raises(harness.HarnessError, match=r"row 0: .*tokens"):
        harness.prompt_pairs(task, [{**ROW, "corrupted": "2 2"}])
    with pytest.raises(harness.HarnessError, match="no rows"):
        harness.prompt_pairs(task, [])


def test_prompts_that_are_too_long_for_the_model_are_refused(
    task: harness.OpenTask, model: harness.Transformer, circuit: harness.Circuit
) -> None:
    row = {**ROW, "clean": "1 2 3 1 2 3 1", "corrupted": "2 2 3 1 2 3 1"}
    pairs = harness.prompt_pairs(task, [row])
    with pytest.raises(harness.HarnessError, match="prompts of 8 tokens; the model takes 6"):
        harness.evaluate(circuit, task, model, pairs)


def test_pairs_of_a_split_are_those_that_cells_measure_on(task: harness.OpenTask) -> None:
    pairs = harness.prompt_pairs(task)
    assert pairs.digest() == task.data.pairs("test", task.evaluation.test_pairs, 0).digest()
    assert len(harness.prompt_pairs(task, split="validation", n=4)) == 4
    with pytest.raises(harness.HarnessError, match="unknown split 'tset'"):
        harness.prompt_pairs(task, split="tset")


# ---------------------------------------------------------------- circuits
def test_sizes_are_shares_or_numbers(task: harness.OpenTask, model: harness.Transformer) -> None:
    total = len(harness.discover(task, model, "random", size=1.0).kept)
    for size, n in ((0.5, total // 2), (total // 2, total // 2), (np.int64(total), total)):
        circuit = harness.discover(task, model, "random", size=size)
        ranked = circuit.scores.argsort(descending=True)[:n]
        expected = torch.zeros(total, dtype=torch.bool).index_fill(0, ranked, True)
        pruned = circuit.space.prune(expected, task.evaluation.ablation)
        assert torch.equal(circuit.kept, pruned if n < total else expected)


@pytest.mark.parametrize("size", [-1, 0.0, 1.5, float("nan"), 10**6, True])
def test_impossible_sizes_are_refused(
    task: harness.OpenTask, model: harness.Transformer, size: Any
) -> None:
    with pytest.raises(harness.HarnessError, match="neither a share"):
        harness.discover(task, model, "random", size=size)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"stepz": 3}, "params: unknown key 'stepz'; did you mean 'steps'"),
        ({"steps": 0}, r"params\.steps: must be at least 1"),
        ({"steps": "many"}, r"params\.steps: expected an integer"),
        ({"objective": "speed"}, r"params\.objective: 'speed' is not one of"),
    ],
)
def test_params_that_a_file_could_not_have_are_refused(
    task: harness.OpenTask, model: harness.Transformer, params: dict[str, Any], message: str
) -> None:
    with pytest.raises(harness.HarnessError, match=message):
        harness.discover(task, model, "eap_ig", **params)


def test_params_change_those_of_the_spec(
    task: harness.OpenTask, model: harness.Transformer, circuit: harness.Circuit
) -> None:
    same = harness.discover(task, model, "eap_ig", size=0.2, steps=5)
    other = harness.discover(task, model, "eap_ig", size=0.2, steps=1)
    assert torch.equal(same.scores, circuit.scores)
    assert not torch.equal(other.scores, circuit.scores)


def test_methods_that_cannot_do_what_is_asked_are_refused(
    task: harness.OpenTask, model: harness.Transformer
) -> None:
    with pytest.raises(NotFound, match="unknown method 'eep'"):
        harness.discover(task, model, "eep")
    each_position = task.with_evaluation(positions="per_token")
    with pytest.raises(harness.HarnessError, match="acdc cannot score the edges of each position"):
        harness.discover(each_position, model, "acdc")
    with pytest.raises(harness.HarnessError, match="every score would be 0"):
        harness.discover(task, model, "eap", objective="kl")


def test_all_elements_are_the_model(
    task: harness.OpenTask, model: harness.Transformer, circuit: harness.Circuit
) -> None:
    whole = replace(circuit, kept=torch.ones_like(circuit.kept))
    measured = harness.evaluate(whole, task, model)
    assert next(iter(measured)) == "faithfulness"
    assert measured["faithfulness"].value == pytest.approx(1)
    assert measured["kl"].value == pytest.approx(0, abs=1e-6)
    assert repr(measured["accuracy"]) == "1.000 [1.000, 1.000]"


def test_a_circuit_of_another_model_is_refused(
    circuit: harness.Circuit, model: harness.Transformer
) -> None:
    other = harness.load_task("known/sort")
    with pytest.raises(harness.HarnessError, match="a circuit of another model"):
        harness.evaluate(circuit, other, harness.load_model(other))


def test_circuits_in_other_forms(circuit: harness.Circuit, tmp_path: Path) -> None:
    for name in ("c.json", "c.json.gz", "c.safetensors"):
        circuit.save(tmp_path / name)
        loaded = harness.Circuit.load(str(tmp_path / name))
        assert list(loaded.elements()) == list(circuit.elements())
        wanted, found = circuit.strongest(5), loaded.strongest(5)
        assert [score for _, score in found] == pytest.approx([score for _, score in wanted])
        # Scores of symmetric edges differ by rounding, which a file may not keep: no fixed order.
        scores = dict(circuit.strongest(circuit.size))
        assert dict(found) == pytest.approx({element: scores[element] for element, _ in found})
    table = circuit.to_dataframe()
    assert table.columns == ["element", "score", "kept"]
    assert table["kept"].sum() == circuit.size
    assert circuit.to_networkx().number_of_edges() == circuit.size
    assert circuit.to_dot().count(" -> ") == circuit.size
    assert set(circuit.nodes()) <= set(circuit.components())
    with pytest.raises(harness.HarnessError, match="has no scores"):
        replace(circuit, scores=None).strongest()
