"""Specs are found by name and path, from anywhere; broken ones are named as broken."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import NotFound, SpecError
from harness.spec import load, search, shipped
from harness.spec.load import Library, spec_kind
from harness.spec.types import LoadModel, TrainModel

Put = Callable[[str, str], Path]


@pytest.fixture
def put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, valid: Path) -> Put:
    """Write a copy of a valid spec (`tasks/tiny`), renamed, below an empty current folder."""
    monkeypatch.chdir(tmp_path)
    empty = tmp_path / "nothing_shipped"
    monkeypatch.setattr(search, "shipped_root", lambda: empty)

    def write(to: str, source: str) -> Path:
        path = tmp_path / to
        path.parent.mkdir(parents=True, exist_ok=True)
        text = (valid / f"{source}.yaml").read_text(encoding="utf-8")
        path.write_text(text.replace(f"name: {Path(source).name}\n", f"name: {path.stem}\n"))
        return path

    return write


def test_by_name_by_subfolder_and_by_path(put: Put, tmp_path: Path) -> None:
    put("tasks/one.yaml", "tasks/tiny")
    put("tasks/known/two.yml", "tasks/tiny")
    put("elsewhere/three.yaml", "tasks/tiny")
    library = Library()
    assert library.task("one").spec.name == "one"
    assert library.task("two").path == library.task("known/two").path
    assert library.task("elsewhere/three.yaml").folder == Path("elsewhere")
    assert library.task(str(tmp_path / "elsewhere" / "three.yaml")).spec.name == "three"
    assert [(entry.ref, entry.name) for entry in library.entries("task")] == [
        ("known/two", "two"),
        ("one", "one"),
    ]


def test_earlier_folders_hide_later_ones(put: Put) -> None:
    put("mine/tasks/one.yaml", "tasks/tiny")
    put("tasks/one.yaml", "tasks/tiny")
    put("tasks/two.yaml", "tasks/tiny")
    library = Library([Path("mine")])
    assert library.entries("task")[0].path == Path("mine/tasks/one.yaml")
    assert library.task("one").path.parent == Path("mine/tasks")
    assert library.task("two").spec.name == "two"


def test_an_included_folder_of_tasks(put: Put) -> None:
    put("flat/one.yaml", "tasks/tiny")
    assert Library([Path("flat")]).task("one").spec.name == "one"
    assert Library([Path("flat")]).entries("method") == []
    with pytest.raises(NotFound, match="no folder nowhere to include"):
        Library([Path("nowhere")])


def test_not_found_says_what_is_near_where_and_what_is_broken(put: Put) -> None:
    put("tasks/brackets.yaml", "tasks/tiny")
    put("tasks/torn.yaml", "tasks/tiny").write_text("title: [\n")
    with pytest.raises(NotFound) as caught:
        Library().task("bracket")
    assert str(caught.value).splitlines() == [
        "unknown task 'bracket'; did you mean 'brackets'?",
        f"  searched: {Path('tasks')}",
        f"  broken: {Path('tasks/torn.yaml')} (1 mistake)",
    ]
    with pytest.raises(NotFound, match=r"^unknown task 'zzz'; known: brackets, torn\n"):
        Library().task("zzz")
    with pytest.raises(NotFound, match=r"no task file 'zzz\.yaml'"):
        Library().task("zzz.yaml")
    put("mine.yaml", "tasks/tiny")
    with pytest.raises(NotFound, match=r"did you mean the file 'mine\.yaml'"):
        Library().task("mine")


@pytest.mark.parametrize(
    "ref", ["", "a\0b", "a\0b.yaml", "x" * 5000, "\x1b[2J", "../..", "é\udcff"]
)
def test_odd_names_are_only_not_found(ref: str, put: Put) -> None:
    put("tasks/one.yaml", "tasks/tiny")
    with pytest.raises(NotFound) as caught:
        Library().task(ref)
    assert str(caught.value).replace("\n", "").isprintable()
    str(caught.value).encode()


def test_a_broken_file_is_broken_never_missing(put: Put) -> None:
    put("tasks/torn.yaml", "tasks/tiny").write_text("title: [\n")
    put("tasks/wrong.yaml", "tasks/tiny").write_text("title: Still has a title\ntags: [a]\n")
    library = Library()
    torn, wrong = library.entries("task")
    assert (torn.name, torn.title, len(torn.issues)) == ("torn", "", 1)
    assert (wrong.title, wrong.tags, len(wrong.issues)) == ("Still has a title", ("a",), 6)
    for name in ("torn", "wrong"):
        with pytest.raises(SpecError, match=rf"{name}\.yaml:\d:\d: error: "):
            library.task(name)


def test_names_that_mean_two_files(put: Put) -> None:
    put("tasks/a/one.yaml", "tasks/tiny")
    put("tasks/b/one.yaml", "tasks/tiny")
    with pytest.raises(NotFound, match="task 'one' is ambiguous; known: a/one, b/one"):
        Library().task("one")
    assert Library().task("b/one").folder.name == "b"
    put("tasks/one.yaml", "tasks/tiny")
    assert Library().task("one").folder.name == "tasks"


def test_a_task_holds_the_model_it_names(put: Put) -> None:
    path = put("tasks/one.yaml", "tasks/tiny_template")
    put("specs/models/tiny_model.yaml", "models/tiny_model")
    loaded = Library().task("one")
    assert isinstance(loaded.spec.model, TrainModel)
    assert loaded.spec.model.name == loaded.resolved["model"]["name"] == "tiny_model"
    assert set(loaded.resolved["model"]) == {"kind", "name", "architecture", "training"}
    path.write_text(path.read_text().replace("model: tiny_model", "model: ../m/other.yaml"))
    put("m/other.yaml", "models/tiny_model")
    assert Library().task("one").spec.model.name == "other"


def test_paths_of_a_named_model_stay_right(put: Put, tmp_path: Path) -> None:
    task = put("tasks/one.yaml", "tasks/tiny_template")
    put("specs/models/tiny_model.yaml", "models/tiny_model").write_text(
        "spec_version: 1\nname: tiny_model\ntitle: T\nkind: load\npath: weights/x\n"
    )
    model = Library().task("one").spec.model
    assert isinstance(model, LoadModel)
    assert (task.parent / model.path).resolve() == tmp_path / "specs/models/weights/x"
    assert not Path(model.path).is_absolute()


def test_a_model_trained_on_another_task(put: Put, tmp_path: Path) -> None:
    """Named inline or in a model file, by name or path, and also by the task itself."""
    put("tasks/taught.yaml", "tasks/tiny_template")
    put("tasks/asked.yaml", "tasks/tiny_template")
    model = put("specs/models/tiny_model.yaml", "models/tiny_model")
    plain = model.read_text()
    assert Library().task("asked").trained_on is None
    assert Library().model("tiny_model").trained_on is None
    for ref in ("taught", "../../tasks/taught.yaml"):
        model.write_text(plain + f"task: {ref}\n")
        assert not Library().issues(model)
        for name in ("asked", "taught"):
            loaded = Library().task(name)
            assert loaded.trained_on is not None
            assert loaded.trained_on.spec.name == "taught"
            assert loaded.trained_on.trained_on is None
        found = Library().model("tiny_model").trained_on
        assert found is not None
        assert found.path.resolve() == tmp_path / "tasks/taught.yaml"


def test_a_task_to_train_on_that_is_not_there(put: Put) -> None:
    task = put("tasks/asked.yaml", "tasks/tiny_template")
    model = put("specs/models/tiny_model.yaml", "models/tiny_model")
    model.write_text(model.read_text() + "task: askd\n")
    (issue,) = Library().issues(model)
    assert (issue.line, issue.where) == (18, "task")
    assert issue.message == "unknown task 'askd'; did you mean 'asked'?"
    inline = "{kind: train, task: askd, architecture: {n_layers: 1, n_heads: 1, d_model: 2}"
    text = task.read_text().replace(
        "model: tiny_model", f"model: {inline}, training: {{objective: answer, steps: 1}}}}"
    )
    task.write_text(text)
    (issue,) = Library().issues(task)
    assert issue.where == "model.task"


def test_mistakes_of_a_named_model_are_those_of_the_task_too(put: Put) -> None:
    put("tasks/one.yaml", "tasks/tiny_template")
    put("specs/models/tiny_model.yaml", "models/tiny_model").write_text("kind: train\n")
    (entry,) = Library().entries("task")
    files = {Path(issue.file).name for issue in entry.issues}
    assert files == {"one.yaml", "tiny_model.yaml"}


def test_what_a_file_is_a_spec_of(put: Put, tmp_path: Path) -> None:
    bare = "name: x\n"
    for path, text, kind in [
        (
            "x.yaml",
            "# note\n# yaml-language-server: $schema=a/b/suite.schema.json\n" + bare,
            "suite",
        ),
        ("specs/methods/x.yaml", bare, "method"),
        ("models/x.yaml", bare, "model"),
        ("y.yaml", bare + "# $schema=suite.schema.json\n", "task"),
    ]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
        assert spec_kind(tmp_path / path) == kind


def test_files_are_read_once_per_library(put: Put) -> None:
    path = put("tasks/one.yaml", "tasks/tiny")
    library = Library()
    library.task("one")
    path.write_text("broken: [")
    assert library.task("one").spec.name == "one"
    assert Library().entries("task")[0].issues


def test_hidden_folders_are_no_specs(put: Put) -> None:
    put("tasks/.ipynb_checkpoints/one.yaml", "tasks/tiny")
    assert Library().entries("task") == []


def test_loaded_specs_share_nothing(put: Put) -> None:
    put("tasks/one.yaml", "tasks/tiny")
    library = Library()
    library.task("one").resolved["data"]["params"]["kinds"].append("<>")
    assert library.task("one").resolved["data"]["params"]["kinds"] == ["()", "[]", "{}"]


# ------------------------------------------------------------------ what is shipped
def test_everything_shipped_is_valid_and_starts_with_its_schema(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # works from anywhere
    library = Library()
    for kind in ("task", "model", "method", "suite"):
        for entry in library.entries(kind):
            assert [str(issue) for issue in entry.issues] == []
            assert entry.title
            first = entry.path.read_text(encoding="utf-8").splitlines()[0]
            schema = first.removeprefix("# yaml-language-server: $schema=")
            assert (entry.path.parent / schema).resolve().name == f"{kind}.schema.json"
            assert (entry.path.parent / schema).is_file()
            getattr(library, kind)(entry.ref)
    names = {entry.name for entry in library.entries("method")}
    assert names >= {"random", "random_paths", "activation_patching", "eap", "eap_ig"}


def test_root_of_a_checkout_and_of_an_installed_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load.shipped_root() == Path(load.__file__).resolve().parents[2]
    package = tmp_path / "harness"
    monkeypatch.setattr(shipped, "_PACKAGE", package)
    assert load.shipped_root() == tmp_path
    (package / "shipped").mkdir(parents=True)
    assert load.shipped_root() == package / "shipped"


def test_listing_imports_nothing_heavy() -> None:
    code = (
        "import sys; from harness.spec.load import Library\n"
        "for kind in ('task', 'model', 'method', 'suite'): Library().entries(kind)\n"
        "print([m for m in ('torch', 'numpy', 'polars', 'harness.datasets') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_tags_of_tasks_by_name() -> None:
    library = Library()
    tags = {entry.name: entry.tags for entry in library.entries("task") if entry.ref == "ioi"}
    assert tags["ioi"]
    assert library.tags({"ioi", "no_such_task"}) == tags
    assert library.tags(set()) == {}
