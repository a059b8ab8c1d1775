"""Rules across several fields of a spec, which JSON Schema cannot state.

Each rule looks only at what has the right form, so that all mistakes of a file, those of the
schema and these, are reported at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

from harness.errors import HarnessError
from harness.spec.granularity import (
    BUILT_IN,
    DEFAULT,
    dictionary_problem,
    granularities,
    granularity,
)
from harness.spec.issues import Issue, unknown
from harness.spec.printable import quoted
from harness.spec.yaml.source import Source

Rule = Callable[[Source], Iterator[Issue]]


def check_rules(source: Source, kind: str) -> list[Issue]:
    """All broken rules of a spec of this kind."""
    return [issue for rule in _RULES[kind] for issue in rule(source)]


def _name_is_file_name(source: Source) -> Iterator[Issue]:
    name, stem = _at(source.data, "name"), source.path.stem
    if isinstance(name, str) and name != stem:
        message = f"must equal the file's name without ending, {quoted(stem)}, got {quoted(name)}"
        yield source.issue(("name",), message)


def _task_model_shape(source: Source) -> Iterator[Issue]:
    yield from _heads_divide_width(source, ("model", "architecture"))
    yield from _budgets_suffice(source, ("model",))


def _model_shape(source: Source) -> Iterator[Issue]:
    yield from _heads_divide_width(source, ("architecture",))
    yield from _budgets_suffice(source, ())


def _heads_divide_width(source: Source, path: tuple[str, ...]) -> Iterator[Issue]:
    shape = _at(source.data, *path)
    width, heads = _at(shape, "d_model"), _at(shape, "n_heads")
    groups = _at(shape, "n_key_value_heads")
    if _counts(groups) and _counts(heads) and heads % groups:
        message = f"{groups} does not divide n_heads = {heads}; heads share keys in equal groups"
        yield source.issue((*path, "n_key_value_heads"), message)
    if _at(shape, "d_head") is not None or not (_counts(width) and _counts(heads)):
        return
    if width % heads:
        message = f"{width} is not divisible by n_heads = {heads}; change one, or give d_head"
        yield source.issue((*path, "d_model"), message)


def _budgets_suffice(source: Source, path: tuple[str, ...]) -> Iterator[Issue]:
    """A matrix with `nonzero_fraction` of its entries has that share of d_model per neuron."""
    model = _at(source.data, *path)
    sparsity = _at(model, "sparsity")
    start, end = _from_to(_at(sparsity, "anneal"))
    if _is_number(start) and _is_number(end) and end < start:
        message = f"{end} is before the start, {start}"
        yield source.issue((*path, "sparsity", "anneal", "end"), message)
    fraction, least = _at(sparsity, "nonzero_fraction"), _at(sparsity, "min_per_neuron")
    width = _at(model, "architecture", "d_model")
    if not (_is_number(fraction) and _counts(least) and _counts(width)):
        return
    if least > fraction * width:
        message = (
            f"{least} entries for each neuron are more than there are: nonzero_fraction leaves "
            f"{fraction * width:g} of {width} on average"
        )
        yield source.issue((*path, "sparsity", "min_per_neuron"), message)


def _from_to(anneal: Any) -> tuple[Any, Any]:
    """Start and end of an anneal with what it leaves out."""
    if not isinstance(anneal, dict):
        return None, None
    if {"start", "end"} <= anneal.keys():
        return anneal["start"], anneal["end"]
    from harness.spec.types import Anneal  # imports numpy, which listing does without

    whole = Anneal()
    return anneal.get("start", whole.start), anneal.get("end", whole.end)


def _features_have_dictionaries(source: Source) -> Iterator[Issue]:
    """Circuits of features need a dictionary, and others have none."""
    name = _at(source.data, "evaluation", "granularity") or DEFAULT
    if (
        isinstance(name, str)
        and name in BUILT_IN
        and (  # else the schema says what is wrong
            text := dictionary_problem(name, _at(source.data, "evaluation", "dictionary"))
        )
    ):
        yield source.issue(("evaluation",), text)


def _granularity_loads(source: Source) -> Iterator[Issue]:
    """That of an installed package may be broken."""
    name = _at(source.data, "evaluation", "granularity")
    if not isinstance(name, str) or name in BUILT_IN or name not in granularities():
        return  # the schema names those that there are
    try:
        granularity(name)
    except HarnessError as error:
        yield source.issue(("evaluation", "granularity"), str(error))


def _sizes_ascend(source: Source) -> Iterator[Issue]:
    for key in ("sizes", "counts"):
        yield from _ascend(source, _at(source.data, "evaluation", key), ("evaluation", key))


def _grids(source: Source) -> Iterator[tuple[Any, tuple[str | int, ...]]]:
    """A suite's own grid and each further one, with its place."""
    yield source.data, ()
    further = _at(source.data, "also")
    for index, grid in enumerate(further if isinstance(further, list) else ()):
        yield grid, ("also", index)


