"""`python -m harness.cli.python_tokenizer FILE`: train the tokenizer of Python corpora.

It is trained on generated idioms and on the standard library of the running interpreter, so that
another Python may make another file; the shipped one is `specs/tokenizers/python_2k`. With
`--idioms-only` it has one token for each word of the idioms, as `specs/tokenizers/python_idioms`.
"""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.say import say

IDIOMS = 4000
"""Documents of idioms; about as much text as a tenth of the standard library."""


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--entries", default=2048, show_default=True, help="Tokens of the vocabulary.")
@click.option("--source-files", type=click.IntRange(min=0), help="Read only so many files.")
@click.option("--idioms-only", is_flag=True, help="Whole words of the idioms, and no other text.")
def main(file: Path, entries: int, source_files: int | None, idioms_only: bool) -> None:
    """Write a tokenizer.json whose tokens suit the tasks of `tasks/code`."""
    from harness.datasets.corpus.bpe import save_tokenizer, train_bpe
    from harness.datasets.corpus.idioms.document import document
    from harness.datasets.corpus.idioms.pen import Pen
    from harness.datasets.corpus.source import PythonSource
    from harness.datasets.corpus.word_level import word_level

    idioms = ["".join(one.text for one in document(Pen.seeded(seed))) for seed in range(IDIOMS)]
    if idioms_only:
        tokenizer = word_level(idioms)
    else:
        texts = [*idioms, *PythonSource.below(None).texts(held_out=False)[:source_files]]
        tokenizer = train_bpe(texts, entries=entries)
    file.parent.mkdir(parents=True, exist_ok=True)
    save_tokenizer(tokenizer, file)
    say(f"wrote {file}: {tokenizer.get_vocab_size()} tokens", err=True)


if __name__ == "__main__":
    main()
