"""Texts that models are trained on in place of a task's prompts: Python code, real and generated.

`open_corpus` makes training data of a model's `corpus`, `corpus_content` is its identity.
"""

from harness.datasets.corpus.data import CorpusData
from harness.datasets.corpus.open import (
    corpus_content,
    open_corpus,
    tokenizer_file,
    write_tokenizer,
)
from harness.datasets.corpus.windows import HeldOutWindows

__all__ = [
    "CorpusData",
    "HeldOutWindows",
    "corpus_content",
    "open_corpus",
    "tokenizer_file",
    "write_tokenizer",
]
