from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from support.tiny_folder import write_model

TASK = """\
spec_version: 1
name: {name}
title: The task {name}
version: "{version}"
tags: [tiny]
tokenizer: {{kind: characters, bos: true}}
data:
  kind: generator
  generator: brackets
  seed: 0
  params: {{kinds: ["()", "[]"], lengths: [7, 9], max_depth: 3, min_distance: 2}}
evaluation:
  granularity: edge
  component: heads_qkv_mlps
  ablation: interchange
  positions: all
  direction: noising
  set: complement
  sizes: [0.01, 0.1, 0.5, 1.0]
  discovery_pairs: 16
  test_pairs: 40
model:
  kind: train
  name: model-{name}
  architecture: {{n_layers: 1, n_heads: 2, d_model: 8}}
  training: {{objective: answer, steps: 10}}
"""
METHOD = """\
spec_version: 1
name: {name}
title: The method {name}
kind: fake
params: {params}
"""
SUITE = """\
spec_version: 1
name: {name}
title: A trial
tasks: {tasks}
methods: {methods}
controls: [paths]
seeds: [0]
"""


class Place:
    """A user's folder with specs of its own, and the command line run in it."""

    def __init__(self, folder: Path, log: Path) -> None:
        self.folder = folder
        self.log = log
        self.task("toy")
        self.method("good", good=0.95)
        self.method("weak", good=0.3)
        self.method("paths", good=0.1)
        self.suite("trial", ["toy"], ["good", "weak"])
        self.suite("quickstart", ["toy"], ["good", "weak"])

    def write(self, path: str, text: str) -> Path:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def brought(self, name: str) -> Path:
        """A task on a model that the user brings to `brought/NAME`."""
        text = TASK.format(name=name, version="1")
        model = f"model: {{kind: load, name: model-{name}, path: brought/{name}}}\n"
        return self.write(f"tasks/{name}.yaml", text[: text.index("model:\n")] + model)

    def bring(self, name: str, *files: str, **shape: Any) -> None:
        """Put files of a tiny model where `brought` looks for them; `shape` changes it."""
        for file in files:
            self.write(f"brought/{name}/{file}", file)
        write_model(self.folder / "brought" / name, files, **shape)

    def task(self, name: str, version: str = "1", folder: str = "tasks") -> Path:
        return self.write(f"{folder}/{name}.yaml", TASK.format(name=name, version=version))

    def method(self, name: str, **params: Any) -> Path:
        items = ", ".join(f"{key}: {value}" for key, value in params.items())
        text = METHOD.format(name=name, params=f"{{{items}}}")
        return self.write(f"specs/methods/{name}.yaml", text)

    def suite(self, name: str, tasks: list[str], methods: list[str]) -> Path:
        text = SUITE.format(name=name, tasks=tasks, methods=methods)
        return self.write(f"specs/suites/{name}.yaml", text)

    def __call__(self, *arguments: str, code: int = 0) -> Result:
        from harness.cli.main import main

        result = CliRunner().invoke(main, list(arguments))
        assert result.exit_code == code, result.output
        if code != 70:
            assert "Traceback" not in result.stderr
        return result

    def computed(self) -> int:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return sum(line.startswith("done") for line in lines)


@pytest.fixture
def harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    from support.fake_cells import COMPUTE, LOG

    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv(LOG, str(tmp_path / "log"))
    monkeypatch.setattr("harness.runs.executors.session.COMPUTE", COMPUTE)
    # As if an installed package brought a method of this kind, with any parameters.
    fake = EntryPoint("fake", "types:SimpleNamespace", "harness.methods")
    monkeypatch.setattr("harness.discovery.registry._plug_ins", lambda: {"fake": fake})
    return Place(folder, tmp_path / "log")


@pytest.fixture
def measuring(harness: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command line with cells that are really computed, not made up."""
    monkeypatch.setattr(
        "harness.runs.executors.session.COMPUTE", "harness.runs.compute.cell:compute_cell"
    )
    control = harness.folder / "specs/methods/paths.yaml"
    control.write_text(control.read_text().replace("kind: fake", "kind: random_paths"))
    control.write_text(control.read_text().replace("{good: 0.1}", "{}"))
    return harness
