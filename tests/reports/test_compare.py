"""Paired comparison: the right sign, intervals that use the pairing, clear refusals."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.fake_cells import a_cell, a_method, a_task, output
from support.stored_cells import cell_of, save

from harness.errors import HarnessError, NotFound
from harness.reports.compare import compare, find_side
from harness.reports.resample import area_draws, bounds, examples
from harness.runs.plan import Plan
from harness.runs.store import CellStore
from harness.runs.store.record import record


def sides(results: Path, a: str, b: str) -> Any:
    return find_side(results, a), find_side(results, b)


def test_the_better_method_has_the_smaller_cmd(tmp_path: Path) -> None:
    save(tmp_path / "run", [cell_of(m) for m in ("best", "worse")])
    found = compare(*sides(tmp_path, "best", "worse"))
    one = found.tasks[0]
    assert one.cmd.value is not None
    assert one.cmd.high is not None
    assert one.cmd.value < 0
    assert one.cmd.high < 0
    assert one.faithfulness.value is not None
    assert one.faithfulness.value > 0
    assert one.verdict == "A better"
    assert (found.count("A better"), found.count("tie"), found.count("B better")) == (1, 0, 0)


def test_swapping_the_sides_swaps_the_sign(tmp_path: Path) -> None:
    save(tmp_path / "run", [cell_of(m, seed=s) for m in ("best", "worse") for s in (0, 1)])
    forth = compare(*sides(tmp_path, "best", "worse")).tasks[0]
    back = compare(*sides(tmp_path, "worse", "best")).tasks[0]
    assert forth.cmd.value == pytest.approx(-(back.cmd.value or 0))
    assert forth.cmd.low == pytest.approx(-(back.cmd.high or 0))
    assert back.verdict == "B better"
    assert forth.seeds == 2


def test_a_method_against_itself_is_a_tie_without_width(tmp_path: Path) -> None:
    save(tmp_path / "run", [cell_of("best")])
    one = compare(*sides(tmp_path, "run:best", "best")).tasks[0]
    assert (one.cmd.value, one.cmd.low, one.cmd.high) == (0.0, 0.0, 0.0)
    assert one.verdict == "tie"


def test_difference_is_that_of_the_results(tmp_path: Path) -> None:
    save(tmp_path / "run", [cell_of(m) for m in ("best", "worse")])
    a, b = sides(tmp_path, "best", "worse")
    one = compare(a, b).tasks[0]
    results = [side.cells[0].result for side in (a, b)]
    stated = [result["summary"]["cmd"]["value"] for result in results]
    assert one.cmd.value == stated[0] - stated[1]
    point = [result["curve"][1]["faithfulness"]["value"] for result in results]
    assert one.at_size == 0.1
    assert one.faithfulness.value == point[0] - point[1]


def test_pairing_cancels_what_the_examples_have_in_common(tmp_path: Path) -> None:
    """Two methods with the same large scatter over examples and a small constant difference."""
    folder = tmp_path / "run"
    cells = [a_cell(method=a_method(name)) for name in ("a", "b")]
    record(folder, Plan("run", tuple(cells)))
    rng = np.random.default_rng(0)
    common = rng.normal(0.5, 0.5, size=40)
    for cell, shift in zip(cells, (0.02, 0.0), strict=True):
        made = output(cell)
        tensors = made.tensors["examples.safetensors"]
        shape = tensors["curve/metric"].shape
        tensors["whole/metric"], tensors["empty/metric"] = np.ones(40), np.zeros(40)
        tensors["curve/metric"] = np.broadcast_to(common + shift, shape).copy()
        CellStore(folder).publish(cell.id, made, {})
    a, b = sides(tmp_path, "a", "b")
    low, high = bounds(area_draws(examples(a.cells[0]))["cpr"] * 1.0)
    one = compare(a, b).tasks[0]
    assert low is not None
    assert high is not None
    assert high - low > 0.2
    assert one.cmd.half_width is not None
    assert one.cmd.half_width < 1e-9
    assert one.faithfulness.half_width is not None
    assert one.faithfulness.half_width < 1e-9


def test_two_runs_are_paired_by_method(tmp_path: Path) -> None:
    save(tmp_path / "old", [cell_of(m) for m in ("best", "worse", "control")])
    save(tmp_path / "new", [cell_of(m) for m in ("best", "worse")] + [cell_of("same")])
    found = compare(*sides(tmp_path, "old", "new"))
    assert [(t.method_a, t.method_b) for t in found.tasks] == [("best",) * 2, ("worse",) * 2]
    assert found.unpaired == ("toy toy same",)


def test_cells_are_found_by_the_beginning_of_their_id(tmp_path: Path) -> None:
    cells = [cell_of("best"), cell_of("worse")]
    save(tmp_path / "run", cells)
    found = compare(*sides(tmp_path, cells[0].id[:10], cells[1].id))
    assert found.tasks[0].verdict == "A better"


def test_several_tasks_are_counted(tmp_path: Path) -> None:
    save(tmp_path / "run", [cell_of(m, task=t) for t in ("one", "two") for m in ("best", "worse")])
    assert compare(*sides(tmp_path, "best", "worse")).count("A better") == 2


def test_seeds_of_one_side_only_are_named(tmp_path: Path) -> None:
    save(tmp_path / "run", [cell_of("best"), cell_of("best", seed=1), cell_of("worse")])
    found = compare(*sides(tmp_path, "best", "worse"))
    assert found.tasks[0].seeds == 1
    assert found.unpaired == ("toy toy seed 1",)


# ---------------------------------------------------------------- evaluations of a suite
def varied(method: str, ablation: str, **changes: Any) -> Any:
    """A cell of a suite with several evaluations."""
    task = a_task(evaluation=replace(a_task().evaluation, ablation=ablation))
    made = cell_of(method)
    return a_cell(task, made.method, variant=f"ablation {ablation}", **changes)


def test_each_evaluation_is_compared_on_its_own(tmp_path: Path) -> None:
    cells = [varied(m, ablation) for ablation in ("zero", "mean") for m in ("best", "worse")]
    save(tmp_path / "run", cells)
    found = compare(*sides(tmp_path, "best", "worse"))
    assert [one.variant for one in found.tasks] == ["ablation zero", "ablation mean"]
    assert found.count("A better") == 2
    assert found.unpaired == ()
    whole_runs = compare(*sides(tmp_path, "run", "run"))
    assert [(one.variant, one.method_a) for one in whole_runs.tasks] == [
        (f"ablation {ablation}", m) for ablation in ("zero", "mean") for m in ("best", "worse")
    ]


def test_an_evaluation_of_one_side_only_is_named(tmp_path: Path) -> None:
    save(tmp_path / "old", [varied("best", "zero"), cell_of("best")])
    save(tmp_path / "new", [varied("worse", "zero"), varied("worse", "mean")])
    found = compare(*sides(tmp_path, "old", "new"))
    assert [one.variant for one in found.tasks] == ["ablation zero"]
    assert found.unpaired == ("toy toy", "toy toy ablation mean")


def test_evaluations_are_paired_by_seed_within_themselves(tmp_path: Path) -> None:
    zero = [varied(m, "zero", seed=seed) for m in ("best", "worse") for seed in (0, 1)]
    save(tmp_path / "run", [*zero, varied("best", "mean"), varied("worse", "mean", seed=1)])
    found = compare(*sides(tmp_path, "best", "worse"))
    assert [(one.variant, one.seeds) for one in found.tasks] == [("ablation zero", 2)]
    assert set(found.unpaired) == {f"toy toy ablation mean seed {seed}" for seed in (0, 1)}


# ---------------------------------------------------------------- refusals
def publish(folder: Path, cell: Any, **changes: Any) -> None:
    record(folder, Plan(folder.name, (cell,)))
    made = output(cell)
    made.result.update(changes)
    CellStore(folder).publish(cell.id, made, {})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data_digest": {"discovery": "0" * 64, "test": "1" * 64}}, "test data"),
        ({"metric": "prob_diff"}, "metric"),
    ],
)
def test_numbers_that_do_not_belong_together_are_refused(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    publish(tmp_path / "one", cell_of("best"))
    publish(tmp_path / "two", cell_of("worse"), **changes)
    with pytest.raises(HarnessError, match=f"differ in the {said}"):
        compare(*sides(tmp_path, "best", "worse"))


def test_other_choices_are_refused(tmp_path: Path) -> None:
    changed = a_task(evaluation=replace(a_task().evaluation, ablation="mean"))
    publish(tmp_path / "one", cell_of("best"))
    publish(tmp_path / "two", a_cell(changed, a_method("worse", good=0.2)))
    with pytest.raises(HarnessError, match="choice of ablation"):
        compare(*sides(tmp_path, "best", "worse"))


def test_nothing_in_common_is_said(tmp_path: Path) -> None:
    save(tmp_path / "run", [cell_of("best", task="one"), cell_of("worse", task="two")])
    with pytest.raises(HarnessError, match="no task, model and seed in common"):
        compare(*sides(tmp_path, "best", "worse"))


def test_unknown_sides_say_what_there_is(tmp_path: Path) -> None:
    save(tmp_path / "run", [cell_of("best")], [cell_of("worse")])
    with pytest.raises(NotFound, match=r"runs: run; methods: best"):
        find_side(tmp_path, "worst")
    with pytest.raises(NotFound, match="no finished cell of method 'worse'"):
        find_side(tmp_path, "run:worse")


def test_two_versions_of_a_method_must_be_told_apart(tmp_path: Path) -> None:
    save(tmp_path / "old", [cell_of("best")])
    cell = cell_of("best")
    save(tmp_path / "new", [a_cell(method=replace(cell.method, version="2"))])
    with pytest.raises(HarnessError, match="two results"):
        compare(*sides(tmp_path, "best", "new"))
    assert compare(*sides(tmp_path, "old:best", "new:best")).tasks


def test_smoke_cells_pair_with_smoke_cells_only(tmp_path: Path) -> None:
    save(tmp_path / "run", [cell_of("best", limit=8), cell_of("worse")])
    with pytest.raises(HarnessError, match="in common"):
        compare(*sides(tmp_path, "best", "worse"))


# ---------------------------------------------------------------- what a difference cannot say
def test_a_task_with_nothing_to_explain_is_a_tie(tmp_path: Path) -> None:
    cells = [cell_of(m) for m in ("best", "worse")]
    record(tmp_path / "run", Plan("run", tuple(cells)))
    for cell in cells:
        computed = output(cell)
        value = {**computed.result["empty"]["accuracy"], "value": 1.0, "se": 0.0}
        result = dict(computed.result)
        result["empty"] = {**result["empty"], "accuracy": value}
        arrays = dict(computed.tensors["examples.safetensors"])
        arrays["empty/metric"] = arrays["whole/metric"] - 0.001
        tensors = {**computed.tensors, "examples.safetensors": arrays}
        CellStore(tmp_path / "run").publish(
            cell.id, replace(computed, result=result, tensors=tensors), {}
        )
    found = compare(*sides(tmp_path, "best", "worse"))
    assert found.tasks[0].verdict == "tie"
    assert found.remarks == (
        "toy is a tie: the model's accuracy is not above the empty circuit's.",
    )


def test_circuits_of_a_methods_own_can_be_compared_by_its_scores(tmp_path: Path) -> None:
    cells = [cell_of("settles"), cell_of("best")]
    record(tmp_path / "run", Plan("run", tuple(cells)))
    own, cut = output(cells[0], good=0.5), output(cells[0], good=0.99)
    arrays = dict(own.tensors["examples.safetensors"])
    for name, values in cut.tensors["examples.safetensors"].items():
        arrays[name.replace("curve", "by_score")] = values
    part = {"circuits": 8, "arrays": "by_score"} | {
        name: cut.result[name] for name in ("curve", "summary")
    }
    tensors = {**own.tensors, "examples.safetensors": arrays}
    store = CellStore(tmp_path / "run")
    store.publish(
        cells[0].id, replace(own, result=own.result | {"settled": part}, tensors=tensors), {}
    )
    store.publish(cells[1].id, output(cells[1]), {})
    by_own = compare(*sides(tmp_path, "settles", "best"))
    assert by_own.tasks[0].verdict == "B better"
    assert "8 circuits that it settled on" in by_own.remarks[0]
    by_score = compare(*sides(tmp_path, "settles by score", "best"))
    assert by_score.tasks[0].verdict == "A better"
    assert by_score.remarks == ()
