"""Tokenizers: the word rule, BOS, single tokens, files."""

from __future__ import annotations

import builtins
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.datasets.locate import VARIABLE
from harness.datasets.tokenizers import FileTokenizer, Vocabulary, open_tokenizer, split_words
from harness.errors import HarnessError, NotFound

WORD_LEVEL: dict[str, Any] = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [],
    "normalizer": None,
    "pre_tokenizer": {"type": "Whitespace"},
    "post_processor": None,
    "decoder": None,
    "model": {
        "type": "WordLevel",
        "vocab": {"[UNK]": 0, "<s>": 1, "Ann": 2, "met": 3, "Bob": 4},
        "unk_token": "[UNK]",
    },
}


@pytest.fixture
def tokenizer_file(tmp_path: Path) -> Path:
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(WORD_LEVEL), encoding="utf-8")
    return path


def test_words_and_punctuation() -> None:
    assert split_words("to John's  bar, über_2 …") == [
        "to", "John", "'", "s", "bar", ",", "über_2", "…",
    ]  # fmt: skip


@given(st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=6), st.booleans())
def test_texts_of_the_vocabulary_round_trip(texts: list[str], bos: bool) -> None:
    characters = Vocabulary.of_characters(texts, bos)
    assert [characters.decode(characters.encode(text)) for text in texts] == texts
    words = Vocabulary.of_words(texts, bos)
    for text in texts:
        assert [words.tokens[index] for index in words.encode(text)] == split_words(text)
    assert list(words.tokens[bos:]) == sorted(set(words.tokens[bos:]))


def test_bos_is_id_zero_and_only_in_prompts() -> None:
    vocabulary = Vocabulary.of_words(["b a"], bos=True)
    assert vocabulary.tokens == ("<bos>", "a", "b")
    assert vocabulary.encode("a") == [1]
    assert vocabulary.prompt("a") == [0, 1]
    assert Vocabulary.of_words(["a"], bos=False).prompt("a") == [0]


def test_single_names_the_pieces() -> None:
    vocabulary = Vocabulary.of_words(["ice cream"], bos=False)
    assert vocabulary.single("ice") == 1
    with pytest.raises(HarnessError, match="'ice cream' must be exactly one token but is 2: 'ice'"):
        vocabulary.single("ice cream")
    with pytest.raises(HarnessError, match="'tea' in 'tea' is not in the vocabulary of 2 words"):
        vocabulary.single("tea")


def test_file_tokenizer(tokenizer_file: Path) -> None:
    tokenizer = FileTokenizer(tokenizer_file, bos="<s>")
    assert (tokenizer.size, tokenizer.bos) == (5, 1)
    assert tokenizer.prompt("Ann met Bob") == [1, 2, 3, 4]
    assert tokenizer.spans(["met Bob"]) == [([3, 4], [(0, 3), (4, 7)])]
    assert tokenizer.tokens[4] == "Bob"
    assert tokenizer.single(" Bob") == 4
    with pytest.raises(HarnessError, match="exactly one token"):
        tokenizer.single("Ann Bob")


def sentencepiece(path: Path, words: list[str]) -> Path:
    """Write a tokenizer like Llama's: a space before every text, bytes for what is unknown."""
    vocabulary = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    vocabulary += ["▁", *sorted({letter for word in words for letter in word})]
    merges: list[str] = []
    for word in words:
        piece = "▁"
        for letter in word:
            merges.append(f"{piece} {letter}")
            piece += letter
            vocabulary.append(piece)
    spec = {
        **WORD_LEVEL,
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        },
        "pre_tokenizer": None,
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "byte_fallback": True,
            "vocab": {token: index for index, token in enumerate(dict.fromkeys(vocabulary))},
            "merges": list(dict.fromkeys(merges)),
        },
    }
    path.write_text(json.dumps(spec), encoding="utf-8")
    return path


def test_single_is_the_token_inside_a_text(tmp_path: Path) -> None:
    """The space that is put before every text must not count."""
    tokenizer = FileTokenizer(sentencepiece(tmp_path / "t.json", ["Ann", "met", "A"]), bos=False)
    assert len(tokenizer.encode(" Ann")) == 2
    inside = tokenizer.encode("met Ann")
    assert tokenizer.single(" Ann") == inside[-1]
    assert tokenizer.tokens[tokenizer.single("A")] == "A"
    assert tokenizer.tokens[tokenizer.single(" A")] == "▁A"
    with pytest.raises(HarnessError, match="'Ann' must be exactly one token but is 3: 'A' 'n' 'n'"):
        tokenizer.single("Ann")


@pytest.mark.parametrize("name", ["gpt2_tokenizer", "stories260K"])
def test_single_in_published_tokenizers(name: str, reference_file: Callable[[str], Path]) -> None:
    tokenizer = FileTokenizer(reference_file(f"{name}/tokenizer.json"), bos=False)
    for word in ("She", "He", "she", "the"):
        inside = tokenizer.encode(f"Lily went home. {word}")
        assert inside == [*tokenizer.encode("Lily went home."), tokenizer.single(f" {word}")]


def test_a_text_that_joins_the_line_break_is_refused(tmp_path: Path) -> None:
    path = sentencepiece(tmp_path / "t.json", ["A"])
    spec = json.loads(path.read_text(encoding="utf-8"))
    spec["model"]["vocab"] |= {"\n": 900, "\nA": 901}
    spec["model"]["merges"].insert(0, "\n A")
    path.write_text(json.dumps(spec), encoding="utf-8")
    with pytest.raises(HarnessError, match="'A' cannot go on from other text"):
        FileTokenizer(path, bos=False).single("A")


def test_open_tokenizer_says_how_to_provide_the_file(
    tokenizer_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    with pytest.raises(NotFound, match=r"needs tokenizer\.json, which is not below .*empty"):
        open_tokenizer("tokenizer.json", True, folder)
    monkeypatch.setenv(VARIABLE, str(tokenizer_file.parent))
    assert open_tokenizer("tokenizer.json", "<s>", folder).bos == 1


@given(st.text(max_size=12), st.sampled_from(["words", "characters"]))
def test_spans_of_a_vocabulary_are_where_its_tokens_stand(text: str, kind: str) -> None:
    made = Vocabulary.of_words if kind == "words" else Vocabulary.of_characters
    vocabulary = made([text], bos=True)
    ((ids, spans),) = vocabulary.spans([text])
    assert ids == vocabulary.encode(text)
    assert [text[start:end] for start, end in spans] == [vocabulary.tokens[one] for one in ids]
    assert spans == sorted(spans)


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="No such file"):
        FileTokenizer(tmp_path / "none.json", bos=False)
    broken = tmp_path / "broken.json"
    broken.write_text("{}", encoding="utf-8")
    with pytest.raises(HarnessError, match=r"not a tokenizer\.json"):
        FileTokenizer(broken, bos=False)


def test_missing_library_names_the_extra(
    tokenizer_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "tokenizers":
            raise ImportError(name)
        return plain(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(HarnessError, match=r"circuit-harness\[tokenizers\]"):
        FileTokenizer(tokenizer_file, bos=False)
