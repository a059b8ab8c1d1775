"""README and topics are true: commands run, files are sound, tables are complete, links resolve.

A fenced block with a path after its language is a file that the reader is told to save. A YAML
block without a path is a piece of `tasks/greater_than.yaml`. Python blocks without a path are the
cells of a notebook, one for each page.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import re
import shlex
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import Any, get_args, get_type_hints

import click
import pytest
import torch
import yaml
from click.testing import CliRunner, Result
from support.slow_reference import small_model

from harness.circuits.edges.counterfactuals import EdgeCounterfactuals
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.patchable import EdgeModel
from harness.cli.main import VERBS, main
from harness.cli.topics import FOLDER, TOPICS, read_topic
from harness.datasets.batch import Batch
from harness.datasets.template.spec import TemplateData
from harness.discovery.problem import Problem
from harness.discovery.registry import built_in, make_method
from harness.metrics import MEASURES
from harness.models.transformer import Transformer
from harness.reports.rows import COLUMNS
from harness.spec import types
from harness.spec.granularity import BUILT_IN, BY_GRANULARITY, granularity
from harness.spec.schema import load_schema

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LONGEST_README = 220  # lines
SHOWN_COLUMNS = ["#", "method", "CMD ↓", "edges f≥.85/.95/.99 ↓", "f @10% ↑", "cost"]
"""Of the README's tables: those that `make readme-table` cuts out of the leaderboard."""
LEADERBOARD = ROOT / "results" / "leaderboard.md"
METHOD_SPECS = sorted((ROOT / "specs" / "methods").glob("*.yaml"))

# What the walk through the pages only checks for its options.
ONLY_PARSED = {
    "harness serve greater_than": "serves until Ctrl-C",
    "harness bench": "a model of the size of GPT-2 small",
    "harness bench --methods all": "every method on a model of that size",
    "harness bench --threads 1 --repeats 4 --dtype bfloat16 --beside float32 --methods all": (
        "the same, in two precisions"
    ),
    "harness bench --device cuda --tf32 --length 80 --methods 'edge_pruning step'": "needs a GPU",
    "harness bench --device cuda --dtype bfloat16 --model codellama-13b-random --length 80 "
    "--repeats 20 --methods 'edge_pruning step'": "needs a GPU",
    "harness features othello6-k32 --tokens 200000 --label-tokens 200000 --held-out 500 --output "
    "named": "minutes",
    "harness analyse signs othello6-k32 --labels named --loose 1 --sequences 6": "needs that one",
    "harness features othello6-k32 --tokens 60000 --label-tokens 60000 --held-out 200": "minutes",
    "harness run othello8 --jobs 2": "more than an hour",
    "harness features othello8-k32 --tokens 200000 --label-tokens 200000 --held-out 500 --output "
    "named8": "minutes",
    "harness analyse flow othello8-k32 --labels named8 --sequences 20": "needs that one",
    "harness run known_circuits": "trains masks, for seven tasks",
    "harness bench --prompts 1000,100000 --threads 1": "minutes",
    "harness run edge_pruning_prompts": "trains a model, and masks for three numbers of pairs",
    "harness run edge_pruning": "trains four models and their masks, for two seeds",
    "harness run edges_and_channels": "trains two models, and masks for four",
    "harness run mib": "needs the files of a model",
    "harness bridge dense sparse bridge --task code/single_double_quote --strengths "
    "0,0.1,0.25,0.5,1,2": "minutes",
    "harness run controls": "trains masks, for twelve cells",
    "harness table controls --columns method,weights,reached,times_own,task_loss,necessity,"
    "random_necessity,interchange_share": "needs that run",
    "harness run weight_sparse_small": "trains a weight-sparse model",
    "harness frontier weight_sparse_small --join heaviside_masks_sparse,heaviside_masks_range": (
        "needs that run"
    ),
    "harness run weight_sparse --jobs 2": "trains twelve models",
    "harness frontier weight_sparse --join heaviside_masks_sparse,heaviside_masks_range": (
        "needs that run"
    ),
    "harness run weight_sparse_cleaned": "trains three models",
    "harness frontier weight_sparse_cleaned": "needs that run",
    "harness run weight_sparse_widths --jobs 2": "trains six models",
    "harness frontier weight_sparse_widths": "needs that run",
    "harness run code": "trains masks, for twenty tasks",
    "harness table code --by-task": "needs that run",
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
    """A fenced block: its language, the file it is to be saved as (or ""), and its text.

    It starts at a line of a page, which is the name of the page's file.
    """

    language: str
    file: str
    text: str
    page: str
    line: int

    @property
    def place(self) -> str:
        """Where it starts, for messages."""
        return f"{self.page} line {self.line}"

    def commands(self) -> Iterator[list[str]]:
        """The command lines of a block for the shell, as words."""
        prompt = "$ " if self.language == "console" else ""
        for line in self.text.splitlines():
            if line.startswith(prompt) and (words := shlex.split(line[len(prompt) :], True)):
                yield words

    def output(self) -> str:
        """What a console block shows besides its commands."""
        return "".join(x for x in self.text.splitlines(keepends=True) if not x.startswith("$ "))


@dataclass(frozen=True)
class Page:
    """A page of the documentation: its path and its Markdown."""

    path: Path
    text: str

    @property
    def blocks(self) -> list[Block]:
        """Its fenced blocks, from top to bottom."""
        name, text = self.path.name, self.text
        return [
            Block(*_parts(found), name, text.count("\n", 0, found.start()) + 1)
            for found in _BLOCK.finditer(text)
        ]

    @property
    def anchors(self) -> set[str]:
        """What a link can name after a `#`, as GitHub makes it of titles."""
        titles = re.findall(r"^#+ (.*)$", _BLOCK.sub("", self.text), re.MULTILINE)
        return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}

    @property
    def links(self) -> list[str]:
        """Targets of links to files of this repository."""
        prose = _BLOCK.sub("", self.text)
        return list(dict.fromkeys(link for link in _LINK.findall(prose) if "://" not in link))

    def section(self, title: str) -> str:
        """The text below a heading, up to the next one."""
        found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", self.text, re.M | re.S)
        assert found, f"{self.path.name} has no section {title!r}"
        return found[1]

    def first_column(self, title: str) -> set[str]:
        """The names in backticks in the first column of the table of a section."""
        rows = re.findall(r"^\|([^|]*)\|", self.section(title), re.MULTILINE)
        return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def _parts(found: re.Match[str]) -> tuple[str, str, str]:
    return found[1], found[2] or "", found[3]


