"""A task on channels from its file to its table, a drawing, and a judgement of its file alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.circuits.circuit import Circuit
from harness.circuits.packed import unpack
from harness.runs.store import CellStore

CHANNELS = "granularity: channel, ablation: mean_training, positions: all, sizes: [0.4, 0.7, 1.0]"


@pytest.fixture
def by_channels(measuring: Any) -> Any:
    """The command line where there is a task `chan`, that is `toy` on channels."""
    text = (measuring.folder / "tasks/toy.yaml").read_text().replace("name: toy", "name: chan")
    head, _, rest = text.partition("evaluation:")
    evaluation = f"evaluation: {{{CHANNELS}, discovery_pairs: 16, test_pairs: 40}}\n"
    measuring.write("tasks/chan.yaml", head + evaluation + rest[rest.index("model:") :])
    return measuring


@pytest.mark.slow  # 10 s: a run, two judgements, two drawings
def test_a_task_on_channels_end_to_end(by_channels: Any) -> None:
    harness = by_channels
    harness("run", "chan", "--seeds", "0", "--methods", "eap")
    (board,) = json.loads(harness("table", "chan", "--format", "json").stdout)["boards"]
    lines = {line["method"]: line for line in board["lines"]}
    assert (lines["eap"]["unit"], lines["eap"]["total"]) == ("channels", 8 * 7 + 32 + 8)
    assert lines["eap"]["weights"] > 0
    assert board["verdict"]["unit"] == "channels"

    store = CellStore(Path("results/chan"))
    cells = {store.result(one)["identity"]["method"]["kind"]: one for one in store.ids()}
    cell, result = cells["eap"], store.result(cells["eap"])
    for point in result["curve"]:
        assert set(point["counts"]) == {"channels", "weights"}
    space, kept = unpack(store.artifact(cell, "circuits.safetensors"))
    assert dict(space.counts(kept[1])) == result["curve"][1]["counts"]
    circuit = Circuit.load(store.artifact(cell, "circuit.safetensors"))
    assert circuit.baseline.over["of"] == "training prompts"
    assert int(circuit.baseline.over["tokens"]) >= 2**14
    assert len(circuit.baseline.over["sha256"]) == 64

    of_size = ("--size", "0.7", "--tests", "none", "--json")
    again = json.loads(harness("judge", cell[:12], *of_size).stdout)
    assert again["size"] == result["curve"][1]["size"]
    assert again["as_stored"]["apart"] < 1e-6
    assert set(circuit.measured) >= {"faithfulness", "kl", "metric", "accuracy"}

    # The file alone gives the numbers of the cell, on the means that it has.
    measured = {"kl": result["curve"][1]["kl"]["value"]}
    half = replace(circuit, kept=kept[1], scores=None, measured=measured)
    half.save("half.json")
    judged = json.loads(harness("judge", "half.json", "--tests", "none", "--json").stdout)
    wanted = result["curve"][1]
    for name in ("faithfulness", "kl", "metric"):
        assert judged["circuit"][name]["value"] == pytest.approx(wanted[name]["value"], abs=1e-6)
    shifted = replace(circuit.baseline, values=circuit.baseline.values + 0.5)
    replace(half, baseline=shifted).save("shifted.json")
    other = json.loads(harness("judge", "shifted.json", "--tests", "none", "--json").stdout)
    assert other["as_stored"]["apart"] > 1e-5
    assert abs(other["circuit"]["kl"]["value"] - wanted["kl"]["value"]) > 1e-5

    board = json.loads(harness("circuit", "half.json", "--json").stdout)["whiteboard"]
    assert board["counts"] == wanted["counts"]
    names = [space.name(element) for element in kept[1].nonzero().flatten().tolist()]
    assert [one["name"] for one in board["channels"]] == names
    assert all(set(one["carries"]) == {")", "]"} for one in board["channels"])
    text = harness("circuit", "half.json").stdout
    assert f"drawn whole: {wanted['counts']['channels']} channels" in text


def test_what_cannot_be_done_with_channels_is_said(by_channels: Any) -> None:
    plan = by_channels("plan", "chan", "--seeds", "0", "--methods", "acdc", code=2)
    assert "cannot find circuits of granularity 'channel', only of edges" in plan.stderr
