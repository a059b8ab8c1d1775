"""Reads templates into frames: literal texts and slots, clean and corrupted.

A frame is one template under one alias map.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from harness.datasets.problems import Problem
from harness.datasets.template.plan import (
    LAST,
    Answer,
    AnsweredAt,
    Frame,
    FramePart,
    TemplatePlan,
)
from harness.datasets.template.spec import AnswerRule, Template, TemplateData
from harness.spec.issues import unknown

_SLOT = re.compile(r"\{(\w+)\}")
_BLANK = "{}"  # at the end of a template: where the answer stands
MOST_CHARACTERS = 4_000_000
MOST_PROBLEMS = 100  # after so many, templates are read no further


def slot_names(plan: TemplatePlan, data: TemplateData) -> list[str]:
    """Return every name that can stand in braces: slots, and placeholders of the aliases."""
    aliases = data.aliases[0] if data.aliases else {}
    return [*plan.origin, *aliases]


def read_frames(plan: TemplatePlan, data: TemplateData) -> list[Problem]:
    """Add the frames of all templates, and their texts, to the plan; return what is wrong."""
    problems: list[Problem] = []
    longest = max((len(template.text) for template in data.templates), default=0)
    maps = max(1, len(data.aliases))
    if longest * len(data.templates) * maps > MOST_CHARACTERS:
        text = (
            f"{len(data.templates):,} templates of up to {longest:,} characters, under each map "
            f"of aliases ({maps}), have more than {MOST_CHARACTERS:,}"
        )
        return [(("data", "templates"), text)]
    seen: dict[tuple[FramePart, ...], int] = {}
    for index, template in enumerate(data.templates):
        place = ("data", "templates", index)
        mistakes = _template_problems(template, slot_names(plan, data))
        problems += [(place, text) for text in mistakes]
        if len(problems) > MOST_PROBLEMS:
            return problems
        if mistakes:
            continue
        # Without placeholders of the aliases all maps give the same frame.
        for alias in data.aliases or ({},):
            parts = tuple(_parts(prompt_text(template.text)[0], alias))
            if parts in seen:
                if seen[parts] != index:
                    problems.append((place, f"same as templates[{seen[parts]}]"))
                continue
            seen[parts] = index
            frame = _frame(template, index, parts, alias, data)
            whole = frozenset(alias.get(slot, slot) for slot in plan.token_rules.whole)
            plan.frames.append(replace(frame, whole=whole))
    plan.literals += [part.text for frame in plan.frames for part in frame.clean if not part.slot]
    return problems


def prompt_text(text: str) -> tuple[str, bool]:
    """Return the prompt of a template and whether the answer follows without a space.

    "to {CC}{}" is glued. "to {}" and "to" are not: the space belongs to the answer.
    """
    if not text.endswith(_BLANK):
        return text, False
    prompt = text.removesuffix(_BLANK)
    return prompt.removesuffix(" "), not prompt.endswith(" ")


def _template_problems(template: Template, names: list[str]) -> list[str]:
    text, _ = prompt_text(template.text)
    wrong = [name for name in dict.fromkeys(_SLOT.findall(text)) if name not in names]
    problems = [unknown("slot", name, names) for name in wrong[:MOST_PROBLEMS]]
    if re.search(r"[{}]", _SLOT.sub("", text)):
        problems.append("a brace that is not part of a {SLOT} ({}, the answer, ends a template)")
    if not text.strip():
        problems.append("the text is empty")
    return problems


def _parts(text: str, alias: Mapping[str, str]) -> Iterable[FramePart]:
    for index, piece in enumerate(_SLOT.split(text)):
        if index % 2:
            yield FramePart(slot=alias.get(piece, piece))
        elif piece:
            yield FramePart(text=piece)


def _frame(
    template: Template,
    index: int,
    parts: tuple[FramePart, ...],
    alias: Mapping[str, str],
    data: TemplateData,
) -> Frame:
    renamed = {
        alias.get(slot, slot): value if value.startswith("=") else alias.get(value, value)
        for slot, value in data.corruptions.get(data.corruption, {}).items()
    }

    def name(slot: str | None) -> str:
        return LAST if slot is None else alias.get(slot, slot)

    return Frame(
        clean=parts,
        corrupted=tuple(_changed(part, renamed) for part in parts),
        good=_answer(data.good, alias),
        bad=_answer(data.bad, alias),
        split=template.split,
        template=index,
        glued=prompt_text(template.text)[1],
        where=name(data.read),
        further=tuple(
            AnsweredAt(name(one.read), _answer(one.good, alias), _answer(one.bad, alias))
            for one in data.also_read or ()
        ),
    )


def _changed(part: FramePart, changes: Mapping[str, str]) -> FramePart:
    value = changes.get(part.slot) if part.slot else None
    if value is None:
        return part
    return FramePart(text=value[1:]) if value.startswith("=") else FramePart(slot=value)


def _answer(rule: AnswerRule, alias: Mapping[str, str]) -> Answer:
    def name(slot: str | None) -> str | None:
        return None if slot is None else alias.get(slot, slot)

    return Answer(name(rule.slot), rule.word, rule.list, name(rule.after), name(rule.up_to))
