"""Rules that hold for the whole package: names, lengths, folders and words."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

import harness

ROOT = Path(harness.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
PACKAGES = [path for path in MODULES if path.name == "__init__.py"]
LONGEST = 350
MOST_MODULES = 15
EXEMPT = {"cli"}  # one module per verb
VAGUE = {"found", "given", "made", "known", "slope"}
"""Words that no name may consist of or contain: a noun says what the thing is."""
ODD = [
    "slope",
    "tell nobody",
    "by luck",
    "have no say",
    "has no say",
    "gone on from",
    "goes on from",
]


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def names_in(tree: ast.AST) -> Iterator[str]:
    """Names of variables, arguments, functions, classes and fields in a module."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                yield name
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.keyword(arg=str(name)) | ast.alias(asname=str(name)):
                yield name


def vague_names(tree: ast.AST) -> set[str]:
    return {name for name in names_in(tree) if VAGUE & set(name.lower().split("_"))}


def test_no_class_name_is_used_twice() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for path in MODULES:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(shown(path))
    assert {name: files for name, files in places.items() if len(files) > 1} == {}


def test_every_file_can_be_read_in_one_sitting() -> None:
    lines = {shown(path): len(path.read_text("utf-8").splitlines()) for path in MODULES}
    assert {name: count for name, count in lines.items() if count > LONGEST} == {}


def test_no_folder_is_crowded() -> None:
    counts: dict[str, int] = defaultdict(int)
    for path in MODULES:
        if path.name not in ("__init__.py", "__main__.py"):
            counts[shown(path.parent)] += 1
    crowded = {folder: count for folder, count in counts.items() if count > MOST_MODULES}
    assert crowded.keys() <= EXEMPT


@pytest.mark.parametrize("path", PACKAGES, ids=shown)
def test_every_package_says_in_five_lines_what_lives_there(path: Path) -> None:
    text = ast.get_docstring(parsed(path))
    assert text
    assert len(text.splitlines()) <= 5


def test_names_say_what_they_hold() -> None:
    vague = {shown(path): vague_names(parsed(path)) for path in MODULES}
    vague |= {
        f"{shown(path)}: its name": {path.stem}
        for path in MODULES
        if VAGUE & set(path.stem.split("_"))
    }
    assert {name: words for name, words in vague.items() if words} == {}


def test_vague_names_are_seen_wherever_they_stand() -> None:
    source = '''
def made_of(given, *, known_names=1):
    """What was found is no name, nor is {"made": 1}."""
    found = f(slope=given.known) + f"{the_found}"
'''
    assert vague_names(ast.parse(source)) == {
        "made_of",
        "given",
        "known_names",
        "found",
        "slope",
        "known",
        "the_found",
    }


@pytest.mark.parametrize("words", ODD)
def test_the_words_of_the_field_are_used(words: str) -> None:
    """Gradients are gradients; sentences are those of a native speaker."""
    odd = re.compile(rf"\b{words}\b", re.IGNORECASE)
    files = [path for path in ROOT.rglob("*") if path.suffix in (".py", ".md", ".yaml", ".json")]
    assert len(files) > len(MODULES)
    assert [shown(path) for path in files if odd.search(path.read_text("utf-8"))] == []
