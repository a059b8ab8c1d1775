"""The README is true: its commands run, its files are sound, its tables are complete.

A fenced block with a path after its language is a file that the reader is told to save. A YAML
block without a path is a piece of `tasks/greater_than.yaml`. A Python block without a path is a
script.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import re
import shlex
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import click
import pytest
import torch
import yaml
from click.testing import CliRunner, Result
from slow_reference import small_model

from harness.circuits.edges.counterfactuals import EdgeCounterfactuals
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.patchable import EdgeModel
from harness.cli.main import VERBS, main
from harness.discovery.problem import Problem
from harness.discovery.registry import BUILT_IN, PER_TOKEN, make_method
from harness.evaluation.catalogue import MEASURES
from harness.models.batch import Batch
from harness.models.transformer import Transformer
from harness.spec import types

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LEADERBOARD = ROOT / "results" / "leaderboard.md"
METHOD_SPECS = sorted((ROOT / "specs" / "methods").glob("*.yaml"))

# What the walk through the README only checks for its options.
ONLY_PARSED = {
    "harness bench": "a model of the size of GPT-2 small",
    "harness bench --methods all": "every method on a model of that size",
    "harness bench --device cuda --tf32 --length 80 --methods 'edge_pruning step'": "needs a GPU",
    "harness bench --device cuda --dtype bfloat16 --model codellama-13b-random --length 80 "
    "--repeats 20 --methods 'edge_pruning step'": "needs a GPU",
    "harness run known_circuits": "trains masks, for seven tasks",
    "harness bench --prompts 1000,100000 --threads 1": "minutes",
    "harness run edge_pruning_prompts": "trains a model, and masks for three numbers of pairs",
    "harness run edge_pruning": "trains four models and their masks, for two seeds",
    "harness run mib": "needs the files of a model",
    "harness judge CELL": "all tests of a circuit take minutes; the next two commands run some",
    "harness export mib --format mib --method eap_ig --to circuits": "needs that run",
}
TYPING_ERRORS = {
    "name: greater_than ": "name: typo ",
    "YY: years\n": "YY: yaers\n",
    "{NOUN} went on": "{NUON} went on",
}

_BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the file it is to be saved as (or ""), and its text."""

    language: str
    file: str
    text: str
    line: int

    def commands(self) -> Iterator[list[str]]:
        """The command lines of a block for the shell, as words."""
        prompt = "$ " if self.language == "console" else ""
        for line in self.text.splitlines():
            if line.startswith(prompt) and (words := shlex.split(line[len(prompt) :], True)):
                yield words

    def output(self) -> str:
        """What a console block shows besides its commands."""
        return "".join(x for x in self.text.splitlines(keepends=True) if not x.startswith("$ "))


BLOCKS = [
    Block(found[1], found[2] or "", found[3], README.count("\n", 0, found.start()) + 1)
    for found in _BLOCK.finditer(README)
]
SHELL = [block for block in BLOCKS if block.language in ("bash", "console")]
COMMANDS = [words for block in SHELL for words in block.commands()]
HARNESS = [words[1:] for words in COMMANDS if words[0] == "harness"]
LINKS = list(dict.fromkeys(link for link in _LINK.findall(README) if "://" not in link))
TITLES = re.findall(r"^#+ (.*)$", _BLOCK.sub("", README), re.MULTILINE)
ANCHORS = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in TITLES}


def of_language(*languages: str) -> list[Block]:
    return [block for block in BLOCKS if block.language in languages]


def section(title: str) -> str:
    """The text below a heading, up to the next one."""
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", README, re.M | re.S)
    assert found, f"the README has no section {title!r}"
    return found[1]


