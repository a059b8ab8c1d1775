"""Random `tokenizer.json` documents of every model, with settings that published files have.

Small vocabularies over a few letters and digits, so that answers and prompts often join.
"""

from __future__ import annotations

import json
from random import Random
from typing import Any

MODELS = ("bytes", "pieces", "wordpiece", "unigram", "words")
LETTERS = "abt1 7"
SPECIAL = ("<unk>", "<s>", "</s>", "<pad>")
_BYTES = {" ": "Ġ", "\n": "Ċ"}


def random_document(kind: str, rng: Random) -> dict[str, Any]:
    """A tokenizer of one of `MODELS`."""
    model, parts = _MAKERS[kind](rng)
    vocabulary = model["vocab"]
    names = [one[0] for one in vocabulary] if kind == "unigram" else list(vocabulary)
    ids = {name: index for index, name in enumerate(names)}
    document = {
        "version": "1.0",
        "truncation": _maybe(rng, {"direction": rng.choice(("Left", "Right")), "max_length": 3,
                                   "strategy": "LongestFirst", "stride": 0}),
        "padding": _maybe(rng, {"strategy": rng.choice(("BatchLongest", {"Fixed": 7})),
                                "direction": rng.choice(("Left", "Right")),
                                "pad_to_multiple_of": rng.choice((None, 4)), "pad_id": 3,
                                "pad_type_id": 0, "pad_token": "<pad>"}),
        "added_tokens": [_added(rng, name, ids[name]) for name in SPECIAL],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": _processor(rng, ids),
        "decoder": None,
        "model": model,
    }  # fmt: skip
    return document | parts


def plain(document: dict[str, Any]) -> str:
    """The same tokenizer without settings that change the tokens of a text, as JSON."""
    model = {**document["model"], **({"dropout": None} if "merges" in document["model"] else {})}
    return json.dumps({**document, "truncation": None, "padding": None, "model": model})


def _maybe(rng: Random, value: Any) -> Any:
    return value if rng.random() < 0.5 else None


def _added(rng: Random, name: str, index: int) -> dict[str, Any]:
    flags = ("single_word", "lstrip", "rstrip", "normalized")
    return {
        "id": index,
        "content": name,
        "special": True,
        **{flag: rng.random() < 0.2 for flag in flags},
    }


