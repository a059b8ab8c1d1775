"""Corpora: windows, what is held out, exact entropies, and the tokenizer that they bring."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.datasets.corpus import CorpusData, corpus_content, open_corpus
from harness.datasets.corpus.bpe import FORCED, SEPARATOR, save_tokenizer, train_bpe
from harness.datasets.corpus.idioms.document import document, stream
from harness.datasets.corpus.idioms.pen import Pen
from harness.datasets.corpus.idioms.words import WORDS
from harness.datasets.corpus.source import PythonSource
from harness.datasets.corpus.windows import LONGEST_LINE, IdiomTexts
from harness.datasets.corpus.word_level import word_level
from harness.datasets.generators.python_code.cues import CUES
from harness.datasets.generators.python_code.questions import questions
from harness.datasets.pairs import NO_TARGET
from harness.datasets.tokenizers import FileTokenizer
from harness.errors import HarnessError, NotFound
from harness.spec.identity import identity_fields
from harness.spec.shipped import shipped_root
from harness.spec.types import Corpus

TOKENIZER = shipped_root() / "specs" / "tokenizers" / "python_2k" / "tokenizer.json"
WHOLE_WORDS = TOKENIZER.parent.parent / "python_idioms" / "tokenizer.json"
IDIOMS = Corpus(kind="python_idioms", tokenizer=str(TOKENIZER), context=128)


@pytest.fixture(scope="module")
def tokenizer() -> FileTokenizer:
    return FileTokenizer(TOKENIZER, True)


@pytest.fixture
def code(tmp_path: Path) -> Path:
    folder = tmp_path / "code"
    (folder / "inner" / "site-packages").mkdir(parents=True)
    for number in range(60):
        text = f"# file {number}\n" + "".join(f"x{line} = {line}\n" for line in range(40))
        (folder / "inner" / f"part{number}.py").write_text(text)
    (folder / "latin.py").write_bytes(b"# caf\xe9\n")
    (folder / "inner" / "site-packages" / "other.py").write_text("import this\n")
    (folder / "notes.txt").write_text("no code")
    return folder


def source_corpus(folder: Path) -> Corpus:
    return Corpus(
        kind="python_source", tokenizer=str(TOKENIZER), context=128, folders=(str(folder),)
    )


# ---------------------------------------------------------------- batches
def test_a_batch_is_a_function_of_seed_and_step() -> None:
    one, other = open_corpus(IDIOMS, Path()), open_corpus(IDIOMS, Path())
    first = one.training_batch("next_token", 4, 7, 3)
    one.training_batch("next_token", 4, 0, 0)
    assert (one.training_batch("next_token", 4, 7, 3).tokens == first.tokens).all()
    assert (other.training_batch("next_token", 4, 7, 3).targets == first.targets).all()
    assert first.tokens.shape == first.targets.shape == (4, 128)
    assert (first.tokens[:, 1:] == first.targets[:, :-1]).all()
    assert (first.lengths == 128).all()
    for step, seed in ((8, 3), (7, 4)):
        assert (other.training_batch("next_token", 4, step, seed).tokens != first.tokens).any()
    assert len({row.tobytes() for row in first.tokens}) == 4


def test_windows_of_idioms_are_cut_from_the_tokens_of_their_stream(
    tokenizer: FileTokenizer,
) -> None:
    windows = IdiomTexts(tokenizer, 128).windows(3, [5, 6])
    for row, window in enumerate(windows):
        lines = stream(Pen.seeded(5, 6, row))
        text = SEPARATOR + "".join(
            SEPARATOR if one.ends else one.text for one, _ in zip(lines, range(80), strict=False)
        )
        assert window.tolist() == tokenizer.encode(text)[:129]


class OneTokenShort:
    """Its first text has exactly as many tokens as a window, and longer ones have more."""

    tokens, bos = (SEPARATOR,), 0

    def __init__(self, wanted: int) -> None:
        self.wanted, self.asked = wanted, 0
        self.first: list[int] = []

    def encode_all(self, texts: list[str]) -> list[list[int]]:
        self.first = self.first or [len(text) for text in texts]
        self.asked += 1
        assert self.asked < 10, "no text is added"
        grown = [len(text) > self.first[0] for text in texts]
        return [list(range(self.wanted + 3 * more)) for more in grown]


def test_a_window_that_lacks_what_follows_its_last_token_is_continued() -> None:
    tokenizer = OneTokenShort(65)
    windows = IdiomTexts(tokenizer, 64).windows(1, [0])  # type: ignore[arg-type]
    assert tokenizer.asked == 2
    assert windows.tolist() == [list(range(65))]


def test_a_corpus_has_no_answers() -> None:
    with pytest.raises(HarnessError, match="next_token"):
        open_corpus(IDIOMS, Path()).training_batch("answer", 4, 0, 0)


def test_a_mix_draws_each_kind_in_its_share(code: Path) -> None:
    shares = {"python_source": 0.25, "python_idioms": 0.75}
    mixed = replace(source_corpus(code), kind="mix", shares=shares)
    data = open_corpus(mixed, Path())
    rows = np.concatenate([data.training_batch("next_token", 64, s, 0).tokens for s in range(4)])
    idioms = int((rows[:, 0] == data.tokenizer.bos).sum())  # these begin with a document
    assert abs(idioms / len(rows) - 0.75) < 4 * math.sqrt(0.75 * 0.25 / len(rows)) + 0.01
    with pytest.raises(HarnessError, match=r"add up to 0\.9"):
        open_corpus(replace(mixed, shares={**shares, "python_source": 0.15}), Path())


# ---------------------------------------------------------------- entropy
def test_the_entropy_is_that_of_the_held_out_tokens(tokenizer: FileTokenizer) -> None:
    held = open_corpus(IDIOMS, Path()).held_out()[0]
    nats, asked = 0.0, 0
    for row in range(len(held.tokens)):
        ids = [tokenizer.bos]
        for one in stream(Pen.seeded(2**40, row)):  # line by line: no line joins the next
            if len(ids) + LONGEST_LINE > 129:
                break
            ids += tokenizer.encode(SEPARATOR if one.ends else one.text)
            nats += one.nats
        window = [*held.tokens[row, : len(ids) - 1].tolist(), held.targets[row, len(ids) - 2]]
        assert window == ids
        assert (held.targets[row, len(ids) - 1 :] == NO_TARGET).all()
        asked += len(ids) - 1
    assert held.nats == pytest.approx(nats)
    assert held.entropy == pytest.approx(nats / asked)


def test_emphasis_is_in_training_and_held_out_windows_with_its_exact_entropy(
    tokenizer: FileTokenizer,
) -> None:
    emphasis = {"update": 8.0, "empty": 4.0}
    data = open_corpus(replace(IDIOMS, emphasis=emphasis), Path())
    held, usual = data.held_out()[0], open_corpus(IDIOMS, Path()).held_out()[0]
    nats, asked = 0.0, 0
    for row in range(len(held.tokens)):
        size = 1
        for one in stream(Pen.seeded(2**40, row), emphasis=emphasis):
            if size + LONGEST_LINE > 129:
                break
            size += len(tokenizer.encode(SEPARATOR if one.ends else one.text))
            nats += one.nats
        asked += size - 1
    assert held.entropy == pytest.approx(nats / asked)
    added = tokenizer.encode("count.add(")[1]
    windows = data.training_batch("next_token", 16, 0, 0).tokens
    for tokens, least in ((held.tokens, usual.tokens), (windows, usual.tokens[:16])):
        assert (tokens == added).sum() > 3 * (least == added).sum()


def test_emphasis_moves_the_identity_of_a_model_and_its_absence_none() -> None:
    usual = identity_fields(IDIOMS)
    assert "emphasis" not in usual
    assert identity_fields(replace(IDIOMS, emphasis={"update": 4.0})) != usual


def test_no_line_is_longer_than_a_window_leaves_room_for(tokenizer: FileTokenizer) -> None:
    longest = 0
    for seed in range(150):
        lines = [one.text for one in document(Pen.seeded(9, seed)) if one.text]
        sizes = [len(ids) for ids in tokenizer.encode_all(lines)]
        longest = max([longest, *sizes])
        assert sum(sizes) == len(tokenizer.encode("".join(lines)))
    assert 16 < longest <= LONGEST_LINE


def test_a_tokenizer_that_splits_lines_too_often_is_refused(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    letters = Tokenizer(
        models.WordLevel({chr(code): code for code in range(128)}, unk_token=chr(0))
    )
    letters.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    letters.add_special_tokens([SEPARATOR])
    letters.save(str(tmp_path / "letters.json"))
    corpus = replace(IDIOMS, tokenizer=str(tmp_path / "letters.json"), context=1024)
    with pytest.raises(HarnessError, match="python_tokenizer"):
        open_corpus(corpus, Path()).held_out()


# ---------------------------------------------------------------- files
def test_files_are_split_by_name_and_others_are_skipped(code: Path) -> None:
    source = PythonSource.below([code])
    assert [one.name for one in source.files] == sorted(one.name for one in source.files)
    assert len(source.files) == 61
    assert source.skipped == 1
    kept, held = source.texts(held_out=False), source.texts(held_out=True)
    assert held
    assert len(kept) + len(held) == 60
    assert not {*kept} & {*held}


def test_windows_are_from_files_that_are_not_held_out(code: Path, tokenizer: FileTokenizer) -> None:
    data = open_corpus(source_corpus(code), Path())
    held = [*PythonSource.below([code]).texts(held_out=True)]
    numbers = [text.splitlines()[0] for text in held]
    rows = data.training_batch("next_token", 256, 0, 0).tokens
    texts = "".join(tokenizer.decode(row) for row in rows)
    assert not [one for one in numbers if f"{one}\n" in texts]
    (part,) = data.held_out()
    assert part.entropy is None
    assert any(f"{one}\n" in tokenizer.decode(part.tokens.ravel()) for one in numbers)


def test_the_content_of_files_is_in_the_identity(code: Path) -> None:
    corpus = source_corpus(code)
    before = corpus_content(corpus, Path())
    assert before == corpus_content(corpus, Path())
    (code / "inner" / "part3.py").write_text("changed = True\n")
    after = corpus_content(corpus, Path())
    assert after["python_source"] != before["python_source"]
    assert after["tokenizer"] == before["tokenizer"]
    assert "standard_library" in corpus_content(replace(corpus, folders=None), Path())


def test_encoded_files_are_kept_beside_the_models(code: Path, tmp_path: Path) -> None:
    def rows(data: CorpusData) -> list[list[int]]:
        return data.training_batch("next_token", 4, 0, 0).tokens.tolist()

    corpus = source_corpus(code)
    first = rows(open_corpus(corpus, Path(), tmp_path))
    assert len(list((tmp_path / "corpora").glob("*.npy"))) == 1
    again = open_corpus(corpus, Path(), tmp_path)
    again.texts["python_source"]._encoded = None  # type: ignore[attr-defined]
    assert rows(again) == first == rows(open_corpus(corpus, Path()))


def test_folders_without_code_are_refused(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"no \.py files"):
        PythonSource.below([tmp_path])
    with pytest.raises(NotFound, match="no folder"):
        PythonSource.below([tmp_path / "absent"])


# ---------------------------------------------------------------- the tokenizer
def test_the_shipped_tokenizer_has_the_forced_tokens(tokenizer: FileTokenizer) -> None:
    assert tokenizer.size == 2048
    assert tokenizer.tokens[2047] == SEPARATOR
    assert tokenizer.bos == 2047
    words = [word for pool in WORDS.pools.values() for word in pool]
    for text in (*FORCED, *words, *(f" {word}" for word in words)):
        assert len(tokenizer.encode(text)) == 1, text


def test_a_tokenizer_can_be_trained_again(tmp_path: Path) -> None:
    texts = ["".join(one.text for one in document(Pen.seeded(seed))) for seed in range(20)]
    words = WORDS.of_split("test", {"train": 0.75, "test": 0.25}, 0)
    for name in ("one", "other"):
        save_tokenizer(train_bpe(texts, entries=600, words=words, often=64), tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    again = FileTokenizer(tmp_path / "one", True)
    assert again.size == 600
    assert [again.decode(again.encode(text)) for text in texts] == texts
    assert json.loads((tmp_path / "one").read_text())["model"]["type"] == "BPE"
    with pytest.raises(HarnessError, match="force fewer"):
        train_bpe(texts, entries=300, words=words, often=64)


# ---------------------------------------------------------------- the tokenizer of whole words
def test_whole_words_say_the_idioms_and_ask_the_twenty_questions() -> None:
    tokenizer = FileTokenizer(WHOLE_WORDS, True)
    assert tokenizer.tokens[tokenizer.size - 1] == SEPARATOR
    assert set(questions(tokenizer, 96, 8)) == set(CUES)
    texts = ["".join(one.text for one in document(Pen.seeded(seed))) for seed in range(5000, 5040)]
    assert [tokenizer.decode(tokenizer.encode(text)) for text in texts] == texts
    with pytest.raises(HarnessError, match="UNK"):
        tokenizer.encode("import this")


def test_whole_words_keep_the_exact_entropy(tokenizer: FileTokenizer) -> None:
    # The same text has the same −log p, whatever its tokens are; here pieces are tokens of both.
    words = FileTokenizer(WHOLE_WORDS, True)
    for seed in range(8):
        lines = IdiomTexts(tokenizer, 96).measured(Pen.seeded(seed))
        ids, nats = IdiomTexts(words, 96).measured(Pen.seeded(seed))
        assert words.decode(ids) == tokenizer.decode(lines[0])
        assert nats == pytest.approx(lines[1], abs=1e-9)


def test_a_tokenizer_of_whole_words_has_the_pieces_of_its_texts(tmp_path: Path) -> None:
    save_tokenizer(word_level(["total = 3\n", "total = 4\n"]), tmp_path / "one")
    small = FileTokenizer(tmp_path / "one", True)
    assert small.tokens == ("total", "Ċ", "Ġ3", "Ġ4", "Ġ=", SEPARATOR)