def first_column(title: str) -> set[str]:
    """The names in backticks in the first column of the table of a section."""
    rows = re.findall(r"^\|([^|]*)\|", section(title), re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


class Reader:
    """Somebody who does in an empty folder what the README says, in order."""

    def __init__(self, site: Path) -> None:
        self.site = site

    def save(self, block: Block) -> None:
        path = Path(block.file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, encoding="utf-8")

    def install(self, folder: Path) -> None:
        """As `pip install`, for a package of single modules: what its `pyproject.toml` says."""
        project = tomllib.loads((folder / "pyproject.toml").read_text())
        for name in project["tool"]["setuptools"]["py-modules"]:
            (self.site / f"{name}.py").write_text((folder / f"{name}.py").read_text())
        head = project["project"]
        note = self.site / f"{head['name'].replace('-', '_')}.dist-info"
        note.mkdir(exist_ok=True)
        version = f"Metadata-Version: 2.1\nName: {head['name']}\nVersion: {head['version']}\n"
        (note / "METADATA").write_text(version)
        groups = head["entry-points"].items()
        (note / "entry_points.txt").write_text(
            "\n".join(
                "\n".join([f"[{group}]", *(f"{name} = {value}" for name, value in points.items())])
                for group, points in groups
            )
        )
        importlib.invalidate_caches()

    def run(self, arguments: list[str], code: int = 0) -> Result:
        named = {} if not {"CELL", "OTHER"} & set(arguments) else self._cells()
        words = [named.get(word, word) for word in arguments]
        result = CliRunner().invoke(main, words)
        assert result.exit_code == code, f"harness {' '.join(words)}\n{result.output}"
        return result

    def _cells(self) -> dict[str, str]:
        cells = json.loads(self.run(["status", "greater_than", "--json"]).stdout)[0]["cells"]
        return {"CELL": cells[0]["cell"][:8], "OTHER": cells[1]["cell"][:8]}

    def follow(self, block: Block) -> None:
        """Do what one block says."""
        if block.file:
            self.save(block)
        elif block.language == "python":
            exec(compile(block.text, f"README.md line {block.line}", "exec"), {})
        elif block.language == "console":
            self.misspell()
            for words in block.commands():
                assert self.run(words[1:], code=2).stdout == block.output()
        elif block.language == "bash":
            for words in block.commands():
                self.obey(words)

    def obey(self, words: list[str]) -> None:
        if words[:2] == ["pip", "install"]:
            self.install(Path(words[2]))
        elif words[0] == "harness" and shlex.join(words) not in ONLY_PARSED:
            self.run(words[1:])

    def misspell(self) -> None:
        """Make the file whose mistakes the README shows."""
        text = (ROOT / "tasks" / "greater_than.yaml").read_text(encoding="utf-8")
        for right, wrong in TYPING_ERRORS.items():
            assert text.count(right) == 1, f"greater_than.yaml should have {right!r} once"
            text = text.replace(right, wrong)
        Path("tasks").mkdir(exist_ok=True)
        Path("tasks/typo.yaml").write_text(text, encoding="utf-8")


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reader:
    site, folder = tmp_path / "site", tmp_path / "here"
    site.mkdir()
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(site))
    for name in ("eap_at", "first_letter"):  # of another test's folder
        sys.modules.pop(name, None)
    return Reader(site)


# ---------------------------------------------------------------- commands
@pytest.mark.parametrize("arguments", HARNESS, ids=" ".join)
def test_every_command_is_understood(arguments: list[str]) -> None:
    context = click.Context(main)
    command = main.get_command(context, arguments[0])
    assert command is not None, f"there is no verb {arguments[0]!r}"
    command.make_context(arguments[0], arguments[1:], parent=context)


def test_every_verb_is_shown() -> None:
    assert {words[0] for words in HARNESS} == set(VERBS)
    assert set(ONLY_PARSED) <= {shlex.join(words) for words in COMMANDS}


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {words[1] for words in COMMANDS if words[0] == "make"}
    assert {"demo", "test"} <= named <= targets


@pytest.mark.slow
def test_the_readme_can_be_followed(reader: Reader) -> None:
    """Every block in order: files saved, scripts run, commands obeyed. Trains `greater_than`."""
    for block in BLOCKS:
        reader.follow(block)
    for made in ("curves.svg", "importances.json", "importances.pt", "tasks/my_task.yaml"):
        assert Path(made).is_file(), made


