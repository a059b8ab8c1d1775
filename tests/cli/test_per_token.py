"""A task with edges of each position, from its YAML file to its results, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from harness.circuits.edges.graph import Graph
from harness.circuits.edges.space import EdgeSpace
from harness.circuits.files import load_circuit
from harness.circuits.packed import unpack
from harness.discovery.registry import built_in
from harness.evaluation import judge as evaluation
from harness.evaluation.completeness import Learner
from harness.runs.store import CellStore

TASK = """\
spec_version: 1
name: meeting
title: Who is smiled at
tokenizer: {kind: words}
data:
  kind: template
  templates:
    - text: "{X} met {Y} . {S2} smiled at"
    - text: "{X} saw {Y} . {S2} laughed at"
  aliases: [{X: IO, Y: S}, {X: S, Y: IO}]
  slots: {IO: names, S: names, S2: S, C: names}
  lists:
    names: {words: [Ann, Bob, Cy, Dan, Eve, Flo, Gus, Hal]}
  constraints: ["distinct(IO, S, C)"]
  good: {slot: IO}
  bad: {slot: S}
  corruptions:
    abc: {S2: C}
  corruption: abc
evaluation:
  granularity: edge
  component: heads_qkv_mlps
  ablation: interchange
  positions: per_token
  direction: noising
  set: complement
  sizes: [0.05, 0.2, 1.0]
  discovery_pairs: 8
  test_pairs: 10
model:
  kind: train
  name: small
  architecture: {n_layers: 1, n_heads: 2, d_model: 8}
  training: {objective: answer, steps: 5}
