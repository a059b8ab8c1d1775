"""`harness help`: the documentation, on the terminal."""

from __future__ import annotations

import sys

import click

from harness.cli.main import VERBS
from harness.cli.say import say
from harness.cli.topics import TOPICS, Topic, read_topic, without_links
from harness.errors import NotFound

WIDEST = 110  # columns; longer lines of prose are hard to read


@click.command("help")
@click.argument("topic", nargs=-1)
def command(topic: tuple[str, ...]) -> None:
    """Show a topic of the documentation; without TOPIC, list all topics.

    On a terminal the text is coloured and paged; in a pipe it is plain Markdown.
    """
    if topic:
        name = " ".join(topic)
        if name in VERBS and name not in TOPICS:
            raise NotFound(f"{name!r} is a command, not a topic; try `harness {name} --help`")
        _show(read_topic(name))
        return
    topics = [read_topic(name) for name in TOPICS]
    width = max(len(one.name) for one in topics)
    for one in topics:
        say(f"{one.name:<{width}}  {one.summary}")
    say("`harness help TOPIC` shows one of them, `harness VERB --help` a command.", err=True)


def _show(topic: Topic) -> None:
    if sys.stdout.isatty():
        click.echo_via_pager(_coloured(without_links(topic.text)), color=True)
    else:
        say(topic.text, nl=False)


def _coloured(text: str) -> str:
    """Markdown as text with ANSI colours, as wide as the terminal but at most `WIDEST`."""
    from rich.console import Console
    from rich.markdown import Markdown
    from rich.theme import Theme

    # Colours of the terminal's own palette and no background: legible on dark and light ones.
    console = Console(force_terminal=True, theme=Theme({"markdown.code": "bold cyan"}))
    console.width = min(console.width, WIDEST)
    with console.capture() as capture:
        console.print(Markdown(text, code_theme="ansi_dark"))
    return capture.get()
