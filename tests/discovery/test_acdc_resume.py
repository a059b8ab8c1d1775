"""An ACDC search that was stopped goes on to the bytes of the one that was not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support.problems import problem_of
from support.slow_reference import small_model

from harness.discovery.acdc import resume as acdc_resume
from harness.discovery.acdc.acdc import Acdc
from harness.discovery.acdc.search import ReaderVisit, Search

pytestmark = pytest.mark.matrix
THRESHOLDS = (0.003, 0.02, 0.1)


@pytest.fixture
def saves_often(monkeypatch):
    monkeypatch.setattr(acdc_resume, "SAVE_SECONDS", -1.0)


def a_problem(random_batch, name="gpt2-like", scratch=None, **choices):
    """Two lengths, so that there are two batches, in single precision."""
    model = small_model(name, dtype=torch.float32)
    given = [random_batch(n=2, length=5), random_batch(n=1, length=3, seed=3)]
    return replace(problem_of(model, *given, **choices), scratch=scratch)


def stopped_after(measurements, method, problem, monkeypatch):
    """Run until the objective has been measured so often; True if it was stopped before its end."""
    real, left = Search.mean, [measurements]

    def mean(self, total):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return real(self, total)

    with monkeypatch.context() as patch:
        patch.setattr(Search, "mean", mean)
        try:
            method.discover(problem)
        except KeyboardInterrupt:
            return True
    return False


def agree(one, two):
    assert torch.equal(one.scores, two.scores)
    assert len(one.circuits) == len(two.circuits)
    assert all(map(torch.equal, one.circuits, two.circuits))
    assert one.notes == two.notes


@pytest.mark.parametrize("params", [{"thresholds": THRESHOLDS}, {"sizes": (0.3,), "speculate": 4}])
@pytest.mark.parametrize("name", ["gpt2-like", "grouped"])
def test_stopped_again_and_again(name, params, random_batch, tmp_path, monkeypatch, saves_often):
    """In the middle of readers and between searches; each time it gets further."""
    monkeypatch.setattr("harness.discovery.acdc.acdc.RUNS", 3)
    method = Acdc(**params)
    whole = method.discover(a_problem(random_batch, name))
    problem = a_problem(random_batch, name, tmp_path)
    stops = 0
    while stopped_after(15 + 20 * stops, method, problem, monkeypatch):
        stops += 1
    assert stops >= 2
    agree(method.discover(problem), whole)


@pytest.mark.parametrize("measurements", [1, 3, 17, 30])
@pytest.mark.parametrize(
    "choices",
    [{}, {"ablation": "zero", "head_bias": "shared"}, {"ablation": "mean", "inputs": "split"}],
    ids=["interchange", "zero", "mean"],
)
def test_stopped_once(choices, measurements, random_batch, tmp_path, monkeypatch, saves_often):
    method = Acdc(thresholds=(0.02,))
    whole = method.discover(a_problem(random_batch, **choices))
    problem = a_problem(random_batch, scratch=tmp_path, **choices)
    assert stopped_after(measurements, method, problem, monkeypatch)
    resumed = method.discover(problem)
    agree(resumed, whole)
    # The first measurements are those of the first reader, which is not saved before its end.
    assert (resumed.earlier_seconds > 0) == (measurements > 3)
    assert whole.earlier_seconds == 0
    assert ((resumed.earlier_processor_seconds or 0) > 0) == (measurements > 3)


def test_going_on_costs_one_candidate_per_reader(random_batch, tmp_path, monkeypatch, saves_often):
    """Decisions are made again, not tested again; what is told of the search is what it was."""
    method, problem = Acdc(thresholds=(0.02,)), a_problem(random_batch, scratch=tmp_path)
    assert stopped_after(30, method, problem, monkeypatch)
    saved = acdc_resume.checkpoint_of(problem, "kl", 0.02, method.speculate).load()
    assert saved.readers > 10
    run, made = ReaderVisit._run, []

    def counted(visit, streams):
        made.append(len(streams[0]))
        return run(visit, streams)

    monkeypatch.setattr(ReaderVisit, "_run", counted)
    search = Search(problem, "kl", 0.02, method.speculate)
    search.resume(saved)
    assert made == [1]  # the whole model's objective, at the first reader; the others only commit
    assert search.tally == saved.result.tally
    assert search.partway().result.objective == saved.result.objective


def test_a_finished_search_is_not_run_again(random_batch, tmp_path, monkeypatch):
    """Even where nothing was saved on the way; its seconds are the earlier ones."""
    method, problem = Acdc(thresholds=THRESHOLDS), a_problem(random_batch, scratch=tmp_path)
    whole = method.discover(problem)
    monkeypatch.setattr("harness.discovery.acdc.search.Search", None)
    again = method.discover(problem)
    agree(again, whole)
    assert again.earlier_seconds > 0


def test_nothing_is_saved_before_its_time(random_batch, tmp_path, monkeypatch):
    method, problem = Acdc(thresholds=(0.02,)), a_problem(random_batch, scratch=tmp_path)
    assert stopped_after(30, method, problem, monkeypatch)
    assert not list(tmp_path.iterdir())


def test_a_damaged_checkpoint_is_not_resumed_from(random_batch, tmp_path, caplog):
    """One bit that says that another edge stays: resumed from, it would be the circuit."""
    method = Acdc(thresholds=(0.02,))
    whole = method.discover(a_problem(random_batch))
    method.discover(a_problem(random_batch, scratch=tmp_path))
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    again = method.discover(a_problem(random_batch, scratch=tmp_path))
    agree(again, whole)
    assert again.earlier_seconds == 0
    assert f"{path} cannot be resumed from and is deleted: it is damaged" in caplog.text


def test_a_checkpoint_for_other_prompts_of_the_same_shape_is_ignored(random_batch, tmp_path):
    def a_problem_of(seed):
        model = small_model("gpt2-like", dtype=torch.float32)
        return replace(problem_of(model, random_batch(seed=seed)), scratch=tmp_path)

    method = Acdc(thresholds=(0.02,))
    method.discover(a_problem_of(0))
    assert method.discover(a_problem_of(1)).earlier_seconds == 0


@pytest.mark.parametrize(
    ("params", "choices"),
    [
        ({"objective": "metric"}, {}),
        ({"speculate": 3}, {}),
        ({}, {"ablation": "zero"}),
        ({}, {"inputs": "split"}),
    ],
    ids=["objective", "speculate", "ablation", "graph"],
)
def test_a_checkpoint_made_for_another_search_is_ignored(params, choices, random_batch, tmp_path):
    usual = {"thresholds": (0.02,)}
    Acdc(**usual).discover(a_problem(random_batch, scratch=tmp_path))
    method = Acdc(**usual, **params)
    fresh = method.discover(a_problem(random_batch, **choices))
    found = method.discover(a_problem(random_batch, scratch=tmp_path, **choices))
    agree(found, fresh)
    assert found.earlier_seconds == 0
