"""Which token of a `tokenizer.json` is BOS: what the file does, then what lies beside it says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from harness.errors import HarnessError

CONFIG_FILE = "tokenizer_config.json"
"""Beside a `tokenizer.json`: names its special tokens by what they are for."""

_TEXTS = ("The", "a", "1")
_MOST_TRIED = 1000  # tokens whose text is tried, where none of the texts has tokens
_MOST_SHOWN = 8
_MARKER = re.compile(r"<.+>|\[.+\]")


def bos_token(tokenizer: Any, path: Path, bos: bool | str) -> int | None:
    """Return the id of BOS in the tokenizer of a file; None if prompts have none.

    `bos`: False; "auto", the token that the file itself puts before every text, if it does; the
    text of a token; or True: what the file puts there, else what the `tokenizer_config.json`
    beside it names, else its only special token. HarnessError, with the candidates, if that does
    not settle it.
    """
    if bos is False:
        return None
    if bos == "auto":
        return _own(tokenizer, path, "set `bos` to true or false")
    if isinstance(bos, str):
        return _named(tokenizer, path, bos)
    own = _own(tokenizer, path, _ask(tokenizer))
    return _told(tokenizer, path) if own is None else own


def tokenizer_files(path: Path) -> list[Path]:
    """Return a `tokenizer.json`, and the config beside it if there is one."""
    config = path.with_name(CONFIG_FILE)
    return [path, *([config] if config.is_file() else [])]


def configured_bos(path: Path) -> tuple[bool, str | None]:
    """Return whether the config beside a `tokenizer.json` speaks of BOS, and the text it names.

    HarnessError if the config cannot be read.
    """
    file = path.with_name(CONFIG_FILE)
    if not file.is_file():
        return False, None
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise HarnessError(f"{file}, which names BOS, cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise HarnessError(f"{file}, which names BOS, is not a JSON object")
    token = config.get("bos_token")
    if isinstance(token, dict):
        token = token.get("content")
    if token is not None and not isinstance(token, str):
        raise HarnessError(f"{file}: bos_token is neither a text nor null: {token!r}")
    return "bos_token" in config, token


def _own(tokenizer: Any, path: Path, advice: str) -> int | None:
    """The one token that the file puts before a text; None if it puts nothing there."""
    before = _put_before(tokenizer, path)
    if len(before) > 1:
        shown = " ".join(repr(tokenizer.id_to_token(one)) for one in before)
        raise HarnessError(
            f"tokenizer file {path} puts {len(before)} tokens before a text: {shown}; {advice}"
        )
    return before[0] if before else None


def _put_before(tokenizer: Any, path: Path) -> list[int]:
    """The ids that come before those of a text; which text does not matter if it has tokens.

    A text that the file refuses, as one of whole words does unknown ones, is none.
    """
    refusal: HarnessError | None = None
    for text in _texts(tokenizer):
        try:
            plain = tokenizer.encode(text, add_special_tokens=False).ids
        except HarnessError as error:
            refusal = refusal or error
            continue
        if not plain:
            continue
        whole = tokenizer.encode(text, add_special_tokens=True)
        inside = [at for at, added in enumerate(whole.special_tokens_mask) if not added]
        if [whole.ids[at] for at in inside] != plain:
            raise HarnessError(
                f"tokenizer file {path} has a post-processor that changes the tokens of a text, "
                "so its BOS cannot be told; name it in `bos`, or set `bos: false`"
            )
        before: list[int] = whole.ids[: inside[0]]
        return before
    raise refusal or HarnessError(
        f"tokenizer file {path} has no tokens for any text, so its BOS cannot be told; name it in "
        "`bos`, or set `bos: false`"
    )


def _texts(tokenizer: Any) -> Iterator[str]:
    yield from _TEXTS
    for index in islice(sorted(tokenizer.get_vocab().values()), _MOST_TRIED):
        yield tokenizer.decode([index], skip_special_tokens=False)


def _told(tokenizer: Any, path: Path) -> int:
    """BOS of a file that puts nothing before a text."""
    speaks, token = configured_bos(path)
    if token is not None:
        index = tokenizer.token_to_id(token)
        if index is None:
            raise HarnessError(
                f"{path.with_name(CONFIG_FILE)} names the BOS {token!r}, which is no token of "
                f"{path.name}; {_ask(tokenizer)}"
            )
        return int(index)
    if speaks:
        raise HarnessError(
            f"`bos: true`, but there is none: {path.with_name(CONFIG_FILE)} says that bos_token is "
            f"null, and {path.name} puts nothing before a text; {_ask(tokenizer)}"
        )
    special = _special(tokenizer)
    if len(special) != 1:
        raise HarnessError(
            f"tokenizer file {path} does not say which token is BOS: it puts nothing before a "
            f"text, and no {CONFIG_FILE} beside it names one; {_ask(tokenizer)}"
        )
    return int(tokenizer.token_to_id(special[0]))


def _named(tokenizer: Any, path: Path, name: str) -> int:
    index = tokenizer.token_to_id(name)
    if index is None:
        raise HarnessError(f"tokenizer file {path} has no token {name!r}; {_ask(tokenizer)}")
    return int(index)


def _special(tokenizer: Any) -> list[str]:
    """Special tokens but the one for unknown text, in the order of their ids."""
    unknown = getattr(tokenizer.model, "unk_token", None)
    added = sorted(tokenizer.get_added_tokens_decoder().items())
    return [one.content for _, one in added if one.special and one.content != unknown]


def _ask(tokenizer: Any) -> str:
    """What to do, with the tokens that may be meant."""
    unknown = getattr(tokenizer.model, "unk_token", None)
    markers = (one for one in tokenizer.get_vocab() if _MARKER.fullmatch(one) and one != unknown)
    names = _special(tokenizer) or sorted(markers)
    shown = ", ".join(repr(name) for name in names[:_MOST_SHOWN])
    more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
    candidates = f" (candidates: {shown}{more})" if names else " (it has no special token)"
    return f"name it in `bos`{candidates}, or set `bos: false`"
