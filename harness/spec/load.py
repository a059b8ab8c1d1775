"""Loads specs by name or path: checked, completed and typed.

    library = Library()
    library.task("ioi").spec.evaluation.sizes

A file with mistakes is never skipped: it is listed with its issues, and asking for it raises
them. Nothing here imports torch or runs code of a task.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeGuard, TypeVar, cast

from harness.errors import NotFound, SpecError
from harness.spec.issues import Issue, did_you_mean, in_order, listed, spec_error
from harness.spec.moved import moved_model
from harness.spec.printable import quoted, shown_path
from harness.spec.references import references_of
from harness.spec.schema import SpecKind, check
from harness.spec.search import (
    SpecFile,
    all_files,
    is_file,
    is_path,
    matching,
    search_folders,
    shown_folders,
    spec_kind,
)
from harness.spec.shipped import shipped_root
from harness.spec.yaml.source import Source, parse_text, read_text

if TYPE_CHECKING:  # listing specs does without these: making the classes takes a while
    from harness.spec.types import DictionarySpec, Method, Model, Suite, Task

__all__ = ["Entry", "Library", "Loaded", "shipped_root", "spec_kind"]

T = TypeVar("T")


@dataclass(frozen=True)
class Loaded(Generic[T]):
    """A valid spec. `resolved` is plain data with all defaults and a task's model written out.

    Paths inside the spec are relative to `folder`. `trained_on`: the task that the model of this
    task (or this model) is trained on, where it names one. `task`, `model`: those that dictionaries
    are of, the model only where they name one. `dictionary`: what this task's evaluation names.
    """

    spec: T
    resolved: dict[str, Any]
    path: Path
    source: Source
    folder: Path
    trained_on: Loaded[Task] | None = None
    task: Loaded[Task] | None = None
    model: Loaded[Model] | None = None
    dictionary: Loaded[DictionarySpec] | None = None


@dataclass(frozen=True)
class Entry:
    """A spec file in a list; `issues` is empty if it is sound.

    `name` is the file's name without ending; `ref` names it among files of equal name
    (`known/x`). Title and tags are empty where the file does not give them.
    """

    kind: SpecKind
    name: str
    ref: str
    title: str
    path: Path
    tags: tuple[str, ...]
    issues: tuple[Issue, ...]


@dataclass(frozen=True)
class _Checked:
    path: Path
    source: Source | None  # None: the file could not be read as text
    issues: tuple[Issue, ...]


class Library:
    """All specs that can be named: of included folders, the current folder, and shipped ones.

    Files are read once per library.
    """

    def __init__(self, include: Sequence[Path] = ()) -> None:
        """Search `include` first, in order. Raises `NotFound` if one is not a folder."""
        self._include = tuple(Path(folder) for folder in include)
        for folder in self._include:
            if not folder.is_dir():
                raise NotFound(f"no folder {shown_path(folder)} to include")
        self._checked: dict[tuple[Path, SpecKind], _Checked] = {}
        self._listed: dict[SpecKind, list[SpecFile]] = {}

    # ------------------------------------------------------------------ lists
    def entries(self, kind: SpecKind) -> list[Entry]:
        """Every spec of a kind by name, also those with mistakes."""
        files = all_files(search_folders(kind, self._include))
        return sorted((self._entry(one, kind) for one in files), key=lambda one: one.ref)

    def tags(self, names: Collection[str]) -> dict[str, tuple[str, ...]]:
        """Tags of the tasks with these names, as far as there are any; the first found counts."""
        files = all_files(search_folders("task", self._include))
        entries = [self._entry(one, "task") for one in reversed(files) if one.name in names]
        return {entry.name: entry.tags for entry in entries}

    def has(self, kind: SpecKind, name: str) -> bool:
        """Whether there is a spec of this name, sound or not; no file is read."""
        files = all_files(search_folders(kind, self._include))
        return any(name in (file.name, file.ref) for file in files)

    def issues(self, path: Path, kind: SpecKind | None = None) -> list[Issue]:
        """All mistakes of one file and in what it refers to; `spec_kind` tells an absent kind."""
        return list(self._check(path, kind or spec_kind(path)).issues)

    def _entry(self, file: SpecFile, kind: SpecKind) -> Entry:
        checked = self._check(file.path, kind)
        data = checked.source.data if checked.source else None
        head = data if isinstance(data, dict) else {}
        title, tags = head.get("title"), head.get("tags")
        return Entry(
            kind=kind,
            name=file.name,
            ref=file.ref,
            title=title if isinstance(title, str) else "",
            path=file.path,
            tags=tuple(tag for tag in tags if isinstance(tag, str)) if _is_list(tags) else (),
            issues=checked.issues,
        )

    # ------------------------------------------------------------------ one spec
    def task(self, ref: str) -> Loaded[Task]:
        """A task by name or path. Raises `NotFound`, or `SpecError` with all mistakes."""
        loaded = self._of(self._task(ref))
        return self.with_dictionary(loaded, loaded.folder)

    def with_dictionary(self, task: Loaded[Task], folder: Path) -> Loaded[Task]:
        """A task with the dictionaries that its evaluation names; paths start from `folder`."""
        ref = task.spec.evaluation.dictionary
        named = None if ref is None else self.find("dictionary", ref, folder)
        return replace(task, dictionary=None if named is None else self.dictionary(str(named)))

    def _of(self, task: Loaded[Task]) -> Loaded[Task]:
        """A task with what its model is trained on."""
        return replace(task, trained_on=self._trained_on(task.spec.model, task.folder))

    def _task(self, ref: str) -> Loaded[Task]:
        """A task without what its model is trained on: that may be the task itself."""
        from harness.spec.build import build
        from harness.spec.types import Task

        path, source, data = self._sound(ref, "task")
        if isinstance(data["model"], str):
            data["model"] = self._inlined(data["model"], path.parent)
        return Loaded(build(Task, data), data, path, source, path.parent)

    def _trained_on(self, model: Model, folder: Path) -> Loaded[Task] | None:
        if model.kind != "train" or model.task is None:
            return None
        return self._task(str(self.find("task", model.task, folder)))

    def model(self, ref: str) -> Loaded[Model]:
        """A model by name or path. Raises as `task` does."""
        from harness.spec.build import build_model, inline_model

        path, source, data = self._sound(ref, "model")
        model = build_model(inline_model(data))
        trained_on = self._trained_on(model, path.parent)
        return Loaded(model, data, path, source, path.parent, trained_on)

    def dictionary(self, ref: str) -> Loaded[DictionarySpec]:
        """Dictionaries by name or path, with task and model. Raises as `task` does."""
        from harness.spec.build import build_dictionary

        path, source, data = self._sound(ref, "dictionary")
        spec = build_dictionary(data)
        task = self._of(self._task(str(self.find("task", spec.task, path.parent))))
        model = (
            None
            if spec.model is None
            else self.model(str(self.find("model", spec.model, path.parent)))
        )
        return Loaded(spec, data, path, source, path.parent, task=task, model=model)

    def method(self, ref: str) -> Loaded[Method]:
        """A method by name or path. Raises as `task` does."""
        from harness.spec.build import build
        from harness.spec.types import Method

        path, source, data = self._sound(ref, "method")
        return Loaded(build(Method, data), data, path, source, path.parent)

    def suite(self, ref: str) -> Loaded[Suite]:
        """A suite by name or path; all it names exists. Raises as `task` does."""
        from harness.spec.build import build
        from harness.spec.types import Suite

        path, source, data = self._sound(ref, "suite")
        return Loaded(build(Suite, data), data, path, source, path.parent)

    def find(
        self, kind: SpecKind, ref: str, folder: Path | None = None, *, brief: bool = False
    ) -> Path:
        """The file of a name or path; a path is relative to `folder`, else to the current folder.

        Raises `NotFound`, saying what is close and, unless `brief`, where was searched and which
        files are broken. That looks into all of them: what is called from there has to be brief.
        """
        if is_path(ref):
            path = (folder or Path()) / ref
            if is_file(path):
                return path
            raise NotFound(f"no {kind} file {quoted(ref)}" + _beside(folder))
        folders = search_folders(kind, self._include)
        if kind not in self._listed:  # a suite can name a thousand specs
            self._listed[kind] = all_files(folders)
        files = self._listed[kind]
        matches = matching(ref, files)
        if len(matches) == 1:
            return matches[0].path
        if matches:
            raise NotFound(
                f"{kind} {quoted(ref)} is ambiguous; {listed([one.ref for one in matches])}"
            )
        message = _unknown(kind, ref, files)
        raise NotFound(message if brief else message + self._searched(kind, folders, files))

    # ------------------------------------------------------------------ inside
    def _sound(self, ref: str, kind: SpecKind) -> tuple[Path, Source, dict[str, Any]]:
        from harness.spec.build import normalise

        path = self.find(kind, ref)
        checked = self._check(path, kind)
        if checked.issues or checked.source is None:
            raise spec_error(checked.issues)
        return path, checked.source, normalise(checked.source.data, kind)

    def _check(self, path: Path, kind: SpecKind) -> _Checked:
        key = (path.absolute(), kind)
        if key not in self._checked:
            self._checked[key] = self._read(path, kind)
        return self._checked[key]

    def _read(self, path: Path, kind: SpecKind) -> _Checked:
        try:
            source = parse_text(read_text(path), path)
        except SpecError as error:
            return _Checked(path, None, tuple(cast("list[Issue]", error.issues)))
        issues = [*check(source, kind), *self._references(source, kind)]
        return _Checked(path, source, tuple(in_order(issues)))

    def _references(self, source: Source, kind: SpecKind) -> Iterator[Issue]:
        """Mistakes in the references to other specs."""
        data = source.data if isinstance(source.data, dict) else {}
        for one in references_of(data, kind):
            yield from self._reference(source, *one)

    def _reference(
        self, source: Source, place: tuple[Any, ...], kind: SpecKind, deep: bool
    ) -> Iterator[Issue]:
        ref = source.data
        for step in place:
            ref = ref[step]
        try:
            path = self.find(kind, ref, source.path.parent, brief=True)
        except NotFound as error:
            yield source.issue(place, str(error))
            return
        mistakes = self._check(path, kind).issues if deep else ()
        if mistakes:
            yield source.issue(place, f"{kind} {quoted(ref)} is broken: {shown_path(path)}")
            yield from mistakes

    def _inlined(self, ref: str, folder: Path) -> dict[str, Any]:
        """The model that a task refers to, as if written in the task's own file."""
        from harness.spec.build import inline_model

        path = self.find("model", ref, folder)
        model = inline_model(self._sound(str(path.absolute()), "model")[2])
        return moved_model(model, path.parent, folder)

    def _searched(self, kind: SpecKind, folders: Sequence[Path], files: Sequence[SpecFile]) -> str:
        """Lines about where was searched and which files are broken."""
        checked = [self._check(file.path, kind) for file in files]
        broken = [
            f"\n  broken: {shown_path(one.path)} ({_count(len(one.issues))})"
            for one in checked
            if one.issues
        ]
        return "".join([f"\n  searched: {shown_folders(folders)}", *broken])


def _unknown(kind: SpecKind, ref: str, files: Sequence[SpecFile]) -> str:
    """One line that suggests names close to an unknown one."""
    names = sorted({name for file in files for name in (file.ref, file.name)})
    if close := did_you_mean(ref, names):
        hint = f"did you mean {quoted(close)}?"
    elif is_file(file := Path(f"{ref}.yaml")):
        hint = f"did you mean the file {quoted(str(file))}?"
    else:
        hint = listed(names) if names else "none is known"
    return f"unknown {kind} {quoted(ref)}; {hint}"


def _beside(folder: Path | None) -> str:
    return "" if folder is None else f" in {shown_path(folder)}"


def _count(mistakes: int) -> str:
    return "1 mistake" if mistakes == 1 else f"{mistakes} mistakes"


def _is_list(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)
