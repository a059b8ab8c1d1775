"""Names of other people do no harm on any screen: not in a terminal, a pipe or a file."""

from __future__ import annotations

import ast
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from support.evil import EVIL, FORGED, UNSAFE, write_circuit, write_results, write_specs

import harness.cli
from harness.cli.main import VERBS, main
from harness.runs.store.record import entries_of

CIRCUIT, SPEC, ODD = f"{EVIL}.safetensors", f"tasks/{EVIL}.yaml", f"{EVIL}?"
RUN, CELL, OTHER = EVIL, "a cell", "another cell"
FORMATS = ("github", "latex", "html", "csv", "json")

SOME = [
    ["list"],
    ["show", "evil"],
    ["validate", SPEC],
    ["status"],
    ["table", RUN, "--provenance"],
    ["table", RUN, "--format", "csv"],
    ["compare", CELL, OTHER],
    ["circuit", CIRCUIT],
    ["report", RUN, "-o", f"{EVIL}.html"],
    ["export", RUN, "--format", "mib", "--method", EVIL, "--to", f"{EVIL}.mib"],
    ["why", ODD],
    ["run", ODD],
    ["table", f"--{EVIL}"],
    [EVIL],
]
MORE = [
    *(["show", "evil", one] for one in ("--resolved", "--json")),
    *(["show", one] for one in (ODD, SPEC)),
    *(["validate", *more] for more in ([], ["tasks"], ["evil"], ["wrong"])),
    *(["validate", "wrong", "--format", one] for one in ("json", "github")),
    *(["plan", one] for one in ("evil", SPEC, ODD)),
    *(["status", one] for one in (RUN, ODD)),
    *(["why", one] for one in (CELL, "a missing cell")),
    *(
        ["table", RUN, "--format", form, *more]
        for form, more in product(FORMATS, ([], ["--wide"], ["--full"], ["--by-task"]))
    ),
    ["compare", ODD, f"{RUN}:{EVIL}"],
    *(["circuit", CIRCUIT, "--diff", CELL, "--draw", f"{EVIL}.{one}"] for one in ("svg", "x")),
    *(["circuit", CIRCUIT, "--export", f"{EVIL}.{one}"] for one in ("dot", "graphml", "x")),
    *(["overlap", CIRCUIT, one] for one in (CIRCUIT, f"{RUN}:{EVIL}", ODD)),
    ["report", RUN, "-o", f"tasks/evil.yaml/{EVIL}.html"],
    *(["plot", one, RUN, "-o", f"{EVIL}.svg"] for one in ("curves", "pareto", "frontier")),
    *(["plot", "circuit", CIRCUIT, "-o", f"{EVIL}.{one}"] for one in ("pdf", "x")),
    ["plot", "curves", RUN, "--measure", EVIL],
    *(["merge", one, "-o", f"{EVIL}.merged"] for one in ("results", "tasks", EVIL)),
    *(["verify", *more] for more in ([], [ODD], ["-o", ODD])),
    *(["doctor", "-o", one] for one in (f"{EVIL}.new", SPEC)),
    *(["new", one] for one in (["x", "--from", ODD], [EVIL])),
    *([verb, ODD] for verb in ("check", "help", "frontier", "judge", "look", "train", "trace")),
    *([verb, ODD] for verb in ("features", "dictionary", "serve", "export", "list", "circuit")),
    *([verb, SPEC] for verb in ("run", "look", "train", "trace", "features", "dictionary")),
    *(["judge", one] for one in (CIRCUIT, CELL)),
    *(["analyse", *more] for more in (["flow", ODD], [ODD])),
    *(["bench", *more] for more in (["--model", ODD], ["--methods", ODD])),
    ["bridge", ODD, ODD, ODD],
    ["run", "evil", "--methods", EVIL],
    ["look", "evil", "--train"],
    ["trace", "evil"],
    ["run", "evil", "--methods", "eap"],
    ["report", "evil", "-o", "evil.html"],
    ["table", "--columns", EVIL],
    ["serve", "--port", EVIL],
]


