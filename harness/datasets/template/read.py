"""Reads the `template` data of a task into a plan, naming every mistake and its place.

Both opening a task and `harness validate` use it, so they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.datasets.classes import Classes
from harness.datasets.problems import Place, Problem
from harness.datasets.splits import share_problems
from harness.datasets.template.constraints import Rule, TokenRules, parse_constraint
from harness.datasets.template.frames import read_frames, slot_names
from harness.datasets.template.plan import FIRST, LAST, TemplatePlan
from harness.datasets.template.spec import AnswerRule, TemplateData
from harness.datasets.template.tables import column, has_repeats, read_tables, tie_slots
from harness.datasets.template.word_lists import MOST_WORDS, read_words
from harness.spec.issues import unknown

MOST_RULES = 5_000  # relations between two slots; each is looked at for every prompt


def read_plan(
    data: TemplateData, folder: Path, classes: Classes | None = None
) -> tuple[TemplatePlan, list[Problem]]:
    """Return the plan of `data` (paths relative to `folder`) and all problems found.

    `classes`: what the task answers in, if not tokens. The plan is complete only if there are no
    problems.
    """
    plan, problems = TemplatePlan(classes=classes), []
    problems += [(("data", "shares"), text) for text in share_problems(data.shares)]
    problems += _read_lists(plan, data, folder)
    problems += read_tables(plan, data)
    problems += _read_slots(plan, data)
    problems += _read_aliases(plan, data)
    problems += _read_rules(plan, data)
    problems += _check_corruptions(plan, data)
    problems += _check_answers(plan, data)
    problems += _check_held_out(plan, data)
    problems += read_frames(plan, data)
    if not data.templates:
        problems.append((("data", "templates"), "there is no template"))
    if not problems:
        problems += _check_read(plan, data)
    if not problems:
        problems += _check_used(plan, data)
    return plan, problems


def _read_lists(plan: TemplatePlan, data: TemplateData, folder: Path) -> list[Problem]:
    problems: list[Problem] = []
    words = 0
    for name, spec in data.lists.items():
        plan.lists[name], mistakes = read_words(spec, folder)
        problems += [(("data", "lists", name), text) for text in mistakes]
        words += len(plan.lists[name])
        if words > MOST_WORDS:
            plan.lists |= {other: () for other in data.lists if other not in plan.lists}
            text = f"up to here the lists have more than {MOST_WORDS:,} words together"
            return [*problems, (("data", "lists", name), text)]
    return problems


def _read_slots(plan: TemplatePlan, data: TemplateData) -> list[Problem]:
    problems: list[Problem] = []
    for slot, source in data.slots.items():
        place = ("data", "slots", slot)
        if source in plan.lists and source in plan.origin:
            problems.append((place, f"{source!r} is both a list and a slot; rename one"))
        elif source in plan.lists:
            plan.free[slot], plan.origin[slot] = source, slot
        elif source in plan.origin:
            plan.origin[slot] = plan.origin[source]
        else:
            problems.append((place, _unknown_source(plan, data, source)))
            plan.origin[slot] = slot  # known by name, so that it is reported once
    tie_slots(plan)
    return problems


def _unknown_source(plan: TemplatePlan, data: TemplateData, source: str) -> str:
    rows = (data.tables or {}).get(source)
    if rows:
        names = f"{column(source, 0)} … {column(source, len(rows[0]) - 1)}"
        return f"{source!r} is a table; name one of its columns, {names}"
    return unknown("list or earlier slot", source, [*plan.lists, *plan.origin])


def _read_aliases(plan: TemplatePlan, data: TemplateData) -> list[Problem]:
    problems: list[Problem] = []
    for index, alias in enumerate(data.aliases):
        place = ("data", "aliases", index)
        if set(alias) != set(data.aliases[0]):
            problems.append((place, "every alias map must name the same placeholders"))
        for name, slot in alias.items():
            if name in plan.origin:
                problems.append(((*place, name), f"{name!r} is already a slot; rename the alias"))
            if slot not in plan.origin:
                problems.append(((*place, name), unknown("slot", slot, plan.origin)))
    return problems


def _read_rules(plan: TemplatePlan, data: TemplateData) -> list[Problem]:
    problems: list[Problem] = []
    columns = {slot: index for index, slot in enumerate(plan.free)}
    for index, text in enumerate(data.constraints):
        place = ("data", "constraints", index)
        try:
            relations = parse_constraint(text)
        except ValueError as error:
            problems.append((place, str(error)))
            continue
        if isinstance(relations, TokenRules):
            problems += [(place, text) for text in _rule_problems(relations, plan, data)]
            plan.token_rules |= relations
            continue
        names = dict.fromkeys(name for one in relations for name in (one.left, one.right))
        missing = [name for name in names if plan.origin.get(name) not in columns]
        problems += [(place, unknown("slot", name, plan.origin)) for name in missing]
        for one in relations if not missing else ():
            left, right = plan.origin[one.left], plan.origin[one.right]
            if left == right:
                problems.append((place, f"{one.left!r} and {one.right!r} are always equal"))
            elif one.sign != "!=" and plan.free[left] != plan.free[right]:
                problems.append(
                    (
                        place,
                        f"{one.left!r} and {one.right!r} are ordered by their place"
                        " in one list, but draw from different lists",
                    )
                )
            plan.rules.append(Rule(columns[left], one.sign, columns[right]))
        if len(plan.rules) > MOST_RULES:
            return [*problems, (place, f"up to here there are more than {MOST_RULES:,} relations")]
    return problems


def _rule_problems(rules: TokenRules, plan: TemplatePlan, data: TemplateData) -> list[str]:
    slots = slot_names(plan, data)
    return [
        *(unknown("slot", name, slots) for name in sorted(rules.whole - set(slots))),
        *(unknown("list", name, plan.lists) for name in sorted(rules.one - set(plan.lists))),
    ]


def _check_corruptions(plan: TemplatePlan, data: TemplateData) -> list[Problem]:
    problems: list[Problem] = []
    names = slot_names(plan, data)
    for name, changes in data.corruptions.items():
        place = ("data", "corruptions", name)
        if not changes:
            problems.append((place, "a corruption must change at least one slot"))
        for slot, value in changes.items():
            if slot not in names:
                problems.append(((*place, slot), unknown("slot", slot, names)))
            if value.startswith("="):
                plan.literals.append(value[1:])
            elif value not in names:
                problems.append(
                    ((*place, slot), unknown("slot", value, names) + ' (a word is written "=word")')
                )
            elif plan.origin.get(value) is not None and (
                plan.origin.get(value) == plan.origin.get(slot)
            ):
                problems.append(
                    (
                        (*place, slot),
                        f"{value!r} always has the word of {slot!r}: this changes nothing",
                    )
                )
    if data.corruption not in data.corruptions:
        problems.append(
            (("data", "corruption"), unknown("corruption", data.corruption, data.corruptions))
        )
    return problems


def _check_answers(plan: TemplatePlan, data: TemplateData) -> list[Problem]:
    problems: list[Problem] = []
    names = slot_names(plan, data)
    for place, rule in answer_rules(data):
        choices = [name for name in ("slot", "word", "list") if getattr(rule, name) is not None]
        if len(choices) != 1:
            problems.append((place, "give exactly one of slot, word, list"))
        if rule.slot is not None and rule.slot not in names:
            problems.append(((*place, "slot"), unknown("slot", rule.slot, names)))
        if rule.word is not None and plan.classes is None:
            plan.literals.append(rule.word)
        if rule.list is not None and rule.list not in plan.lists:
            problems.append(((*place, "list"), unknown("list", rule.list, plan.lists)))
        for key in ("after", "up_to"):
            slot = getattr(rule, key)
            if slot is None:
                continue
            if rule.list is None:
                problems.append(((*place, key), f"{key} needs a list"))
            elif rule.list in plan.lists and has_repeats(plan, rule.list):
                text = f"{key} needs a list in which each word stands once, unlike {rule.list!r}"
                problems.append(((*place, key), text))
            if slot not in names:
                problems.append(((*place, key), unknown("slot", slot, names)))
    return problems


def answer_rules(data: TemplateData) -> Iterator[tuple[Place, AnswerRule]]:
    """Yield the rules of all answers, with their places in the task's file."""
    yield ("data", "good"), data.good
    yield ("data", "bad"), data.bad
    for index, one in enumerate(data.also_read or ()):
        yield ("data", "also_read", index, "good"), one.good
        yield ("data", "also_read", index, "bad"), one.bad


