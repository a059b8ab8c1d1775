"""The documentation that comes with the package: one Markdown file per topic in `harness/docs`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from harness.errors import NotFound

FOLDER = Path(__file__).resolve().parents[1] / "docs"

TOPICS = (
    "first-steps",
    "write-a-task",
    "template-data",
    "file-data",
    "generators",
    "programs",
    "corpora",
    "methods",
    "python",
    "compare-methods",
    "read-the-numbers",
    "results-and-resume",
    "clusters",
    "circuit-files",
    "channels",
    "dictionaries",
    "judge",
    "tracing",
    "cost",
    "add-a-method",
    "add-a-generator",
    "add-a-measure",
    "add-a-granularity",
    "bring-a-model",
    "sparse-models",
    "features",
    "analyses",
    "bridges",
)
"""Every topic, in reading order. A topic is a file `harness/docs/NAME.md` and a line here."""

_CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[([^\]]+)\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Topic:
    """A topic's name, its title and one-sentence summary, and its whole Markdown text."""

    name: str
    title: str
    summary: str
    text: str


def read_topic(name: str) -> Topic:
    """Return the topic of this name; spaces and underscores count as hyphens.

    Raises `NotFound` with a similar name if there is no such topic.
    """
    wanted = re.sub(r"[\s_]+", "-", name.strip().lower())
    if wanted not in TOPICS:
        near = get_close_matches(wanted, TOPICS, 1)
        hint = f"; did you mean {near[0]!r}?" if near else "; `harness help` lists them"
        raise NotFound(f"unknown topic {name!r}{hint}")
    text = (FOLDER / f"{wanted}.md").read_text(encoding="utf-8")
    title, summary = text.split("\n\n", 2)[:2]
    return Topic(wanted, title.removeprefix("# "), " ".join(summary.split()), text)


def without_links(text: str) -> str:
    """Markdown for a terminal: a link to a topic names its command, other paths are left out."""
    parts: list[str] = []
    end = 0
    for code in _CODE.finditer(text):
        parts += [_LINK.sub(_named, text[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*parts, _LINK.sub(_named, text[end:])])


def _named(link: re.Match[str]) -> str:
    label, target = link[1], link[2]
    if "://" in target:
        return link[0]
    name = target.partition("#")[0].removesuffix(".md")
    return f"{label} (`harness help {name}`)" if name in TOPICS else label
