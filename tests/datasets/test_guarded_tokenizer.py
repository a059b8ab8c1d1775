"""A `tokenizer.json` that fails when it is used: one line that names the file, and no panic."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from harness.datasets.files.spec import Columns, FileData
from harness.datasets.files.task import open_file
from harness.datasets.tokenizers import FileTokenizer, guarded
from harness.errors import HarnessError
from harness.spec.types import TokenizerSpec

SOUND: dict[str, Any] = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [],
    "normalizer": None,
    "pre_tokenizer": {"type": "Whitespace"},
    "post_processor": None,
    "decoder": None,
    "model": {"type": "WordLevel", "vocab": {"<unk>": 0, "Ann": 1}, "unk_token": "<unk>"},
}


def written(folder: Path, change: dict[str, Any]) -> Path:
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(copy.deepcopy(SOUND) | change), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "<unk>"}},
            "fails in 'encode': WordLevel error: Missing [UNK]",
        ),
        (
            {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [], "unk_token": "<unk>"}},
            "fails in 'encode': Unk token `<unk>` not found",
        ),
        (
            {"model": {"type": "Unigram", "unk_id": None, "vocab": [["a", 0.0]]}},
            "fails in 'encode': Encountered an unknown token",
        ),
        (  # panics
            {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},
            "is not a tokenizer.json: Precompiled",
        ),
        (  # panics at the first text
            {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "BAAAAP////9BQUFB"}},
            "fails in 'encode': index out of bounds",
        ),
        (
            {
                "model": {
                    "type": "WordLevel",
                    "vocab": {"<unk>": 0, "b": 2**32 - 1},
                    "unk_token": "<unk>",
                }
            },
            "has a token of id 4294967295; ids are below 16777216",
        ),
        ({"model": {"type": "WordLevel", "vocab": {}, "unk_token": "a"}}, "has no tokens"),
        ({"model": {"type": "WordLevel", "vocab": {"a": -1}}}, "is not a tokenizer.json"),
        ({"model": None}, "is not a tokenizer.json"),
    ],
)
def test_files_that_fail(
    tmp_path: Path, change: dict[str, Any], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, change)
    with pytest.raises(HarnessError) as caught:
        FileTokenizer(path, bos=False).single(" Ann")
    assert str(caught.value).startswith(f"tokenizer file {path} {message}")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def template(ids: list[int]) -> dict[str, Any]:
    single = [
        {"SpecialToken": {"id": "<s>", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
    ]
    tokens = {"<s>": {"id": "<s>", "ids": ids, "tokens": ["<s>"] * len(ids)}} if ids else {}
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [],
        "special_tokens": tokens,
    }


@pytest.mark.parametrize("bos", [True, "auto"])
def test_a_bos_that_is_no_token_is_refused(tmp_path: Path, bos: Any) -> None:
    """It would be looked up beyond the rows of the embedding."""
    path = written(tmp_path, {"post_processor": template([0])})
    assert FileTokenizer(path, bos=bos).prompt("Ann") == [0, 1]
    path = written(tmp_path, {"post_processor": template([77])})
    with pytest.raises(HarnessError, match="puts id 77 before a text, which is no token of it"):
        FileTokenizer(path, bos=bos)
    assert FileTokenizer(path, bos=False).prompt("Ann") == [1]


def test_a_template_that_panics(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, {"post_processor": template([])})
    with pytest.raises(HarnessError, match="tokenizer file"):
        FileTokenizer(path, bos=True)
    assert capfd.readouterr().err == ""


def test_a_failure_at_one_text_is_a_mistake_of_its_line(tmp_path: Path) -> None:
    model = {"type": "Unigram", "unk_id": None, "vocab": [["A", -1.0], ["n", -1.0], ["▁", -1.0]]}
    written(tmp_path, {"model": model})
    rows = [{"clean": "A n", "corrupted": "A A", "good": "n", "bad": "A"}] * 2
    rows[1] = {**rows[1], "clean": "A q"}
    (tmp_path / "d.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = FileData(path="d.jsonl", columns=Columns(good="good", bad="bad"))
    spec = TokenizerSpec(kind="file", path="tokenizer.json", bos=False)
    with pytest.raises(HarnessError, match=r"^d\.jsonl:2: tokenizer file .* fails in 'encode'"):
        open_file(data, spec, tmp_path)


def test_files_that_are_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, {})
    assert FileTokenizer(path, bos=False).encode("Ann Bob") == [1, 0]
    monkeypatch.setattr(guarded, "LARGEST", 100)
    with pytest.raises(HarnessError, match="is larger than"):
        FileTokenizer(path, bos=False)


@pytest.mark.parametrize("raw", [b"\xff", b"", b"[" * 100_000, b"{}", b'{"model": ' + b"9" * 5000])
def test_bytes_that_are_no_tokenizer(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(raw)
    with pytest.raises(HarnessError, match="tokenizer file"):
        FileTokenizer(path, bos=False)


def test_a_byte_order_mark_is_accepted(tmp_path: Path) -> None:
    path = written(tmp_path, {})
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert FileTokenizer(path, bos=False).encode("Ann") == [1]
