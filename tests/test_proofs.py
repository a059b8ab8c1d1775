"""Every claim in `PROOFS.md` has a test that names it.

A test says which in its docstring, as the first thing: `[5]`, or `[5, 15]` for two of them.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

CLAIMS = re.compile(r"^(\d+)\. ", re.MULTILINE)
PROOFS = [
    int(number)
    for number in CLAIMS.findall((Path(__file__).parent / "PROOFS.md").read_text(encoding="utf-8"))
]
LABEL = re.compile(r"\[(\d+(?:, \d+)*)\]")
DOCSTRING = re.compile(r'"""' + LABEL.pattern)


def labels_in(source: str) -> set[int]:
    """Numbers that the docstrings of a file's test functions begin with."""
    found: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            label = LABEL.match(ast.get_docstring(node) or "")
            if label:
                found |= {int(number) for number in label[1].split(", ")}
    return found


@pytest.fixture(scope="module")
def labels() -> dict[int, list[str]]:
    """The files that prove each number."""
    found: dict[int, list[str]] = {}
    for file in sorted(Path(__file__).parent.rglob("test_*.py")):
        source = file.read_text(encoding="utf-8")
        for number in labels_in(source) if DOCSTRING.search(source) else ():
            found.setdefault(number, []).append(file.name)
    return found


@pytest.mark.parametrize("proof", PROOFS)
def test_each_proof_is_shown_by_a_test(proof, labels):
    assert labels.get(proof), f"no test is labelled [{proof}]"


def test_claims_are_numbered_from_one():
    assert list(range(1, 21)) == PROOFS


def test_labels_are_numbers_of_proofs(labels):
    assert set(labels) <= set(PROOFS)


def test_only_labels_of_tests_count():
    source = '''
def test_one():
    """[3, 19] Counted."""
def test_two():
    """Not this [4]."""
def helper():
    """[5] Nor this."""
'''
    assert labels_in(source) == {3, 19}
