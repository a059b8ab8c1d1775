"""Whatever a file holds, the loader answers with a spec or a `SpecError`, never a traceback."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import SpecError
from harness.spec.build import normalise
from harness.spec.issues import render
from harness.spec.load import Library
from harness.spec.schema import check, validator
from harness.spec.yaml.source import parse_text, read_source

VALID = Path(__file__).parent / "valid"
KINDS: dict[str, Any] = {"task": "task", "model": "model", "method": "method", "suite": "suite"}
SPECS = [
    (kind, path, read_source(path).data)
    for kind in KINDS
    for path in sorted((VALID / f"{kind}s").glob("*.yaml"))
]
TEXTS = [path.read_text(encoding="utf-8") for _, path, _ in SPECS]

quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])

BITS = [
    *"[]{}:,-?&*!|>'\"%@`#\n\t \\~.0\0\x1b\ufeff\u2028é",
    *("- ", ": ", "? ", "<<: ", "*a", "&a ", "!!str ", "---\n", "...\n", "\n  ", "\r\n", "1e999"),
    *("name: x\n", "data: ", "kind: ", "model: ", "spec_version: 1\n", "null", "true", ".nan"),
]
yaml_bits = st.lists(st.sampled_from(BITS), max_size=40).map("".join)

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)


def load_bytes(raw: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tiny.yaml"
        path.write_bytes(raw)
        for kind in KINDS:
            try:
                getattr(Library(), kind)(str(path))
            except SpecError as error:
                shown = [render(error.issues, form) for form in ("text", "json", "github")]  # type: ignore[arg-type]
                assert all(text.encode() for text in shown)


def check_text(text: str, kind: Any) -> None:
    source = parse_text(text, Path("tiny.yaml"))
    issues = check(source, kind)
    lines = text.splitlines()
    for issue in issues:
        assert 1 <= issue.line <= len(lines) + 1
        assert issue.column >= 1
        assert "\x1b" not in str(issue)
    if not issues:
        done = normalise(source.data, kind)
        assert list(validator(kind).iter_errors(done)) == []
        assert repr(normalise(done, kind)) == repr(done)


@quick
@given(st.binary(max_size=200))
def test_any_bytes(raw: bytes) -> None:
    load_bytes(raw)


@quick
@given(st.text(max_size=200) | yaml_bits)
def test_any_text(text: str) -> None:
    load_bytes(text.encode("utf-8", "surrogatepass"))


@quick
@given(st.sampled_from(list(KINDS)), values)
def test_any_value(kind: str, value: Any) -> None:
    check_text(yaml.safe_dump(value, allow_unicode=True), kind)


@quick
@given(st.data())
def test_one_value_of_a_valid_spec_replaced_or_removed(data: st.DataObject) -> None:
    kind, path, original = data.draw(st.sampled_from(SPECS))
    changed = copy.deepcopy(original)
    holder: Any = changed
    while True:
        keys = sorted(holder) if isinstance(holder, dict) else list(range(len(holder)))
        key = data.draw(st.sampled_from(keys))
        inner = holder[key]
        if not (isinstance(inner, (dict, list)) and inner and data.draw(st.booleans())):
            break
        holder = inner
    if data.draw(st.booleans()):
        del holder[key]
    else:
        holder[key] = data.draw(values)
    text = yaml.safe_dump(changed, allow_unicode=True, sort_keys=False)
    source = parse_text(text, path)
    issues = check(source, kind)
    if not issues:
        check_text(text, kind)


@quick
@given(st.data())
def test_characters_of_a_valid_spec_changed(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(TEXTS))
    start = data.draw(st.integers(0, len(text)))
    length = data.draw(st.integers(0, 12))
    changed = text[:start] + data.draw(yaml_bits) + text[start + length :]
    for kind in KINDS:
        check_text(changed, kind)
