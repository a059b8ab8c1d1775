"""Digests name stored results for ever: golden values are frozen, every difference shows."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.spec.build import normalise
from harness.spec.identity import IDENTITY_VERSION, canonical_json, digest, identity_fields
from harness.spec.load import Library
from harness.spec.schema import check
from harness.spec.yaml.source import parse_text

WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)  # fmt: skip

GOLDEN = [
    (None, "null", "74234e98afe7498fb5daf1f36ac2d78acc339464f950703b8c019892f982b90b"),
    ({}, "{}", "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"),
    (
        {"b": [1, 1.0, 1e-05, True, None], "a": "é\n\u2028"},
        '{"a":"é\\n\u2028","b":[1,1.0,1e-05,true,null]}',
        "9ee0b05f95468bb8cbc8cf637e2cef7650a1c1f577a79c2851ff3bbfcb4be7a6",
    ),
    (
        {"é": 0.1, "z": 1e22, "Z": -3, "nested": {"y": [], "x": {}}},
        '{"Z":-3,"nested":{"x":{},"y":[]},"z":1e+22,"é":0.1}',
        "bb128e2f5655fd136c27d4da865f5e4701d634ff784ceda138e9037f92b94a06",
    ),
]


SPECS = {
    "tiny": "eccf938ac6d53b37d0090712b5ccb99931a6cf9837c9966c979fbe5d6dc6866d",
    "tiny_model": "c453a77a50a8bb7d3388e964613aed13108b7dfa5de16921057abf9605a91988",
    "tiny_method": "bc3c257a8424695e6f448e4b5cb2b9d93c6bf6a127f454d094d1e6ae9a3a8c1c",
    "tiny_suite": digest({}),
}


@pytest.mark.parametrize(("value", "text", "sha256"), GOLDEN)
def test_golden(value: Any, text: str, sha256: str) -> None:
    assert IDENTITY_VERSION == 1
    assert canonical_json(value) == text
    assert digest(value) == sha256


def test_golden_digests_of_whole_specs(valid: Path) -> None:
    """If this fails, ids of stored results changed: raise IDENTITY_VERSION or undo it.

    A `younger` key at its default is in no id, and of a suite nothing is but the choices that its
    cells take from it.
    """
    library = Library()
    found = {
        path.stem: digest(identity_fields(getattr(library, kind)(str(path)).spec))
        for kind, path in (
            ("task", valid / "tasks" / "tiny.yaml"),
            ("model", valid / "models" / "tiny_model.yaml"),
            ("method", valid / "methods" / "tiny_method.yaml"),
            ("suite", valid / "suites" / "tiny_suite.yaml"),
        )
    }
    assert found == SPECS


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, {"a": [-math.inf]}, {1: 2}, {"a": {None: 1}}]
)
def test_what_has_no_canonical_form_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"not JSON compliant|is not a string"):
        digest(value)


@given(JSON)
def test_order_of_keys_does_not_matter(value: Any) -> None:
    assert canonical_json(_reversed(value)) == canonical_json(value)


def _reversed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _reversed(value[key]) for key in reversed(value)}
    return [_reversed(item) for item in value] if isinstance(value, list) else value


def test_comments_order_and_spelling_do_not_matter(tiny_task: str) -> None:
    same = tiny_task.replace("n_heads: 2, d_model: 8", "d_model: 0x8, n_heads: 2.0").replace(
        "steps: 10", "steps: 1e1"
    )
    same = same.replace("data:", "tags: []  # none\ndata:") + "\n# the end\n"
    assert digest(_resolved(same)) == digest(_resolved(tiny_task))


def test_every_value_matters(tiny_task: str) -> None:
    resolved = _resolved(tiny_task)
    original = digest(resolved)
    places = list(_places(resolved))
    assert len(places) > 50
    digests = {original}
    for place in places:
        changed = copy.deepcopy(resolved)
        *way, last = place
        holder: Any = changed
        for step in way:
            holder = holder[step]
        holder[last] = ["changed", holder[last]]
        digests.add(digest(changed))
    assert len(digests) == len(places) + 1


def _resolved(text: str) -> Any:
    source = parse_text(text, Path("tiny.yaml"))
    assert check(source, "task") == []
    return normalise(source.data, "task")


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        yield (*path, key)
        if isinstance(item, (dict, list)):
            yield from _places(item, (*path, key))