def _suite_sizes_ascend(source: Source) -> Iterator[Issue]:
    for grid, place in _grids(source):
        changes = _at(grid, "evaluations")
        for index, change in enumerate(changes if isinstance(changes, list) else ()):
            for key in ("sizes", "counts"):
                path = (*place, "evaluations", index, key)
                yield from _ascend(source, _at(change, key), path)


def _excluded_are_named(source: Source) -> Iterator[Issue]:
    """An exclusion of what the suite does not have would leave out nothing."""
    keys = {"task": ("tasks",), "model": ("models",), "method": ("methods", "controls")}
    for grid, place in _grids(source):
        exclusions = _at(grid, "exclude")
        for index, one in enumerate(exclusions if isinstance(exclusions, list) else ()):
            for key, lists in keys.items():
                named = [ref for name in lists for ref in _texts(source, grid, name)]
                wrong = _at(one, key)
                if isinstance(wrong, str) and wrong not in named:
                    path = (*place, "exclude", index, key)
                    yield source.issue(path, unknown(f"{key} here", wrong, named))


def _k_fits(source: Source) -> Iterator[Issue]:
    """A token cannot have more active features than there are."""
    form = ("dictionary",)
    features, by_site = _at(source.data, *form, "features"), _at(source.data, *form, "k_by_site")
    named: dict[tuple[str, ...], Any] = {("k",): _at(source.data, *form, "k")}
    named |= {("k_by_site", n): k for n, k in by_site.items()} if isinstance(by_site, dict) else {}
    for place, k in named.items():
        if not _is_number(k):
            continue
        if k < 1:
            yield source.issue((*form, *place), f"must be at least 1, got {k}")
        elif _is_number(features) and k > features:
            message = f"{k} of {features} features cannot be active; make it smaller"
            yield source.issue((*form, *place), message)


def _texts(source: Source, grid: Any, name: str) -> list[str]:
    """What a grid of a suite lists under a key; the suite's where it leaves that out."""
    items = _at(grid, name)
    items = _at(source.data, name) if items is None else items
    return [one for one in items if isinstance(one, str)] if isinstance(items, list) else []


def _ascend(source: Source, sizes: Any, path: tuple[str | int, ...]) -> Iterator[Issue]:
    if not isinstance(sizes, list) or not all(_is_number(size) for size in sizes):
        return
    for index, (one, next_) in enumerate(pairwise(sizes), start=1):
        if next_ < one:  # equal ones are named by the schema
            message = f"{path[-1]} must ascend, but {next_} follows {one}"
            yield source.issue((*path, index), message)


def _at(data: Any, *path: str) -> Any:
    for key in path:
        data = data.get(key) if isinstance(data, dict) else None
    return data


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _counts(value: Any) -> bool:
    return _is_number(value) and value >= 1 and float(value).is_integer()


_RULES: dict[str, tuple[Rule, ...]] = {
    "task": (
        _name_is_file_name,
        _task_model_shape,
        _granularity_loads,
        _features_have_dictionaries,
        _sizes_ascend,
    ),
    "model": (_name_is_file_name, _model_shape),
    "dictionary": (_name_is_file_name, _k_fits),
    "method": (_name_is_file_name,),
    "suite": (_name_is_file_name, _suite_sizes_ascend, _excluded_are_named),
    "result": (),
}
