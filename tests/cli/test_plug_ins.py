"""A method of an installed package: its params, its mistakes and its errors are its author's."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.circuits.space import NamedElements
from harness.discovery.problem import Discovery
from harness.discovery.sizing import checked
from harness.errors import HarnessError
from harness.runs.compute import plug_in_frames

METHOD = """from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import torch

from harness import Discovery
from harness.spec.key import Key

if TYPE_CHECKING:
    from harness import Problem


@dataclass(frozen=True)
class Mine:
    need: int
    share: Annotated[float, Key(minimum=0, maximum=1)] = 0.5
    mode: Literal[
        "good", "tensor", "list", "short", "nan", "equal", "crash", "drift", "move"
    ] = "good"
    layers: tuple[int, ...] = (0,)
    anything: object = None

    def __post_init__(self) -> None:
        if self.need > 99:
            raise ValueError("need is a number of things, at most 99")

    def discover(self, problem: Problem) -> Discovery:
        scores = torch.rand(len(problem.space), generator=problem.generator)
        if self.mode == "tensor":
            return scores
        if self.mode == "list":
            return Discovery(scores.tolist())
        if self.mode == "short":
            return Discovery(scores[1:])
        if self.mode == "nan":
            return Discovery(scores / 0 - scores / 0)
        if self.mode == "equal":
            return Discovery(torch.ones_like(scores))
        if self.mode == "drift":
            return Discovery(torch.rand(len(problem.space)))
        if self.mode == "move":
            problem.model.embedding.data += 1
        if self.mode == "crash":
            return crash(scores)
        return Discovery(scores)


def crash(scores):
    return scores @ torch.ones(2, 3)  # no such product
"""
SPEC = """spec_version: 1
name: mine
title: Of a package
kind: mine_kind
params: {params}
"""


@pytest.fixture
def installed(harness: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The command line, with a package on the path that has an entry point."""
    monkeypatch.undo()
    monkeypatch.chdir(harness.folder)
    site = tmp_path / "site"
    info = site / "mine_circuits-0.3.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine-circuits\nVersion: 0.3\n")
    (info / "entry_points.txt").write_text(
        "[harness.methods]\nmine_kind = mine_circuits_module:Mine\n"
    )
    (site / "mine_circuits_module.py").write_text(METHOD)
    monkeypatch.syspath_prepend(str(site))
    plug_in_frames._packages.cache_clear()

    def write(params: str) -> Any:
        harness.write("specs/methods/mine.yaml", SPEC.replace("{params}", params))
        return harness

    yield write
    sys.modules.pop("mine_circuits_module", None)
    plug_in_frames._packages.cache_clear()


@pytest.mark.parametrize(
    ("params", "place", "message"),
    [
        ("{need: 1, shar: 0.5}", "5:19", "unknown key 'shar'; did you mean 'share'?"),
        ("{need: 1, share: 2}", "5:26", "params.share: must be at most 1, got 2"),
        ("{need: 1, share: half}", "5:26", "expected a number, got the string 'half'"),
        ("{need: 1, mode: god}", "5:25", "'god' is not one of"),
        ("{need: 1, layers: [0, x]}", "5:31", "expected an integer, got the string 'x'"),
        ("{share: 0.5}", "5:1", "missing required key 'need'"),
        ("{need: true}", "5:16", "expected an integer, got true"),
        ("{need: 100}", "5:1", "need is a number of things, at most 99"),
    ],
)
def test_params_are_checked_where_they_are_written(
    installed: Any, params: str, place: str, message: str
) -> None:
    said = installed(params)("validate", "mine", code=2).stdout
    assert f"specs/methods/mine.yaml:{place}: error:" in said
    assert message in said


def test_check_begins_with_the_spec(installed: Any) -> None:
    said = installed("{need: 1, shar: 0.5}")("check", "mine", code=2).stderr
    assert "specs/methods/mine.yaml:5:19: error: params: unknown key 'shar'" in said


def test_a_package_that_cannot_be_imported_is_said_at_its_name(
    installed: Any, tmp_path: Path
) -> None:
    (tmp_path / "site/mine_circuits_module.py").write_text("import nowhere_at_all\n")
    said = installed("{need: 1}")("validate", "mine", code=2).stdout
    assert "specs/methods/mine.yaml:4:7: error: kind: method 'mine_kind' of package" in said
    assert "cannot be loaded: No module named 'nowhere_at_all'" in said


def test_params_that_fit_and_those_of_unknown_types_are_taken(installed: Any) -> None:
    installed("{need: 1, share: 1, layers: [1, 2], anything: {deep: [1]}}")("validate", "mine")


def test_a_method_that_does_what_it_has_to(installed: Any) -> None:
    said = installed("{need: 1}")("check", "mine").stdout
    assert "FAILED" not in said
    assert "rank correlation of magnitudes" in said


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("tensor", "discover must return a Discovery, got Tensor"),
        ("list", "scores of a Discovery must be a tensor of 46 numbers"),
        ("short", "of shape (45,)"),
        ("nan", "scores that are not finite"),
        ("equal", "all 46 scores are 1"),
        ("drift", "draw everything random from problem.generator"),
        ("move", "weights of the model have changed"),
    ],
)
def test_mistakes_are_said_in_a_line(installed: Any, mode: str, message: str) -> None:
    said = installed(f"{{need: 1, mode: {mode}}}")("check", "mine", code=1).stdout
    failed = [line for line in said.splitlines() if line.startswith("FAILED")]
    assert message in failed[0]


def test_an_error_shows_the_authors_own_frames(installed: Any) -> None:
    said = installed("{need: 1, mode: crash}")("check", "mine", code=1).stdout
    assert "FAILED  finds scores: RuntimeError: " in said
    assert "mine_circuits_module.py" in said
    assert "in crash" in said
    assert "return scores @ torch.ones(2, 3)  # no such product" in said
    assert "sizing.py" not in said
    assert "services" not in said


def test_a_run_shows_them_too(installed: Any) -> None:
    harness = installed("{need: 1, mode: crash}")
    harness.write(
        "specs/methods/paths.yaml",
        "spec_version: 1\nname: paths\ntitle: P\nkind: random_paths\n",
    )
    harness.suite("quickstart", ["toy"], ["mine"])
    result = harness("run", "toy", "--methods", "mine", "--limit", "4", code=1)
    assert "RuntimeError: " in result.stderr
    assert "in crash" in result.stderr
    log = (harness.folder / "results/toy/run.log").read_text()
    assert "in crash" in log
    assert "compute/cell.py" not in log


def test_only_a_discovery_is_one() -> None:
    space = NamedElements("toy", "toys", ("a", "b"))
    with pytest.raises(HarnessError, match="must return a Discovery, got NoneType"):
        checked(None, space, "mine")
    fine = checked(Discovery(torch.tensor([1.0, 2.0])), space, "mine")
    assert fine.scores.tolist() == [1.0, 2.0]
