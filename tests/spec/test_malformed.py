"""Every kind of mistake gives exactly its message, whole and at its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import SpecError
from harness.spec.issues import render
from harness.spec.load import Library, spec_kind

FOLDER = Path(__file__).parent / "malformed"
CASES = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def test_there_is_one_expected_text_per_file() -> None:
    assert len(CASES) >= 60
    assert sorted(path.stem for path in FOLDER.glob("*.txt")) == CASES


@pytest.mark.parametrize("case", CASES)
def test_message(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER)
    path = Path(f"{case}.yaml")
    expected = Path(f"{case}.txt").read_text(encoding="utf-8").rstrip("\n")
    assert render(Library().issues(path), "text") == expected


@pytest.mark.parametrize("case", CASES)
def test_loading_raises_the_same(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER)
    path = Path(f"{case}.yaml")
    library = Library()
    load = getattr(library, spec_kind(path))
    with pytest.raises(SpecError) as caught:
        load(str(path))
    assert str(caught.value) == path.with_suffix(".txt").read_text(encoding="utf-8").rstrip("\n")
    assert caught.value.exit_code == 2
    assert caught.value.issues == library.issues(path)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"name: \xff\n", "bad.yaml:1:7: error: not UTF-8: invalid start byte (byte 0xff)"),
        (
            b"a: 1\nb: \xc3(\n",
            "bad.yaml:2:4: error: not UTF-8: invalid continuation byte (byte 0xc3)",
        ),
        (
            b"n\0: 1\n",
            "bad.yaml:1:2: error: character U+0000 is not allowed\n   1 | n\\x00: 1\n     |  ^",
        ),
        (
            b"a: 1\r\nb: \x1b[2J\r\n",
            "bad.yaml:2:4: error: character U+001B is not allowed\n   2 | b: \\x1b[2J\n     |    ^",
        ),
        (
            b"a: " + b"x" * (1 << 20),
            "bad.yaml:1:1: error: the file is larger than 1 MiB; put long lists in files",
        ),
    ],
    ids=["not UTF-8", "not UTF-8 in line 2", "NUL", "escape", "oversized"],
)
def test_bytes_that_are_no_text(
    raw: bytes, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.yaml").write_bytes(raw)
    with pytest.raises(SpecError) as caught:
        Library().task("bad.yaml")
    assert str(caught.value) == expected


def test_a_folder_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder.yaml").mkdir()
    issues = Library().issues(Path("folder.yaml"), "task")
    assert [str(issue) for issue in issues] == [
        "folder.yaml:1:1: error: cannot read the file: Is a directory"
    ]
