"""The table of data kinds: what each one says, and that a new one is a package and a line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.checkout import copied, harness

from harness.datasets.kinds import DataKind, data_kind, numeric_answers
from harness.spec import key
from harness.spec.data_kinds import PACKAGES
from harness.spec.load import Library
from harness.spec.types import Data


def test_every_kind_of_the_spec_is_in_the_table() -> None:
    classes, _ = key.members_of(key.unwrapped(Data)[0])
    assert list(PACKAGES) == [key.kind_of(one) for one in classes]
    assert all(isinstance(data_kind(name), DataKind) for name in PACKAGES)


def test_kinds_need_neither_torch_nor_polars() -> None:
    code = (
        "import sys; from harness.datasets.kinds import data_kind\n"
        "from harness.spec.data_kinds import PACKAGES\n"
        "for name in PACKAGES: data_kind(name)\n"
        "print([m for m in ('torch', 'polars', 'tokenizers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("task", "numeric"), [("ioi", False), ("reverse", False), ("xproportion", True)]
)
def test_only_programs_can_have_numbers_as_answers(task: str, numeric: bool) -> None:
    assert numeric_answers(Library().task(task).spec.data) is numeric


# ---------------------------------------------------------------- a new kind
SPEC = '''"""Brackets whose length stands in a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from harness.spec.key import About, Key
from harness.spec.types.scalars import DataSeed


@dataclass(frozen=True, slots=True, kw_only=True)
class BracketedData:
    """Brackets of one length."""

    ABOUT: ClassVar = About("Brackets whose length stands in a file")

    kind: Literal["bracketed"] = "bracketed"
    path: Annotated[str, Key("Path", "A file that holds the length.", ["n.txt"], part="content")]
    seed: DataSeed = 0


SPEC = BracketedData
'''
PACKAGE = '''"""Data of kind `bracketed`: brackets whose length stands in a file."""

from harness.datasets.generators import generator
from harness.datasets.generators.spec import GeneratorData
from harness.datasets.kinds import DataKind


def open_bracketed(data, tokenizer, folder):
    params = {"lengths": [int((folder / data.path).read_text())]}
    inner = GeneratorData(generator="brackets", params=params, seed=data.seed)
    return generator("brackets").open_data(inner, tokenizer, folder)


def problems(data, tokenizer, folder):
    text = (folder / data.path).read_text().strip()
    return [] if text.isdigit() else [(("data", "path"), f"{text!r} is no number")]


KIND = DataKind(
    open=open_bracketed,
    problems=problems,
    problems_without_tokens=problems,
    files=lambda data: [data.path],
)
'''
LINE = '    "bracketed": "harness.datasets.bracketed",\n}'
TASK = """spec_version: 1
name: of_a_file
title: Brackets of one length
tokenizer: {kind: characters, bos: true}
data: {kind: bracketed, path: n.txt}
evaluation:
  {granularity: edge, component: heads_qkv_mlps, ablation: interchange, positions: all,
   direction: noising, set: complement, metric: logit_diff, discovery_pairs: 4, test_pairs: 4}
model:
  kind: train
  name: tiny
  architecture: {n_layers: 1, n_heads: 2, d_model: 8}
  training: {objective: answer, steps: 2, batch_size: 8, learning_rate: 0.01, warmup_steps: 1}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with one more kind: a package and a line."""
    place = copied(tmp_path_factory.mktemp("checkout"))
    package = place / "harness/datasets/bracketed"
    package.mkdir()
    (package / "spec.py").write_text(SPEC)
    (package / "__init__.py").write_text(PACKAGE)
    table = place / "harness/spec/data_kinds.py"
    table.write_text(table.read_text().replace("\n}", f"\n{LINE}", 1))
    harness(place, module="harness.cli.schemas")
    (place / "tasks/of_a_file.yaml").write_text(TASK)
    (place / "tasks/n.txt").write_text("7")
    return place


@pytest.mark.slow
def test_a_new_kind_is_validated_where_it_is_written(place: Path) -> None:
    harness(place, "validate", "of_a_file")
    (place / "tasks/bad.yaml").write_text(TASK.replace("of_a_file", "bad").replace("path", "way"))
    try:
        said = harness(place, "validate", "tasks/bad.yaml", code=2).stdout
    finally:
        (place / "tasks/bad.yaml").unlink()
    assert "tasks/bad.yaml:5:25: error: data: unknown key 'way'" in said


@pytest.mark.slow
def test_a_new_kind_runs_and_its_files_are_part_of_the_ids(place: Path) -> None:
    arguments = ("of_a_file", "--methods", "eap", "--seeds", "0", "--limit", "2")
    harness(place, "run", *arguments)
    stored = {path.name for path in (place / "results/of_a_file/cells").iterdir()}

    def planned() -> set[str]:
        (plan,) = json.loads(harness(place, "plan", *arguments, "--json").stdout)
        return {cell["cell"] for cell in plan["cells"]}

    assert planned() == stored
    (place / "tasks/n.txt").write_text("9")
    assert not planned() & stored
    (place / "tasks/n.txt").write_text("seven")
    assert "is no number" in harness(place, "validate", "of_a_file", code=2).stdout