"""
TOKENS = 7
SHARED = Graph(1, 2).n_edges


@pytest.fixture
def meeting(measuring: Any) -> Any:
    measuring.write("tasks/meeting.yaml", TASK)
    return measuring


def results(run: str) -> dict[str, Any]:
    store = CellStore(Path("results") / run)
    return {store.result(cell)["method"]: store.result(cell) for cell in store.ids()}


def test_a_task_from_its_file_to_its_results(meeting: Any) -> None:
    harness = meeting
    harness("validate", "meeting")
    text = harness("run", "meeting", "--methods", "eap").stdout
    found = results("meeting")
    assert set(found) == {"eap", "paths"}
    for name, result in found.items():
        assert name in text
        assert result["choices"]["positions"] == "per_token"
        assert result["total"] == TOKENS * SHARED
        whole = result["curve"][-1]
        assert whole["size"] == TOKENS * SHARED
        assert whole["faithfulness"]["value"] == pytest.approx(1, abs=1e-5)
        circuit = load_circuit(Path(f"results/meeting/cells/{result['cell']}/circuit.safetensors"))
        assert circuit.scores is not None
        assert isinstance(circuit.space, EdgeSpace)
        assert circuit.scores.shape == (len(circuit.space),) == (TOKENS * SHARED,)
        assert circuit.space.graph.positions is not None
        assert circuit.space.graph.positions.read == (TOKENS - 1,)
        space, every = unpack(Path(f"results/meeting/cells/{result['cell']}/circuits.safetensors"))
        assert space == circuit.space
        assert [int(kept.sum()) for kept in every] == [one["size"] for one in result["curve"]]


@pytest.mark.slow
def test_a_cell_is_judged_and_has_no_mib_form(
    meeting: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    little = evaluation.Effort(subsets=2, greedy_steps=1, greedy_width=2, references=3)
    monkeypatch.setattr(evaluation, "Effort", lambda **_more: little)
    monkeypatch.setattr("harness.runs.services.judge.Learner", lambda: Learner(steps=1))
    harness = meeting
    harness("run", "meeting", "--methods", "eap")
    result = results("meeting")["eap"]
    tests = "completeness,minimality"
    found = json.loads(harness("judge", result["cell"], "--tests", tests, "--json").stdout)
    assert found["total"] == TOKENS * SHARED
    point = next(one for one in result["curve"] if one["size"] == found["size"])
    assert found["circuit"]["faithfulness"]["value"] == pytest.approx(
        point["faithfulness"]["value"], abs=1e-6
    )
    assert all("@" in edge["name"] for edge in found["minimality"]["elements"]["weakest"])
    refused = harness("export", "meeting", "--method", "eap", "--to", "out", code=2)
    assert "7 positions (`positions: per_token`)" in refused.stderr
    text = TASK.replace("per_token", "all").replace("name: meeting", "name: shared")
    harness.write("tasks/shared.yaml", text)
    refused = harness("judge", result["cell"], "--task", "shared", code=2)
    assert "another `granularity`, `inputs`, `positions` or `key_value_edges`" in refused.stderr


@pytest.mark.slow
def test_positions_are_a_choice_of_a_suite(meeting: Any) -> None:
    """Both in one run, and with learned constants; tables keep them apart."""
    harness = meeting
    suite = harness.suite("both", ["meeting"], ["eap"])
    suite.write_text(
        suite.read_text()
        + "evaluations: [{positions: all}, {positions: per_token},"
        + " {positions: per_token, ablation: optimal}]\nruntime: {threads: 1}\n"
    )
    text = harness("run", "both").stdout
    assert text.count("### meeting") == 3
    store = CellStore(Path("results/both"))
    totals = sorted(store.result(cell)["total"] for cell in store.ids())
    assert totals == [SHARED] * 2 + [TOKENS * SHARED] * 4


# ---------------------------------------------------------------- what is refused
def mixed(harness: Any) -> None:
    harness.write("tasks/meeting.yaml", TASK.replace("{X} saw {Y} .", "{X} then saw {Y} ."))


def test_prompts_of_several_lengths_are_a_mistake_of_the_task(meeting: Any) -> None:
    mixed(meeting)
    for verb in ("validate", "run"):
        result = meeting(verb, "meeting", code=2)
        said = result.stdout + result.stderr
        assert "meeting.yaml:24:14" in said
        assert "per_token needs prompts of one length, and these have 7, 8 tokens" in said
    assert not Path("results").exists()


def test_a_suite_that_asks_for_it_is_refused_before_a_model_is_trained(meeting: Any) -> None:
    meeting.write("tasks/meeting.yaml", TASK.replace("per_token", "all"))
    suite = meeting.suite("trial", ["toy"], ["eap"])
    suite.write_text(suite.read_text() + "evaluations: [{positions: per_token}]\n")
    result = meeting("run", "trial", code=1)
    assert "these have 8, 10 tokens" in result.stderr
    assert "made model" not in result.stderr


@pytest.mark.parametrize(
    "kind",
    [kind for kind, info in built_in().items() if info.needs == "edges" and not info.per_token],
)
def test_methods_of_shared_edges_are_refused(meeting: Any, kind: str) -> None:
    meeting.suite("trial", ["meeting"], ["eap", kind])
    invalid = meeting("validate", "trial", code=2)
    assert f"{kind} cannot score the edges of each position" in invalid.stdout
    assert "trial.yaml:5:18" in invalid.stdout
    for verb in ("plan", "run"):
        refused = meeting(verb, "trial", code=2)
        assert f"meeting: {kind} cannot score the edges of each position" in refused.stderr
        assert "these kinds of methods can: activation_patching, eap" in refused.stderr
    meeting("plan", "trial", "--methods", "eap")


def test_methods_of_shared_edges_can_be_left_out_where_positions_have_their_own(
    meeting: Any,
) -> None:
    suite = meeting.suite("trial", ["meeting"], ["eap", "acdc"])
    suite.write_text(
        suite.read_text()
        + "evaluations: [{positions: all}, {positions: per_token}]\n"
        + "exclude: [{method: acdc, evaluation: {positions: per_token}}]\n"
    )
    meeting("validate", "trial")
    meeting("plan", "trial")
    suite.write_text(suite.read_text().replace("per_token}}]", "all}}]"))
    assert "acdc cannot score" in meeting("validate", "trial", code=2).stdout
    assert "acdc cannot score" in meeting("plan", "trial", code=2).stderr
