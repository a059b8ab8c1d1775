"""Tables of a template task: words that belong together, such as countries and their capitals.

Column k of the table `facts` is the list `facts.k`. The first slots that draw from its columns get
the words of one row, the second slots those of another draw, and so on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from harness.datasets.problems import Problem
from harness.datasets.template.plan import TemplatePlan
from harness.datasets.template.spec import TemplateData


def column(table: str, index: int) -> str:
    """Return the name of a column as a list."""
    return f"{table}.{index}"


def read_tables(plan: TemplatePlan, data: TemplateData) -> list[Problem]:
    """Add the columns of all tables to the lists of the plan; return what is wrong."""
    problems: list[Problem] = []
    for name, rows in (data.tables or {}).items():
        place = ("data", "tables", name)
        width = len(rows[0])
        for index, row in enumerate(rows):
            if len(row) != width:
                text = f"this row has {len(row)} words, and the first one {width}"
                problems.append(((*place, index), text))
            if any(not word.strip() for word in row):
                problems.append(((*place, index), "a word is empty"))
        repeated = [row for row, times in Counter(rows).items() if times > 1]
        if repeated:
            shown = "; ".join(", ".join(row) for row in repeated[:5])
            problems.append((place, f"repeated rows: {shown}"))
        for index in range(width):
            words = tuple(row[index] for row in rows if len(row) > index)
            plan.lists[column(name, index)] = words
            plan.table_of[column(name, index)] = name
    return problems


def tie_slots(plan: TemplatePlan) -> None:
    """Let slots that draw from columns of one table draw one row: all follow the first of them."""
    drawn: Counter[str] = Counter()
    leaders: dict[tuple[str, int], str] = {}
    for slot, source in plan.free.items():
        if source not in plan.table_of:
            continue
        row = (plan.table_of[source], drawn[source])
        drawn[source] += 1
        leader = leaders.setdefault(row, slot)
        if leader != slot:
            plan.follows[slot] = leader


def columns_of(plan: TemplatePlan, name: str) -> list[str]:
    """Return the lists that a list shares its rows with, itself included."""
    table = plan.table_of.get(name)
    return [name] if table is None else [one for one, of in plan.table_of.items() if of == table]


def keep_rows(plan: TemplatePlan, name: str, keep: Sequence[bool]) -> None:
    """Leave words out of a list; of a table the whole rows."""
    for one in columns_of(plan, name):
        words = zip(plan.lists[one], keep, strict=True)
        plan.lists[one] = tuple(word for word, kept in words if kept)


def has_repeats(plan: TemplatePlan, name: str) -> bool:
    """Whether a word stands in several rows of a column, so that it has no place of its own."""
    words = plan.lists[name]
    return len(set(words)) < len(words)
