"""The JSON Schemas of specs: checking a file against them, and writing them from the classes.

`check` loads them and checks, `messages` and `text` say what is wrong, `generate` writes them, and
`params` completes the parameters of methods and generators by them.
"""

from harness.spec.schema.check import (
    KINDS,
    SpecKind,
    check,
    check_against,
    load_schema,
    validator,
)

__all__ = ["KINDS", "SpecKind", "check", "check_against", "load_schema", "validator"]
