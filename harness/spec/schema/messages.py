"""Turn errors of `jsonschema` into plain messages at the right place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.spec.issues import Issue, did_you_mean, unknown
from harness.spec.printable import quoted
from harness.spec.yaml.source import Source

_TYPES = {
    "integer": "an integer",
    "number": "a number",
    "string": "a string",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "null",
}


def issues_of(validator: Any, source: Source) -> Iterator[Issue]:
    """One issue per mistake in `source.data`."""
    errors = list(validator.iter_errors(source.data))
    misspelt = {
        (tuple(error.absolute_path), did_you_mean(key, error.schema.get("properties", {})))
        for error in errors
        if error.validator == "additionalProperties"
        for key in _extra(error)
    }
    for error in errors:
        path = tuple(error.absolute_path)
        if error.validator == "additionalProperties" and error.validator_value is False:
            keys = list(error.schema.get("properties", {}))
            for key in _extra(error):
                yield source.issue(path, _unknown_key(key, keys, error), at_key=key)
        elif error.validator == "required":
            # One error per missing key; a key that is there misspelt is reported as such.
            key = _missing(error)
            if (path, key) not in misspelt:
                yield source.issue(path, _own(error) or f"missing required key {quoted(key)}")
        elif list(error.relative_schema_path)[-2:-1] == ["propertyNames"]:
            yield source.issue(path, _message(error), at_key=error.instance)
        else:
            yield source.issue(path, _message(error))


def _extra(error: Any) -> list[str]:
    keys = error.schema.get("properties", {})
    return [key for key in error.instance if key not in keys]


def _unknown_key(key: str, keys: list[str], error: Any) -> str:
    if own := _own(error):
        return f"unknown key {quoted(key)}; {own}"
    return unknown("key", key, keys) if keys else f"unknown key {quoted(key)}; none is allowed"


def _missing(error: Any) -> str:
    # jsonschema names the key only inside its message: "'steps' is a required property".
    return next(
        str(key)
        for key in error.validator_value
        if error.message == f"{key!r} is a required property"
    )


def _own(error: Any) -> str:
    """The schema author's own words for this mistake."""
    text = error.schema.get("x-message", "") if isinstance(error.schema, Mapping) else ""
    return str(text)


def _message(error: Any) -> str:
    value, limit = error.instance, error.validator_value
    match error.validator:
        case "type":
            return f"expected {_type_words(limit)}, got {_got(value)}"
        case "enum":
            return _not_one_of(value, limit)
        case "const":
            return _own(error) or f"must be {quoted(limit)}, got {_got(value)}"
    if own := _own(error):
        return f"{own}, got {_got(value)}" if not isinstance(value, (dict, list)) else own
    return _limit_words(error.validator, limit, value)


def _limit_words(keyword: str, limit: Any, value: Any) -> str:
    if keyword == "dependentRequired":
        return _dependent(limit, value)
    got = f", got {quoted(value)}"
    words = {
        "minimum": f"must be at least {limit}{got}",
        "maximum": f"must be at most {limit}{got}",
        "exclusiveMinimum": f"must be greater than {limit}{got}",
        "exclusiveMaximum": f"must be less than {limit}{got}",
        "minLength": "must not be empty" if limit == 1 else f"must have {limit} characters{got}",
        "maxLength": f"must have at most {limit} characters",
        "minItems": f"needs at least {_items(limit)}",
        "maxItems": f"takes at most {_items(limit)}",
        "minProperties": f"needs at least {_items(limit, 'key')}",
        "maxProperties": f"takes at most {_items(limit, 'key')}",
        "uniqueItems": f"{_short(value)} is listed twice",
    }
    if keyword not in words:  # a schema of ours uses a keyword that has no words yet: a bug
        raise NotImplementedError(f"no message for the schema keyword {keyword!r}")
    return words[keyword]


def _dependent(needs: Mapping[str, list[str]], value: Any) -> str:
    lacking = [
        f"{quoted(key)} needs {quoted(other)} beside it"
        for key, others in needs.items()
        for other in others
        if key in value and other not in value
    ]
    return "; ".join(lacking)


def _items(count: int, noun: str = "item") -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _short(value: Any) -> str:
    return _got(value) if isinstance(value, (dict, list)) else quoted(value)


def _type_words(types: str | list[str]) -> str:
    names = [types] if isinstance(types, str) else types
    return " or ".join(_TYPES[name] for name in names)


def _got(value: Any) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, str):
        return f"the string {quoted(value)}"
    if value is None or isinstance(value, bool):
        return quoted(value)
    return f"the {'integer' if isinstance(value, int) else 'number'} {quoted(value)}"


def _not_one_of(value: Any, valid: list[Any]) -> str:
    shown = ", ".join(quoted(one) for one in valid)
    text = f"{_short(value)} is not one of {shown}"
    names = [one for one in valid if isinstance(one, str)]
    close = did_you_mean(value, names) if isinstance(value, str) else ""
    return f"{text}; did you mean {quoted(close)}?" if close else text
