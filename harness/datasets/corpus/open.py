"""A model's corpus: opened, identified, and checked before anything is trained."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

from harness.datasets.classes import classes_of
from harness.datasets.corpus.data import CorpusData, share_problem
from harness.datasets.corpus.idioms.document import VERSION
from harness.datasets.corpus.source import PythonSource
from harness.datasets.corpus.windows import IdiomTexts, SourceTexts, Texts
from harness.datasets.locate import beside, locate
from harness.datasets.pairs import TaskData
from harness.datasets.tokenizers import FileTokenizer
from harness.datasets.tokenizers.bos import CONFIG_FILE, tokenizer_files
from harness.datasets.tokenizers.model import TOKENIZER_FILE
from harness.disk import write
from harness.errors import HarnessError
from harness.spec.identity import digest
from harness.spec.types import Corpus

CACHE = "corpora"
"""Folder beside the models of a results folder, where encoded source files are kept."""


STANDARD_LIBRARY = "standard_library"
"""What the content of these files is called: that of another Python is another one."""


def open_corpus(corpus: Corpus, folder: Path, models: Path | None = None) -> CorpusData:
    """Return the texts of a corpus; paths are relative to `folder`, that of the model's spec.

    `models`: the store of models, where encoded files are kept; None keeps them in memory alone.
    Raises `HarnessError` for missing files and impossible shares.
    """
    shares = corpus.text_shares()
    if problem := share_problem(shares):
        raise HarnessError(f"corpus.shares: {problem}")
    tokenizer = FileTokenizer(tokenizer_file(corpus, folder), True)
    texts: dict[str, Texts] = {}
    for kind in shares:
        if kind == "python_idioms":
            texts[kind] = IdiomTexts(tokenizer, corpus.context, corpus.emphasis)
        else:
            cache = None if models is None else models / CACHE / f"{_key(corpus, folder)}.npy"
            texts[kind] = SourceTexts(_source(corpus, folder), tokenizer, corpus.context, cache)
    return CorpusData(tokenizer, corpus.context, texts, shares)


def unfit_corpus(corpus: Corpus, folder: Path, asked: TaskData) -> str | None:
    """Return why a model of a corpus cannot be given the prompts of a task; None if it can.

    Raises `HarnessError` for a corpus that cannot be opened; its texts are not read.
    """
    if problem := share_problem(corpus.text_shares()):
        raise HarnessError(f"corpus.shares: {problem}")
    if classes_of(asked) is not None:
        return "the model is trained on a corpus, and answers in tokens, not in `answers`"
    own = FileTokenizer(tokenizer_file(corpus, folder), True)
    if own.tokens != asked.tokenizer.tokens:
        return (
            f"the model's tokens are those of its corpus ({corpus.tokenizer}), not those of the "
            "task; give the task the tokenizer of kind 'model'"
        )
    if asked.longest > corpus.context:
        return (
            f"prompts have up to {asked.longest} tokens, and the windows of the model's corpus "
            f"{corpus.context}; raise corpus.context"
        )
    return None


def tokenizer_file(corpus: Corpus, folder: Path) -> Path:
    """Return the file of the corpus's tokenizer; `NotFound` says how to provide it."""
    return locate(corpus.tokenizer, folder)


def corpus_files(corpus: Corpus, folder: Path) -> list[Path]:
    """Return the files of tokenizer and texts, but not those of the standard library."""
    files = tokenizer_files(tokenizer_file(corpus, folder))
    if corpus.folders is not None:
        files += [one.path for one in _source(corpus, folder).files]
    return files


def write_tokenizer(corpus: Corpus, folder: Path, place: Path) -> None:
    """Write the corpus's tokenizer, and which token is BOS, into the folder of a model.

    A task whose tokenizer is of kind `model` can then be run with that folder alone.
    """
    file = tokenizer_file(corpus, folder)
    tokenizer = FileTokenizer(file, True)
    assert tokenizer.bos is not None  # it was asked for
    config = {"bos_token": tokenizer.tokens[tokenizer.bos]}
    write(place / TOKENIZER_FILE, file.read_bytes())
    write(place / CONFIG_FILE, f"{json.dumps(config, indent=1)}\n".encode())


def corpus_content(corpus: Corpus, folder: Path) -> dict[str, Any]:
    """Return what the texts are made of, for the identity of a model: digests and a version.

    The order of `shares` counts, since kinds are drawn in it.
    """
    kinds = corpus.text_shares()
    content: dict[str, Any] = {
        "kinds": list(kinds),
        "tokenizer": sha256(tokenizer_file(corpus, folder).read_bytes()).hexdigest(),
    }
    if "python_idioms" in kinds:
        content["python_idioms"] = VERSION
    if "python_source" in kinds:
        name = STANDARD_LIBRARY if corpus.folders is None else "python_source"
        content[name] = _source(corpus, folder).digest()
    return content


def _key(corpus: Corpus, folder: Path) -> str:
    content = corpus_content(corpus, folder)
    names = ("tokenizer", "python_source", STANDARD_LIBRARY)
    return digest({name: content[name] for name in names if name in content})


def _source(corpus: Corpus, folder: Path) -> PythonSource:
    named = corpus.folders
    return PythonSource.below(None if named is None else [beside(one, folder) for one in named])