def _check_read(plan: TemplatePlan, data: TemplateData) -> list[Problem]:
    """Return places of answers that a template does not have once."""
    problems: dict[Problem, None] = {}
    names = slot_names(plan, data)
    asked = [data.read, *(one.read for one in data.also_read or ())]
    places: list[Place] = [("data", "read")]
    places += [("data", "also_read", index, "read") for index in range(len(asked) - 1)]
    for place, where in zip(places, asked, strict=True):
        if where in (FIRST, LAST) and where in names:
            text = f"{where!r} is a slot here and also means the {where} token; rename the slot"
            problems[(place, text)] = None
        elif where is not None and where not in (FIRST, LAST, *names):
            problems[(place, unknown("slot", where, [FIRST, LAST, *names]))] = None
    if problems:
        return list(problems)
    for frame in plan.frames:
        read = [one.where for one in frame.answered]
        for place, where in zip(places, read, strict=True):
            if where not in (FIRST, LAST) and (times := len(frame.shown(where))) != 1:
                text = (
                    f"answers are read at slot {where!r}, and this template shows it {times} times "
                    "instead of once; give each place a slot of its own (`A2: A` copies A)"
                )
                problems[(("data", "templates", frame.template), text)] = None
            elif read.count(where) > 1:
                problems[(place, f"{where!r} is read twice")] = None
    return list(problems)