def walk(commands: Sequence[Sequence[Any]]) -> list[list[str]]:
    """The commands as they are typed in a folder where everything is evil, which this fills."""
    write_specs(Path())
    write_results(Path("results"))
    write_circuit(Path(CIRCUIT))
    cells = [one.id for one in entries_of(Path("results", RUN))]
    names = {CELL: cells[0], OTHER: cells[1], "a missing cell": cells[4]}
    flat = [[word for part in one for word in ([part] if isinstance(part, str) else part)]
            for one in commands]  # fmt: skip
    return [[names.get(word, word) for word in one] for one in flat]


def harmless(text: str, commands: object) -> None:
    assert set(UNSAFE.findall(text)) == set(), commands
    assert not [line for line in text.splitlines() if line.startswith(FORGED)], commands


def test_all_commands_print_through_one_door() -> None:
    """Bars and lines of progress, and coloured documentation, are printed by themselves."""
    doors = {"say.py", "progress.py", "help.py"}
    printing = {"click.echo", "click.secho", "click.echo_via_pager", "print"}
    (folder,) = harness.cli.__path__
    past = [
        f"{path.name}:{node.lineno}"
        for path in sorted(Path(folder).glob("*.py"))
        if path.name not in doors
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in printing
    ]
    assert past == []


def walked(commands: Sequence[Sequence[Any]]) -> None:
    shown = 0
    for arguments in walk(commands):
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code in (0, 1, 2, 3), (arguments, result.output)
        harmless(result.stdout + result.stderr, arguments)
        shown += "u202e" in result.output
    assert shown > len(commands) / 2


def test_names_are_harmless_in_a_pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    walked(SOME)


@pytest.mark.slow
def test_names_are_harmless_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    asked = {one[0] for one in (*SOME, *MORE)}
    assert set(VERBS) <= asked
    walked(MORE)


RUN_ALL = """\
import json, sys
from harness.cli.main import main
for arguments in json.load(open("commands.json")):
    try:
        main(arguments)
    except SystemExit as ended:
        assert ended.code in (0, 1, 2, 3), arguments
print("all have run")
"""


@pytest.mark.slow
def test_names_are_harmless_on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bars may move the cursor there; what names ask for is something else."""
    monkeypatch.chdir(tmp_path)
    few = [one for one in MORE if one[0] not in ("table", "bench", "plot", "report")]
    Path("commands.json").write_text(json.dumps(walk([*SOME, *few])))
    text = on_a_terminal([sys.executable, "-c", RUN_ALL])
    assert "all have run" in text
    for unsafe in ("\x1b[6n", "\x1b]", "\x07", "\x9b", "\x7f", "\u202e", "\u2066", "\u061c"):
        assert unsafe not in text
    drawn = re.sub(r"\x1b\[(?:\?25[hl]|\d*[AK]|[\d;]*m)", "", text)  # what the live view says
    harmless(drawn.replace("\r\n", "\n").replace("\r", ""), "all")


def on_a_terminal(command: Sequence[str]) -> str:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm"}
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        parts = []
        try:
            while part := os.read(ours, 65536):
                parts.append(part)
        except OSError:  # how a terminal ends
            pass
        assert process.wait() == 0
    os.close(ours)
    return b"".join(parts).decode()


def test_data_keeps_every_character(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    commands = [["status", "--json"], ["compare", CELL, OTHER, "--json"], ["list", "--json"],
                ["why", CELL, "--json"], ["table", RUN, "--format", "json"],
                ["circuit", CIRCUIT, "--json"]]  # fmt: skip
    for arguments in walk(commands):
        result = CliRunner().invoke(main, arguments)
        harmless(result.stdout, arguments)
        assert EVIL in set(strings(json.loads(result.stdout))), arguments


def strings(data: Any) -> list[str]:
    """All texts in JSON data, and their parts that an evil name may be one of."""
    if isinstance(data, dict):
        return [text for one in (*data, *data.values()) for text in strings(one)]
    if isinstance(data, list):
        return [text for one in data for text in strings(one)]
    if not isinstance(data, str):
        return []
    return [data, *([EVIL] if EVIL in data else [])]
