"""Pieces of HTML in the colours of the notebook that shows them, light or dark.

Notebooks choose their colours by themselves, so text has the colour around it, and rules and marks
are half transparent. What a mark says is also said by its element: where styles are stripped, as
on GitHub, differences are still bold.
"""

from __future__ import annotations

from collections.abc import Iterable

from harness.reports.text import hypertext

STYLE = """<style>
.circuit-harness { color: inherit; overflow-x: auto; }
.circuit-harness table { border-collapse: collapse; margin: .4em 0; color: inherit; }
.circuit-harness th, .circuit-harness td { background: none; color: inherit; white-space: nowrap;
  padding: .15em .6em; border: 0; border-bottom: 1px solid rgba(128, 128, 128, .4); }
.circuit-harness p { margin: .3em 0; max-width: 60em; }
.circuit-harness p.title { margin-top: 1em; font-weight: bold; }
.circuit-harness .legend { opacity: .75; font-size: .9em; }
.circuit-harness td.tokens { white-space: pre-wrap; line-height: 1.9; text-align: left; }
.circuit-harness code { background: none; color: inherit; padding: .1em .25em; border-radius: 3px;
  border: 1px solid transparent; white-space: pre-wrap; }
.circuit-harness code.read { border-color: currentColor; }
.circuit-harness mark { background: rgba(86, 180, 233, .35); color: inherit; font-weight: bold;
  text-decoration: underline; }
</style>"""


def fragment(parts: Iterable[str]) -> str:
    """HTML parts as one piece with its style."""
    return "\n".join(['<div class="circuit-harness">', STYLE, *parts, "</div>"])


def heading(text: str) -> str:
    """What a table is of."""
    return f'<p class="title"><strong>{hypertext(text)}</strong></p>'


def paragraph(text: str, kind: str = "") -> str:
    """A sentence; `kind` is `legend` for what signs mean."""
    name = f' class="{kind}"' if kind else ""
    return f"<p{name}>{hypertext(text)}</p>"
