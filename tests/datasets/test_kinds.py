"""The table of data kinds: what each one says, and that a new one is a package and a line."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import pytest

from harness.datasets.check import check_task
from harness.datasets.generators import generator
from harness.datasets.kinds import KINDS, DataKind, data_kind, kind_of, numeric_answers
from harness.datasets.open import content_digests, open_data
from harness.datasets.pairs import TaskData
from harness.datasets.problems import Problem
from harness.spec import key
from harness.spec.load import Library
from harness.spec.types import Data, GeneratorData, TokenizerSpec


def test_every_kind_of_the_spec_is_in_the_table() -> None:
    classes, _ = key.members_of(key.unwrapped(Data)[0])
    assert set(KINDS) == {key.kind_of(one) for one in classes}
    assert all(isinstance(data_kind(name), DataKind) for name in KINDS)


def test_kinds_need_neither_torch_nor_polars() -> None:
    code = (
        "import sys; from harness.datasets.kinds import KINDS, data_kind\n"
        "for name in KINDS: data_kind(name)\n"
        "print([m for m in ('torch', 'polars', 'tokenizers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("task", "numeric"), [("ioi", False), ("reverse", False), ("xproportion", True)]
)
def test_only_programs_can_have_numbers_as_answers(task: str, numeric: bool) -> None:
    assert numeric_answers(Library().task(task).spec.data) is numeric


@dataclass(frozen=True)
class Bracketed:
    """Data of a kind that the harness does not have."""

    path: str
    kind: str = "bracketed"


def open_bracketed(data: Bracketed, tokenizer: TokenizerSpec, folder: Path) -> TaskData:
    lengths = [int((folder / data.path).read_text())]
    inner = GeneratorData(generator="brackets", params={"lengths": lengths})
    return generator("brackets").open_data(inner, tokenizer, folder)


def bracketed_problems(data: Bracketed, tokenizer: TokenizerSpec, folder: Path) -> list[Problem]:
    text = (folder / data.path).read_text()
    return [] if text.isdigit() else [(("data", "path"), f"{text!r} is no number")]


def test_a_new_kind_is_a_package_and_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package: Any = ModuleType("bracketed_kind")
    package.KIND = DataKind(
        open=open_bracketed,
        problems=bracketed_problems,
        problems_without_tokens=bracketed_problems,
        files=lambda data: [data.path],
    )
    monkeypatch.setitem(sys.modules, "bracketed_kind", package)
    monkeypatch.setitem(cast("dict[str, str]", KINDS), "bracketed", "bracketed_kind")
    (tmp_path / "n.txt").write_text("7")
    shipped = Library().task("bracket_matching")
    data = cast("Data", Bracketed("n.txt"))
    spec = SimpleNamespace(**{name: getattr(shipped.spec, name) for name in shipped.spec.__slots__})
    spec.data = data
    loaded: Any = SimpleNamespace(
        spec=spec, folder=tmp_path, source=shipped.source, trained_on=None
    )
    assert open_data(loaded).pairs("train", 3, 0).clean.shape == (3, 7 + 1)  # after BOS
    assert list(content_digests(loaded)) == ["n.txt"]
    assert kind_of(data).plug_in(data) is None
    (tmp_path / "n.txt").write_text("seven")
    (issue,) = check_task(loaded)
    assert issue.message == "'seven' is no number"