# ---------------------------------------------------------------- files
def test_mistakes_are_shown_as_they_are(reader: Reader) -> None:
    (block,) = of_language("console")
    reader.follow(block)


def test_specs_are_sound(reader: Reader) -> None:
    saved = [block for block in BLOCKS if block.file]
    for block in saved:
        reader.save(block)
    reader.install(Path("my_circuits"))
    specs = [block.file for block in saved if block.language == "yaml"]
    assert len(specs) >= 5
    reader.run(["validate", *specs])


def test_pieces_of_the_tutorial_are_those_of_the_task() -> None:
    task = yaml.safe_load((ROOT / "tasks" / "greater_than.yaml").read_text(encoding="utf-8"))
    pieces = [block for block in of_language("yaml") if not block.file]
    assert len(pieces) >= 5
    for block in pieces:
        assert is_part(yaml.safe_load(block.text), task), f"README.md line {block.line}"
    named = {key for block in pieces for key in yaml.safe_load(block.text)}
    assert set(task) - named == {"description", "tags"}


def is_part(piece: Any, whole: Any) -> bool:
    """Whether `whole` has everything of `piece`, perhaps with more keys and items."""
    if isinstance(piece, dict) and isinstance(whole, dict):
        return all(key in whole and is_part(value, whole[key]) for key, value in piece.items())
    if isinstance(piece, list) and isinstance(whole, list):
        return all(any(is_part(item, one) for one in whole) for item in piece)
    return bool(piece == whole)


# ---------------------------------------------------------------- plug-ins
def problem_of(model: Transformer, batch: Batch) -> Problem:
    graph = Graph.of(model.config)
    return Problem(
        EdgeModel(model, graph),
        (batch,),
        EdgeCounterfactuals(model, graph, "interchange"),
        "logit_diff",
        torch.Generator().manual_seed(0),
    )


def test_the_method_works_on_a_random_model(
    reader: Reader, random_batch: Callable[..., Batch]
) -> None:
    for block in BLOCKS:
        if block.file.startswith("my_circuits/"):
            reader.save(block)
    reader.install(Path("my_circuits"))
    problem = problem_of(small_model("gpt2-like"), random_batch())
    half = make_method("eap_at", {}).discover(problem).scores
    assert half.shape == (len(problem.space),)
    assert (half != 0).any()
    # As the README says: at the clean prompt it is EAP.
    whole_way = make_method("eap_at", {"share": 1.0}).discover(problem).scores
    torch.testing.assert_close(whole_way, make_method("eap", {}).discover(problem).scores)


def test_the_generator_makes_a_task(reader: Reader) -> None:
    from harness.datasets.open import open_data
    from harness.spec.load import Library

    for block in BLOCKS:
        if block.file:
            reader.save(block)
    reader.install(Path("my_circuits"))
    data = open_data(Library().task("first_letter"))
    pairs = data.pairs("test", 32, 0)
    bos = 1
    assert (pairs.good[:, 0, 0] == pairs.clean[:, bos]).all()
    assert (pairs.bad[:, 0, 0] == pairs.corrupted[:, bos]).all()
    assert ((pairs.clean != pairs.corrupted).sum(axis=1) == 1).all()
    for objective in ("answer", "next_token"):
        batch = data.training_batch(objective, 8, 0, 0)
        last = batch.targets[:, -1]
        assert (last == batch.tokens[:, bos]).all()


