"""Text to token ids and back: a vocabulary built from the task, or a `tokenizer.json` file.

`encode` never adds BOS; `prompt` does, if the task asks for it. Ids follow the order of `tokens`;
with BOS in a built vocabulary, it is id 0.
"""

from harness.datasets.tokenizers.choose import (
    file_tokenizer,
    is_file,
    needs_model,
    tokenizer_for,
    without_model,
)
from harness.datasets.tokenizers.continuation import Asked
from harness.datasets.tokenizers.file import FileTokenizer, open_tokenizer
from harness.datasets.tokenizers.tokenizer import BOS, Kind, Spans, Tokenizer, after_bos
from harness.datasets.tokenizers.vocabulary import Vocabulary, split_words

__all__ = [
    "BOS",
    "Asked",
    "FileTokenizer",
    "Kind",
    "Spans",
    "Tokenizer",
    "Vocabulary",
    "after_bos",
    "file_tokenizer",
    "is_file",
    "needs_model",
    "open_tokenizer",
    "split_words",
    "tokenizer_for",
    "without_model",
]
