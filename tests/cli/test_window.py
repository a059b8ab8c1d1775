"""Tables fit the terminal; a pipe and a file have a width of their own."""

from __future__ import annotations

import io
import os
import shutil
import sys

import click
import pytest

from harness.cli.options import NARROWEST, WIDTH, layout_of, window
from harness.errors import NotFound


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("columns", "width"), [(80, 80), (200, 200), (10, NARROWEST)])
def test_a_terminal_has_its_own_width(
    monkeypatch: pytest.MonkeyPatch, columns: int, width: int
) -> None:
    size = os.terminal_size((columns, 24))
    monkeypatch.setattr(shutil, "get_terminal_size", lambda *_: size)
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert window() == layout_of(None, False).width == width
    assert layout_of(None, False, bounded=False).width == WIDTH  # a file's
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert window() == WIDTH  # a pipe's, whatever the terminal behind it


def test_columns_are_named_or_all() -> None:
    assert layout_of("method, cmd", False).columns == ("method", "cmd")
    assert layout_of(None, True).wide
    with pytest.raises(click.UsageError, match="either it or --columns"):
        layout_of("cmd", True)
    with pytest.raises(NotFound, match="no column ''"):
        layout_of("cmd,", False)