def _check_held_out(plan: TemplatePlan, data: TemplateData) -> list[Problem]:
    problems: list[Problem] = []
    owner: dict[str, str] = {}
    for split, lists in data.held_out.items():
        for name, words in lists.items():
            place = ("data", "held_out", split, name)
            if name not in plan.lists:
                problems.append((place, unknown("list", name, plan.lists)))
                continue
            listed = set(plan.lists[name])
            absent = [word for word in words if word not in listed]
            if absent:
                problems.append((place, f"not in list {name!r}: {', '.join(absent[:10])}"))
            for word in words:
                if owner.setdefault(word, split) != split:
                    problems.append((place, f"{word!r} is also held out for {owner[word]!r}"))
    return problems


def _check_used(plan: TemplatePlan, data: TemplateData) -> list[Problem]:
    """Return slots that no frame, corruption or answer needs, and frames nothing happens to."""
    used = {part.slot for frame in plan.frames for part in frame.clean}
    alias_slots = {slot for alias in data.aliases for slot in alias.values()}
    for changes in data.corruptions.values():
        used |= {*changes, *changes.values()}
    for _, rule in answer_rules(data):
        used |= {rule.slot, rule.after, rule.up_to}
    origins = {plan.origin.get(slot or "") for slot in used if slot in plan.origin}
    problems: list[Problem] = [
        (("data", "slots", slot), f"slot {slot!r} is never used")
        for slot in plan.origin
        if slot not in used and slot not in origins | alias_slots
    ]
    for index in dict.fromkeys(
        frame.template for frame in plan.frames if frame.clean == frame.corrupted
    ):
        text = f"corruption {data.corruption!r} changes nothing here: the template has none of "
        slots = ", ".join("{" + slot + "}" for slot in data.corruptions[data.corruption])
        problems.append((("data", "templates", index), text + slots))
    return problems