def topic(name: str) -> Page:
    return Page(FOLDER / f"{name}.md", read_topic(name).text)


PAGES = [Page(ROOT / "README.md", README), *map(topic, TOPICS)]
OTHER_PAGES = [
    Page(path, path.read_text(encoding="utf-8"))
    for path in (ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md")
]
BLOCKS = [block for page in PAGES for block in page.blocks]
SHELL = [block for block in BLOCKS if block.language in ("bash", "console")]
COMMANDS = [words for block in SHELL for words in block.commands()]
HARNESS = [words[1:] for words in COMMANDS if words[0] == "harness"]
LINKS = [(page, link) for page in [*PAGES, *OTHER_PAGES] for link in page.links]


def of_language(*languages: str) -> list[Block]:
    return [block for block in BLOCKS if block.language in languages]


class Reader:
    """Somebody who does in an empty folder what the pages say, in order."""

    def __init__(self, site: Path) -> None:
        self.site = site
        self.notebooks: dict[str, dict[str, Any]] = {}  # names defined by a page's Python

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
            names = self.notebooks.setdefault(block.page, {})
            exec(compile(block.text, block.place, "exec"), names)
        elif block.language == "text" and is_row(block.text) and "CMD ↓" in block.text:
            self.compare(block)
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

    def compare(self, block: Block) -> None:
        """What a page says that the run before it prints; to rounding, and but for the cost."""
        printed = rows_of(self.run(["table", "gift"]).stdout)
        shown = rows_of(block.text)
        assert list(shown[0]) == list(printed[0])
        assert {row["method"] for row in shown} == {row["method"] for row in printed}
        for row in shown:
            (same,) = (one for one in printed if one["method"] == row["method"])
            for name in ("CMD ↓", "f @10% ↑"):
                value, other = (first_number(one[name]) for one in (row, same))
                assert value == pytest.approx(other, abs=0.05, nan_ok=True), (name, row)

    def misspell(self) -> None:
        """Make the file whose mistakes a page shows."""
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
    for name in ("eap_at", "first_letter", "toy_heads"):  # of another test's folder
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
@pytest.mark.timeout(1200)  # seconds; two minutes on a quiet core
def test_the_pages_can_be_followed(reader: Reader) -> None:
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
    for folder in ("my_circuits", "my_heads"):
        reader.install(Path(folder))
    specs = [block.file for block in saved if block.language == "yaml"]
    assert len(specs) >= 5
    reader.run(["validate", *specs])


def test_pieces_of_the_tutorial_are_those_of_the_task() -> None:
    task = yaml.safe_load((ROOT / "tasks" / "greater_than.yaml").read_text(encoding="utf-8"))
    pieces = [block for block in of_language("yaml") if not block.file]
    assert len(pieces) >= 5
    for block in pieces:
        assert is_part(yaml.safe_load(block.text), task), block.place
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
    # As the topic says: at the clean prompt it is EAP.
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
    data_keys = {one.name for one in dataclasses.fields(TemplateData)} - {"kind"}
    assert topic("template-data").first_column("All keys of template data") == data_keys
    choices = {one.name for one in dataclasses.fields(types.Evaluation)}
    choices -= {"metric", "measures", "sizes", "counts", "targets", "searched_on", "dictionary"}
    choices -= {"margin"}
    choices -= {"discovery_pairs", "discovery_repeats", "test_pairs"}
    numbers = topic("read-the-numbers")
    assert numbers.first_column("Choices") == choices
    assert numbers.first_column("Columns of result rows") == set(COLUMNS)
    assert numbers.first_column("Measures") == set(MEASURES)
    for title in ("All methods", "Cost and objective"):
        assert topic("methods").first_column(title) == {path.stem for path in METHOD_SPECS}


def test_layers_are_those_of_the_contract() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = project["tool"]["importlinter"]["contracts"]
    layers = [name.strip("()") for name in contract["layers"]]
    rows = re.findall(r"^\| `harness/(\w+)", OTHER_PAGES[0].section("Layers"), re.MULTILINE)
    assert rows == layers
    folders = {path.parent.name for path in (ROOT / "harness").glob("*/__init__.py")}
    assert folders <= set(layers)


def test_arrows_are_those_of_the_measures() -> None:
    arrow = {name: measure.arrow for name, measure in MEASURES.items()}
    for row in re.findall(
        r"^\| (`.*)$", topic("read-the-numbers").section("Measures"), re.MULTILINE
    ):
        cells = [cell.strip() for cell in row.replace(r"\|", "").split("|")]
        names = re.findall(r"`(\w+)`", cells[0])
        assert [arrow[name] for name in names] == cells[2].split(", "), names


@pytest.mark.parametrize("spec", METHOD_SPECS, ids=lambda path: path.stem)
def test_objectives_and_steps_are_those_of_the_methods(spec: Path) -> None:
    table = topic("methods").section("Cost and objective")
    found = re.search(rf"^\| `{spec.stem}` \|(.*)\|$", table, re.MULTILINE)
    assert found
    cost, objective = (cell.strip() for cell in found[1].split("|"))
    given = yaml.safe_load(spec.read_text(encoding="utf-8"))
    method = make_method(given["kind"], given.get("params", {}))
    assert objective.strip("`") == getattr(method, "objective", "–")
    for number in re.findall(r"steps \((\d+)\)|(\d+) steps", cost):
        assert int("".join(number)) == getattr(method, "steps", None)


def test_choices_are_those_of_the_specs() -> None:
    kinds, edges = get_type_hints(types.Evaluation), granularity("edge")
    table = topic("read-the-numbers").section("Choices")
    for name, values in re.findall(r"^\| `(\w+)` \| ([^|]*) \|", table, re.MULTILINE):
        by_granularity = name in BY_GRANULARITY
        legal = edges.legal(name) if by_granularity else get_args(kinds[name]) or tuple(BUILT_IN)
        assert tuple(re.findall(r"`(\w+)`", values)) == legal, name


def test_choices_that_a_task_must_make_are_those_without_a_default() -> None:
    named = re.search(r"A task must choose\s+([^.]*)\.", topic("read-the-numbers").text)
    assert named
    evaluation = load_schema("task")["$defs"]["evaluation"]
    assert re.findall(r"`(\w+)`", named[1]) == evaluation["required"]
    for name, values in re.findall(
        r"^\| `(\w+)` \| `(\w+)`", topic("read-the-numbers").section("Choices"), re.MULTILINE
    ):
        if name not in evaluation["required"]:
            assert getattr(types.Evaluation(ablation="zero", positions="all"), name) == values


def test_the_granularity_is_the_one_that_is_tested() -> None:
    (block,) = (block for block in BLOCKS if block.file == "my_heads/toy_heads.py")
    assert block.text == (ROOT / "tests/plugins/toy_heads.py").read_text(encoding="utf-8")


def test_methods_for_edges_of_each_position_are_those_of_the_code() -> None:
    text = " ".join(topic("methods").section("Edges of each position").split())
    named = re.search(r"Methods that score such edges: ([^.]*)\.", text)
    assert named
    assert tuple(re.findall(r"`(\w+)`", named[1])) == tuple(
        kind for kind, info in built_in().items() if info.per_token
    )


def test_exit_codes_are_those_of_the_command_line() -> None:
    from harness.cli import main as module
    from harness.errors import HarnessError, StoreCorrupt

    codes = {0, 1, HarnessError.exit_code, StoreCorrupt.exit_code, module.BUG, module.INTERRUPTED}
    shown = re.findall(
        r"^\| (\d+) \|", topic("results-and-resume").section("Exit codes"), re.MULTILINE
    )
    assert {int(code) for code in shown} == codes


def test_built_in_methods_have_specs_that_a_page_can_name() -> None:
    for kind in built_in():
        assert (ROOT / "specs" / "methods" / f"{kind}.yaml").is_file()


def test_the_readme_is_short_and_leads_to_every_topic() -> None:
    assert len(README.splitlines()) <= LONGEST_README
    listed = re.findall(r"^- \[(.*?)\]\(harness/docs/([\w-]+)\.md\): (.*)$", README, re.MULTILINE)
    topics = [read_topic(name) for name in TOPICS]
    assert listed == [(one.title, one.name, one.summary) for one in topics]


def test_every_file_of_the_documentation_is_a_topic() -> None:
    assert {path.stem for path in FOLDER.glob("*.md")} == set(TOPICS)


@pytest.mark.parametrize("page", PAGES[1:], ids=lambda page: page.path.stem)
def test_a_topic_opens_with_its_title_and_one_sentence(page: Page) -> None:
    title, summary, _ = page.text.split("\n\n", 2)
    assert re.fullmatch(r"# \S.*", title)
    assert summary.endswith(".")
    assert ". " not in summary
    assert "\n# " not in _BLOCK.sub("", page.text)


@pytest.mark.parametrize(("page", "link"), LINKS, ids=lambda one: getattr(one, "path", one))
def test_links_lead_somewhere(page: Page, link: str) -> None:
    path, _, anchor = link.partition("#")
    target = (page.path.parent / path).resolve() if path else page.path
    assert target.is_relative_to(ROOT)
    if target.parent == ROOT / "results" and not target.exists():
        pytest.skip(f"{path} is not there yet; `make leaderboard` writes it")
    assert target.exists()
    if anchor:
        assert anchor in Page(target, target.read_text(encoding="utf-8")).anchors


# ---------------------------------------------------------------- tables of results
def rows_of(markdown: str) -> list[dict[str, str]]:
    """The rows of the first table of a text, by heading."""
    lines = list(takewhile(is_row, dropwhile(lambda line: not is_row(line), markdown.split("\n"))))
    head, _, *body = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return [dict(zip(head, row, strict=True)) for row in body]


def is_row(line: str) -> bool:
    return line.startswith("|")


def first_number(cell: str) -> float:
    """The number before ±; NaN for an empty cell."""
    return float(cell.split(maxsplit=1)[0]) if cell else math.nan


def test_the_leaderboard_is_that_of_the_results() -> None:
    if not LEADERBOARD.is_file():
        pytest.skip("results/leaderboard.md is not there yet; `make leaderboard` writes it")
    found = re.search(
        r"(.*)\n\n<!-- leaderboard:start -->\n(.*?)<!-- leaderboard:end", README, re.S
    )
    assert found
    whole = Page(LEADERBOARD, LEADERBOARD.read_text(encoding="utf-8")).section("ioi on ioi-4l-64")
    rows, shown = rows_of(whole), rows_of(found[2])
    assert list(shown[0]) == SHOWN_COLUMNS
    assert shown == [{name: row[name] for name in SHOWN_COLUMNS} for row in rows], (
        "run `make readme-table`"
    )
    for number in re.findall(r"\d+ (?:test pairs|edges)", whole):
        assert number in found[1].splitlines()[-1]
