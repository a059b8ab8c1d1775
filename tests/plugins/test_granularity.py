"""A granularity that a package brings works everywhere, without a line of product code."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
METHODS = ("mask_gradient_ig", "subnetwork_probing", "uniform_gradient_sampling", "eap", "random")
TASK = """\
spec_version: 1
name: toy
title: Brackets by heads
tokenizer: {kind: characters, bos: true}
data:
  kind: generator
  generator: brackets
  params: {kinds: ["()", "[]"], lengths: [7, 9], max_depth: 3, min_distance: 2}
evaluation:
  granularity: head
  component: outputs
  ablation: zero
  positions: all
  direction: noising
  set: complement
  sizes: [0.2, 0.5, 1.0]
  discovery_pairs: 16
  test_pairs: 40
model:
  kind: train
  architecture: {n_layers: 2, n_heads: 4, d_model: 16}
  training: {objective: answer, steps: 30}
"""


SESSION = """
import json, sys
from click.testing import CliRunner
from harness.cli.main import main

said = {}
for name, arguments in json.load(sys.stdin).items():
    done = CliRunner().invoke(main, arguments)
    said[name] = [done.exit_code, done.stdout, done.stderr]
print(json.dumps(said))
"""


class Installed:
    """The command line in a fresh process that has the package `toy-heads` installed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        site = folder / "site"
        metadata = site / "toy_heads-1.0.dist-info"
        metadata.mkdir(parents=True)
        shutil.copy(HERE / "toy_heads.py", site)
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-heads\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(
            "[harness.granularities]\nhead = toy_heads:INFO\n"
        )
        (folder / "toy.yaml").write_text(TASK)
        for name in ("subnetwork_probing", "uniform_gradient_sampling"):
            (folder / f"{name}.yaml").write_text(
                f"spec_version: 1\nname: {name}\ntitle: Short\nkind: {name}\n"
                "params: {steps: 8, prices: [0.01, 0.1]}\n"
            )
        path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
        self.environment = {**os.environ, "PYTHONPATH": path}

    def __call__(self, *arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "harness", *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        return done.stdout if code == 0 else done.stdout + done.stderr

    def several(self, commands: dict[str, list[str]]) -> dict[str, list]:
        """Exit code, stdout and stderr of commands that one fresh process runs, by name."""
        done = subprocess.run(
            [sys.executable, "-c", SESSION],
            cwd=self.folder,
            env=self.environment,
            input=json.dumps(commands),
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def harness(tmp_path_factory) -> Installed:
    return Installed(tmp_path_factory.mktemp("installed"))


@pytest.fixture(scope="module")
def said(harness) -> dict[str, list]:
    """What commands say: the task is run once through all methods."""
    bad = TASK.replace("ablation: zero", "ablation: mean").replace("name: toy", "name: bad")
    (harness.folder / "bad.yaml").write_text(bad)
    methods = ",".join(
        f"./{name}.yaml" if (harness.folder / f"{name}.yaml").is_file() else name
        for name in METHODS
    )
    run = ["run", "./toy.yaml", "--methods"]
    return harness.several(
        {
            "run": [*run, methods, "--seeds", "0,1", "--threads", "1"],
            "validate": ["validate", "./toy.yaml"],
            "run acdc": [*run, "acdc"],
            "validate bad": ["validate", "./bad.yaml"],
        }
    )


@pytest.fixture(scope="module")
def results(harness, said) -> list[dict]:
    assert said["run"][0] == 0, said["run"]
    cells = (harness.folder / "results/toy/cells").iterdir()
    return [json.loads((cell / "result.json").read_text()) for cell in cells]


def test_specs_are_valid(said):
    assert said["validate"][:2] == [0, ""]


def test_results_count_in_the_unit_of_the_granularity(results):
    assert {result["method"] for result in results} == {*METHODS, "random_paths"}
    for result in results:
        assert (result["unit"], result["total"]) == ("heads and MLPs", 10)
        assert [point["requested"] for point in result["curve"]] == [2, 5, 10]
        assert result["curve"][1]["counts"] == {"heads and MLPs": result["curve"][1]["size"]}


def test_all_elements_are_the_model(results):
    for result in results:
        assert result["whole"]["metric"]["value"] == pytest.approx(
            result["plain"]["metric"]["value"], rel=1e-5
        )
        assert result["curve"][-1]["faithfulness"]["value"] == pytest.approx(1)


def test_gradient_methods_agree_on_what_matters(results):
    """EAP falls back on the gradient of the full mask; all rank ten parts, none all alike."""
    by_method = {}
    for result in results:
        if result["seed"] == 0:
            by_method[result["method"]] = result["summary"]["cmd"]["value"]
    assert by_method["mask_gradient_ig"] != by_method["random"]


@pytest.mark.slow
def test_tables_plots_judge_and_overlap(harness, results):
    table = harness("table", "toy", "--format", "csv")
    assert "mask_gradient_ig" in table
    harness("plot", "curves", "toy", "-o", "toy.svg")
    assert (harness.folder / "toy.svg").stat().st_size > 1000
    cell = next(r["cell"] for r in results if r["method"] == "mask_gradient_ig")
    judged = json.loads(harness("judge", cell[:12], "--task", "./toy.yaml", "--json"))
    assert judged["unit"] == "heads and MLPs"
    assert judged["total"] == judged["nodes_total"] == 10
    pair = ("toy:mask_gradient_ig", "toy:eap")
    shared = json.loads(harness("overlap", *pair, "--json"))
    assert shared["unit"] == "heads and MLPs"
    assert "heads and MLPs out of 10." in harness("overlap", *pair)
    assert shared["groups"][0]["circuits"][0]["total"] == 10


def test_a_circuit_is_saved_and_loaded(harness, results):
    cell = next(r["cell"] for r in results if r["method"] == "eap")
    code = (
        "import harness\n"
        f"c = harness.Circuit.load('results/toy/cells/{cell}/circuit.safetensors')\n"
        "c.save('c.json'); d = harness.Circuit.load('c.json')\n"
        "assert list(c.elements()) == list(d.elements()) and c.space == d.space\n"
        "print(c.space.granularity, c.strongest(1)[0][0])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=harness.folder,
        env=harness.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split()[0] == "head"


def test_what_needs_edges_is_refused_before_anything_runs(said):
    code, _, message = said["run acdc"]
    assert code == 2
    assert "acdc" in message
    assert "edge" in message


def test_an_ablation_that_it_does_not_know_is_refused_at_its_place(said):
    code, message, _ = said["validate bad"]
    assert code == 2
    assert "bad.yaml:12:" in message
    assert "zero" in message
