"""`harness help`: topics listed, shown plain in a pipe and coloured on a terminal."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from harness.cli.main import main
from harness.cli.topics import FOLDER, TOPICS, read_topic, without_links

ROOT = FOLDER.parents[1]
_ANSI = re.compile(r"\x1b\[[\d;]*m")


def harness(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == code, result.output
    return result


def on_a_terminal(*arguments: str) -> str:
    """What the command writes to a terminal whose pager prints everything at once."""
    master, slave = pty.openpty()
    environment = {**os.environ, "PAGER": "cat", "TERM": "xterm", "PYTHONPATH": str(ROOT)}
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", *arguments],
        stdin=slave,
        stdout=slave,
        stderr=subprocess.PIPE,
        env={**environment, "COLUMNS": "100"},
    )
    os.close(slave)
    written = b""
    try:
        while chunk := os.read(master, 65536):
            written += chunk
    except OSError:  # Linux says so when the last writer has closed its end
        pass
    os.close(master)
    assert process.stderr is not None
    assert process.wait(60) == 0, process.stderr.read().decode()
    process.stderr.close()
    return written.decode()


def test_without_a_topic_all_are_listed_with_their_summaries() -> None:
    lines = harness("help").stdout.splitlines()
    assert [line.split(None, 1) for line in lines] == [
        [name, read_topic(name).summary] for name in TOPICS
    ]


@pytest.mark.parametrize("name", TOPICS)
def test_in_a_pipe_a_topic_is_its_markdown(name: str) -> None:
    text = (FOLDER / f"{name}.md").read_text(encoding="utf-8")
    assert harness("help", name).stdout == text
    assert text.startswith(f"# {read_topic(name).title}\n\n{read_topic(name).summary}\n\n")


def test_a_topic_can_be_named_by_its_title() -> None:
    wanted = harness("help", "write-a-task").stdout
    assert harness("help", "Write", "a", "task").stdout == wanted
    assert harness("help", "write_a_task").stdout == wanted


@pytest.mark.parametrize(
    ("name", "hint"),
    [("metods", "did you mean 'methods'?"), ("zebra", "`harness help` lists them")],
)
def test_an_unknown_topic_gets_a_hint(name: str, hint: str) -> None:
    result = harness("help", name, code=2)
    assert result.stdout == ""
    assert result.stderr == f"error: unknown topic {name!r}; {hint}\n"


def test_a_command_is_pointed_to() -> None:
    result = harness("help", "doctor", code=2)
    assert result.stderr == (
        "error: 'doctor' is a command, not a topic; try `harness doctor --help`\n"
    )


def test_on_a_terminal_it_is_coloured_and_links_name_commands() -> None:
    written = on_a_terminal("help", "generators")
    assert _ANSI.search(written)
    plain = " ".join(_ANSI.sub("", written).split())
    assert "Add a generator (harness help add-a-generator) shows how to write one." in plain
    assert "](" not in plain
    assert "every machine draws the same prompts" in plain


def test_links_in_code_are_left_alone() -> None:
    text = "[a](methods.md#b) [c](../../tasks/x.yaml) [d](https://e.f)\n\n```text\n[a](b.md)\n```\n"
    shown = "a (`harness help methods`) c [d](https://e.f)\n\n```text\n[a](b.md)\n```\n"
    assert without_links(text) == shown


def test_topics_lie_in_the_package_so_that_wheels_have_them() -> None:
    import tomllib

    import harness as package

    assert Path(package.__file__).parent / "docs" == FOLDER
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]
    wheel = build["build"]["targets"]["wheel"]
    assert wheel["packages"] == ["harness"]
    assert not {"include", "exclude", "only-include"} & {*wheel, *build["build"]}