def _processor(rng: Random, ids: dict[str, int]) -> Any:
    begin, end = ("<s>", ids["<s>"]), ("</s>", ids["</s>"])
    first, text, last = (
        {"SpecialToken": {"id": "<s>", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": "</s>", "type_id": 0}},
    )
    single = rng.choice(([first, text], [first, text, last], [text, last]))
    template = {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {
            name: {"id": name, "ids": [index], "tokens": [name]} for name, index in (begin, end)
        },
    }
    trim, prefix = rng.random() < 0.5, rng.random() < 0.5
    roberta = {"type": "RobertaProcessing", "sep": end, "cls": begin,
               "trim_offsets": trim, "add_prefix_space": prefix}  # fmt: skip
    bert = {"type": "BertProcessing", "sep": end, "cls": begin}
    return rng.choice((None, template, roberta, bert))


def _words(rng: Random, n: int, letters: str = LETTERS) -> list[str]:
    """Random pieces of two to four letters; those within them that start them come first."""
    pieces: dict[str, None] = {}
    for _ in range(n):
        word = "".join(rng.choice(letters) for _ in range(rng.randint(2, 4)))
        for end in range(2, len(word) + 1):
            pieces[word[:end]] = None
    return list(pieces)


def _merged(rng: Random, alphabet: list[str], space: str) -> tuple[dict[str, int], list[str]]:
    """A vocabulary of BPE, and its merges: each piece is its start and one more letter."""
    letters = LETTERS.replace(" ", space) + space  # pieces often begin words
    vocabulary = dict.fromkeys([*SPECIAL, *alphabet])
    merges: dict[str, None] = {}
    for piece in _words(rng, rng.randint(2, 25), letters):
        start = piece[:-1]
        if start in vocabulary:
            vocabulary[piece] = None
            merges[f"{start} {piece[-1]}"] = None
    return {name: index for index, name in enumerate(vocabulary)}, list(merges)


def _bytes(rng: Random) -> tuple[dict[str, Any], dict[str, Any]]:
    """BPE over bytes, as GPT-2's and Llama 3's."""
    alphabet = [chr(code) for code in range(33, 127)] + list(_BYTES.values())
    vocabulary, merges = _merged(rng, alphabet, "Ġ")
    level = {"type": "ByteLevel", "add_prefix_space": rng.random() < 0.4,
             "trim_offsets": rng.random() < 0.5, "use_regex": rng.random() < 0.7}  # fmt: skip
    digits = {"type": "Digits", "individual_digits": rng.random() < 0.5}
    steps = [digits, level] if rng.random() < 0.3 else [level]
    return (
        {
            "type": "BPE",
            "vocab": vocabulary,
            "merges": merges,
            "unk_token": None,
            "dropout": _maybe(rng, 0.5),
            "ignore_merges": rng.random() < 0.3,
        },
        {"pre_tokenizer": {"type": "Sequence", "pretokenizers": steps}, "decoder": level},
    )


def _pieces(rng: Random) -> tuple[dict[str, Any], dict[str, Any]]:
    """BPE over characters with bytes for what is unknown, as Llama 2's."""
    alphabet = [f"<0x{byte:02X}>" for byte in range(256)] + list("abt17") + ["▁"]
    vocabulary, merges = _merged(rng, alphabet, "▁")
    fallback = rng.random() < 0.7
    return (
        {
            "type": "BPE",
            "vocab": vocabulary,
            "merges": merges,
            "unk_token": "<unk>",
            "fuse_unk": rng.random() < 0.5,
            "byte_fallback": fallback,
            "dropout": _maybe(rng, 0.3),
        },
        _metaspace(rng),
    )


def _metaspace(rng: Random) -> dict[str, Any]:
    prepend = {"type": "Prepend", "prepend": "▁"}
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    steps = [prepend, replace] if rng.random() < 0.5 else [replace]
    scheme = rng.choice(("always", "first", "never"))
    meta = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme,
            "split": rng.random() < 0.5}  # fmt: skip
    if rng.random() < 0.5:
        return {"normalizer": {"type": "Sequence", "normalizers": steps}}
    return {"pre_tokenizer": meta, "decoder": {**meta}}


def _wordpiece(rng: Random) -> tuple[dict[str, Any], dict[str, Any]]:
    """Pieces of words, as BERT's."""
    prefix = rng.choice(("##", "@@"))
    letters = [*"abt17", *(prefix + one for one in "abt17")]
    words = _words(rng, rng.randint(2, 20), "abt17")
    inner = [prefix + word for word in _words(rng, rng.randint(1, 10), "abt17")]
    names = dict.fromkeys([*SPECIAL, *letters, *words, *inner])
    lower = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
             "strip_accents": None, "lowercase": rng.random() < 0.5}  # fmt: skip
    split = {"type": rng.choice(("BertPreTokenizer", "Whitespace", "WhitespaceSplit"))}
    return (
        {
            "type": "WordPiece",
            "vocab": {name: index for index, name in enumerate(names)},
            "unk_token": "<unk>",
            "continuing_subword_prefix": prefix,
            "max_input_chars_per_word": rng.choice((6, 100)),
        },
        {"normalizer": _maybe(rng, lower), "pre_tokenizer": split},
    )


def _unigram(rng: Random) -> tuple[dict[str, Any], dict[str, Any]]:
    """The likeliest pieces, as SentencePiece's."""
    fallback = rng.random() < 0.5
    names = [*SPECIAL, *([f"<0x{byte:02X}>" for byte in range(256)] if fallback else [])]
    names += [*"abt17", "▁", *_words(rng, rng.randint(2, 25), LETTERS.replace(" ", "▁") + "▁")]
    scored = [[name, -rng.uniform(1, 9)] for name in dict.fromkeys(names)]
    model = {"type": "Unigram", "unk_id": 0, "vocab": scored, "byte_fallback": fallback}
    return model, _metaspace(rng)


def _word_level(rng: Random) -> tuple[dict[str, Any], dict[str, Any]]:
    """Whole words, or words with the space before them."""
    words = _words(rng, rng.randint(5, 30), "abt17")
    spaced = rng.random() < 0.5
    names = dict.fromkeys([*SPECIAL, *"abt17 ", *words, *(f" {one}" for one in words if spaced)])
    pieces = {"type": "Split", "pattern": {"Regex": r" ?\w+|\s"}, "behavior": "Isolated",
              "invert": False}  # fmt: skip
    return (
        {
            "type": "WordLevel",
            "vocab": {name: index for index, name in enumerate(names)},
            "unk_token": "<unk>",
        },
        {"pre_tokenizer": pieces if spaced else {"type": "Whitespace"}},
    )


_MAKERS = {
    "bytes": _bytes,
    "pieces": _pieces,
    "wordpiece": _wordpiece,
    "unigram": _unigram,
    "words": _word_level,
}