# ---------------------------------------------------------------- tables, links
def test_tables_are_complete() -> None:
    data_keys = {one.name for one in dataclasses.fields(types.TemplateData)} - {"kind"}
    assert first_column("All keys of template data") == data_keys
    choices = {one.name for one in dataclasses.fields(types.Evaluation)}
    choices -= {"metric", "measures", "sizes"}
    choices -= {"discovery_pairs", "discovery_repeats", "test_pairs"}
    assert first_column("Choices") == choices
    assert first_column("Measures") == {measure.name for measure in MEASURES}
    assert first_column("Methods") == {path.stem for path in METHOD_SPECS}
    folders = {path.parent.name for path in (ROOT / "harness").glob("*/__init__.py")}
    named = first_column("The way through the house")
    assert {name for name in named if name.startswith("harness/")} == {
        f"harness/{folder}/" for folder in folders
    }


def test_arrows_are_those_of_the_measures() -> None:
    arrow = {measure.name: measure.arrow for measure in MEASURES}
    for row in re.findall(r"^\| (`.*)$", section("Measures"), re.MULTILINE):
        cells = [cell.strip() for cell in row.replace(r"\|", "").split("|")]
        names = re.findall(r"`(\w+)`", cells[0])
        assert [arrow[name] for name in names] == cells[2].split(", "), names


@pytest.mark.parametrize("spec", METHOD_SPECS, ids=lambda path: path.stem)
def test_objectives_and_steps_are_those_of_the_methods(spec: Path) -> None:
    found = re.search(rf"^\| `{spec.stem}` \|(.*)\|$", section("Methods"), re.MULTILINE)
    assert found
    *_, cost, objective = (cell.strip() for cell in found[1].split("|"))
    given = yaml.safe_load(spec.read_text(encoding="utf-8"))
    method = make_method(given["kind"], given.get("params", {}))
    assert objective.strip("`") == getattr(method, "objective", "–")
    for number in re.findall(r"steps \((\d+)\)|(\d+) steps", cost):
        assert int("".join(number)) == getattr(method, "steps", None)


def test_choices_are_those_of_the_specs() -> None:
    kinds = get_type_hints(types.Evaluation)
    for name, values in re.findall(r"^\| `(\w+)` \| ([^|]*) \|", section("Choices"), re.MULTILINE):
        assert tuple(re.findall(r"`(\w+)`", values)) == get_args(kinds[name]), name


def test_methods_for_edges_of_each_position_are_those_of_the_code() -> None:
    named = re.search(
        r"Methods that score such\nedges: ([^.]*)\.", section("Edges of each position")
    )
    assert named
    assert tuple(re.findall(r"`(\w+)`", named[1])) == PER_TOKEN


def test_exit_codes_are_those_of_the_command_line() -> None:
    from harness.cli import main as module
    from harness.errors import HarnessError, StoreCorrupt

    codes = {0, 1, HarnessError.exit_code, StoreCorrupt.exit_code, module.BUG, module.INTERRUPTED}
    shown = re.findall(r"^\| (\d+) \|", section("Results and resume"), re.MULTILINE)
    assert {int(code) for code in shown} == codes


def test_built_in_methods_have_specs_that_the_readme_can_name() -> None:
    for kind in BUILT_IN:
        assert (ROOT / "specs" / "methods" / f"{kind}.yaml").is_file()


@pytest.mark.parametrize("link", LINKS)
def test_links_lead_somewhere(link: str) -> None:
    path, _, anchor = link.partition("#")
    if path.startswith("results/") and not (ROOT / path).exists():
        pytest.skip(f"{path} is not there yet; `make leaderboard` writes it")
    assert (ROOT / path).exists()
    if anchor and not path:
        assert anchor in ANCHORS


def test_the_leaderboard_is_that_of_the_results() -> None:
    if not LEADERBOARD.is_file():
        pytest.skip("results/leaderboard.md is not there yet; `make leaderboard` writes it")
    found = re.search(r"<!-- leaderboard:start -->\n(.*?)<!-- leaderboard:end -->", README, re.S)
    assert found
    shown = found[1].strip().splitlines()
    whole = LEADERBOARD.read_text(encoding="utf-8").strip().splitlines()
    assert any(line.startswith("|") for line in shown), "the block holds no table"
    assert shown == whole[: len(shown)], "put the first lines of results/leaderboard.md there"
