"""Mutated data and tokenizer files: each is read or refused, in time and in little memory."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import polars
import pytest
from support.mutate import all_obey, bytes_of, data_of

from harness.datasets.files.spec import Columns, FileData
from harness.datasets.files.task import open_file
from harness.datasets.tokenizers import FileTokenizer
from harness.errors import HarnessError
from harness.spec.types import TokenizerSpec

ROWS: list[dict[str, Any]] = [
    {
        "clean": f"Ann met {one} and {other}, then",
        "corrupted": f"Ann met {other} and {one}, then",
        "good": [one, "Ann"] if one == "Bob" else one,
        "bad": other,
        "split": "train",
        "n": number,
    }
    for number, (one, other) in enumerate((("Bob", "Cy"), ("Cy", "Bob"), ("Dan", "Cy")))
]
FLAT = [{**row, "good": row["bad"][::-1]} for row in ROWS]
TEMPLATE: dict[str, Any] = {
    "type": "TemplateProcessing",
    "single": [
        {"SpecialToken": {"id": "<s>", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
    ],
    "pair": [],
    "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
}
WORDS = ["<unk>", "<s>", *sorted({word for row in ROWS for word in row["clean"].split()})]
LETTERS = ["<unk>", "<s>", "▁", *sorted(set("".join(WORDS)))]


def tokenizer(model: dict[str, Any], **parts: Any) -> dict[str, Any]:
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {
        "version": "1.0",
        "truncation": {
            "max_length": 512,
            "stride": 0,
            "strategy": "LongestFirst",
            "direction": "Right",
        },
        "padding": {
            "strategy": "BatchLongest",
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "<unk>",
        },
        "added_tokens": [{"id": 1, "content": "<s>", "special": True, **special}],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "NFKC"},
                {"type": "Strip", "strip_left": True, "strip_right": False},
            ],
        },
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": TEMPLATE,
        "decoder": None,
        "model": model,
    } | parts


TOKENIZERS = [
    tokenizer(
        {"type": "WordLevel", "vocab": {w: n for n, w in enumerate(WORDS)}, "unk_token": "<unk>"}
    ),
    tokenizer(
        {
            "type": "BPE",
            "unk_token": "<unk>",
            "byte_fallback": False,
            "vocab": {w: n for n, w in enumerate([*LETTERS, "An", "Ann"])},
            "merges": ["A n", "An n"],
        },
        normalizer={"type": "Prepend", "prepend": "▁"},
        pre_tokenizer={"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first"},
    ),
    tokenizer(
        {
            "type": "WordPiece",
            "unk_token": "<unk>",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {w: n for n, w in enumerate([*LETTERS, *(f"##{one}" for one in LETTERS)])},
        },
        pre_tokenizer={
            "type": "Split",
            "pattern": {"Regex": r"\s+|[a-z]+"},
            "behavior": "Isolated",
            "invert": False,
        },
    ),
    tokenizer(
        {
            "type": "Unigram",
            "unk_id": 0,
            "vocab": [[w, -float(n)] for n, w in enumerate(LETTERS)],
            "byte_fallback": False,
        },
        normalizer={"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        pre_tokenizer={
            "type": "ByteLevel",
            "add_prefix_space": True,
            "trim_offsets": True,
            "use_regex": True,
        },
    ),
]


def opened(folder: Path, name: str, raw: bytes, spec: TokenizerSpec) -> None:
    (folder / name).write_bytes(raw)
    columns = Columns(good="good", bad="bad", split="split")
    task = open_file(FileData(path=name, columns=columns), spec, folder)
    pairs = task.pairs("train", 3, 0, at_most=True)
    assert all(task.tokenizer.decode(row) is not None for row in pairs.clean.tolist())


def used(folder: Path, name: str, raw: bytes, spec: TokenizerSpec) -> None:
    """Everything that tasks ask of a tokenizer."""
    (folder / name).write_bytes(raw)
    tokenizer = FileTokenizer(folder / name, spec.bos)
    texts = [text for row in ROWS for text in (row["clean"], row["corrupted"], "é \n", "")]
    for text, (ids, spans) in zip(texts, tokenizer.spans(texts), strict=True):
        assert all(0 <= one < tokenizer.size for one in tokenizer.prompt(text))
        assert len(ids) == len(spans)
        assert isinstance(tokenizer.decode(ids), str)
    for row in ROWS:
        with suppress(HarnessError):
            tokenizer.single(row["bad"])
            tokenizer.single(f" {row['bad']}")


def json_lines(rng: random.Random) -> bytes:
    rows = data_of(ROWS, rng) if rng.random() < 0.5 else ROWS
    lines = rows if isinstance(rows, list) else [rows]
    raw = "\n".join(json.dumps(row) for row in lines).encode()
    return raw if rows is not ROWS and rng.random() < 0.8 else bytes_of(raw, rng)


def csv_lines(rng: random.Random) -> bytes:
    quoted = polars.DataFrame(FLAT).write_csv(quote_style=rng.choice(("always", "necessary")))
    return bytes_of(quoted.encode(), rng)


def parquet(rng: random.Random) -> bytes:
    buffer = io.BytesIO()
    polars.DataFrame(FLAT).write_parquet(buffer, compression=rng.choice(("zstd", "uncompressed")))
    return bytes_of(buffer.getvalue(), rng)


def tokenizer_json(rng: random.Random) -> bytes:
    sound = rng.choice(TOKENIZERS)
    if rng.random() < 0.3:
        return bytes_of(json.dumps(sound).encode(), rng)
    return json.dumps(data_of(sound, rng)).encode()


FORMS: dict[str, tuple[str, Callable[[random.Random], bytes]]] = {
    "jsonl": ("d.jsonl", json_lines),
    "csv": ("d.csv", csv_lines),
    "parquet": ("d.parquet", parquet),
    "tokenizer": ("tokenizer.json", tokenizer_json),
}


def mutants(
    form: str, seeds: range, folder: Path
) -> Iterator[tuple[int, bytes, Callable[[], object]]]:
    name, mutated = FORMS[form]
    for seed in seeds:
        rng = random.Random(seed)
        spec = TokenizerSpec(kind=rng.choice(("words", "characters")), bos=True)
        if form == "tokenizer":
            bos = rng.choice((True, False, "auto"))
            spec = TokenizerSpec(kind="file", path="tokenizer.json", bos=bos)
        raw = mutated(rng)
        read = used if form == "tokenizer" else opened
        yield seed, raw, partial(read, folder, name, raw, spec)


@pytest.mark.parametrize(
    ("form", "seeds"),
    [
        ("jsonl", range(400)),
        ("csv", range(400)),
        ("parquet", range(2)),
        ("tokenizer", range(300)),
        # with those of circuits more than 3,000 in all; half a minute
        pytest.param("jsonl", range(400, 1000), marks=pytest.mark.slow),
        pytest.param("csv", range(400, 1000), marks=pytest.mark.slow),
        pytest.param("parquet", range(2, 20), marks=pytest.mark.slow),
        pytest.param("tokenizer", range(300, 1000), marks=pytest.mark.slow),
    ],
)
def test_every_mutated_file_is_read_or_refused(form: str, seeds: range, tmp_path: Path) -> None:
    read, refused = all_obey(mutants(form, seeds, tmp_path), (HarnessError,))
    assert read + refused == len(seeds)
    if len(seeds) >= 100:
        assert min(read, refused) > len(seeds) // 20
