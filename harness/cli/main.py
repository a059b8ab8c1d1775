"""`harness`: the command line. One file per verb, imported only when the verb is used.

Exit codes: 0 all well, 1 some cell failed, 2 usage or spec error, 3 corrupt store, 70 a bug,
130 interrupted. Data goes to stdout; progress, logs and errors go to stderr.
"""

from __future__ import annotations

import errno
import importlib
import io
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from harness import __version__, ranks
from harness.errors import HarnessError
from harness.launcher import launched
from harness.ranks import RankLost
from harness.spec.printable import printable

USAGE, BUG, INTERRUPTED, BROKEN_PIPE = 2, 70, 130, 141

# verb -> one line of help. The verb's module is `harness.cli.<verb>`, or stands in `HOMES`.
VERBS = {
    "list": "List tasks, models, dictionaries, methods, metrics or suites.",
    "show": "Show a task, model, dictionary, method or suite.",
    "dictionary": "Train dictionaries of a model, or load them, and say how good they are.",
    "new": "Start a task of your own from a commented one.",
    "validate": "Check specs and say exactly what is wrong.",
    "look": "Show prompts of a task token by token, and its model's answers.",
    "check": "Try a method on a tiny model, in seconds.",
    "plan": "Show what a run would compute, reuse and train.",
    "run": "Run a suite or a task and print the leaderboard.",
    "train": "Train a model spec, and write weights to ship beside it.",
    "bridge": "Train a sparse model beside a dense one, and steer the dense one by it.",
    "status": "Show which cells of a run are done.",
    "why": "Show what a cell's id is made of.",
    "table": "Print the leaderboard or the result rows.",
    "compare": "Compare two methods, runs or cells, paired by example.",
    "frontier": "Compare how small the circuits of models are that reach a loss.",
    "circuit": "Show a circuit: strongest edges, nodes, what two differ in.",
    "judge": "Test one circuit: complete, minimal, equivalent? What does it share?",
    "overlap": "Show what circuits share, over seeds or between tasks.",
    "trace": "Trace one prompt from a logit to its embeddings, without patching.",
    "features": "Label the features of dictionaries by the concepts of a task.",
    "analyse": "Say what features and circuits compute: logits, heads, flows, splits.",
    "export": "Write circuits in the form of another tool.",
    "report": "Write one page: leaderboard, curves, circuits, provenance.",
    "serve": "Serve that page on this machine while cells finish.",
    "plot": "Draw faithfulness against circuit size.",
    "bench": "Measure what methods cost on a model.",
    "merge": "Join results folders of several people or machines into one.",
    "verify": "Check stored results against their digests.",
    "doctor": "Show versions, devices, how busy this machine is, and if results can be written.",
    "help": "Read the documentation, topic by topic.",
}


SHARED = ("run", "bench")
"""Verbs that torchrun may start."""

HOMES = {"check": "check_method"}
"""Modules of verbs that are not called as the verb is."""


class LazyGroup(click.Group):
    """Knows its verbs by name, imports one only to run it, and maps errors to exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All verbs, in the order in which a user meets them."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the verb's module; None for an unknown verb."""
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"harness.cli.{HOMES.get(cmd_name, cmd_name)}")
        # Called `command`, because most verbs are words that Python or the module itself uses.
        command: click.Command = getattr(module, "command", None) or getattr(module, cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Suggest a similar verb for a mistyped one."""
        from difflib import get_close_matches

        if args and args[0] not in VERBS and not args[0].startswith("-"):
            near = get_close_matches(args[0], VERBS, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb and flush its output while a closed pipe can still be detected."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            # The reader (`| head`) has seen enough; keep Python from complaining at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return BROKEN_PIPE
        return result

    def main(self, args: Sequence[str] | None = None, *rest: Any, **extra: Any) -> Any:
        """Run the command and exit with its exit code."""
        extra["standalone_mode"] = False
        extra["prog_name"] = "harness"
        _leave(_exit_code(lambda: super(LazyGroup, self).main(args, *rest, **extra)))


def _leave(code: int) -> NoReturn:
    """End this process with an exit code.

    Threads of torch's process groups, which its caches of meshes keep after the groups are gone,
    abort a process that tears down Python while they still want something of it: it is not.
    """
    if not ranks.has_threads():
        sys.exit(code)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _exit_code(run: Any) -> int:
    try:
        code = run()
        return code if isinstance(code, int) else 0
    except (HarnessError, RankLost) as error:
        _say(error_text(error), from_any=isinstance(error, RankLost))
        return error.exit_code
    except click.ClickException as error:
        text = io.StringIO()
        error.show(text)
        _say(text.getvalue(), nl=False)
        return USAGE
    except (click.Abort, KeyboardInterrupt):
        _say("interrupted")
        return INTERRUPTED
    except Exception as error:
        if isinstance(error, OSError) and (error.filename or error.errno == errno.ENOSPC):
            place = f": {printable(str(error.filename))}" if error.filename else ""
            _say(f"error: {error.strerror}{place}")
            return USAGE
        _say(traceback.format_exc(), nl=False, from_any=True)
        _say("this is a bug in the harness, not a mistake of yours", from_any=True)
        return BUG


def _say(text: str, *, nl: bool = True, from_any: bool = False) -> None:
    """On stderr; `from_any`: in whichever process it happened, as the first one may not know."""
    from harness.cli.say import say

    say(text, err=True, nl=nl, from_any=from_any)


def error_text(error: HarnessError | RankLost) -> str:
    """The text of an error; spec errors already state their place and kind.

    What follows in lines of its own is set in: a name with a line break is no other message.
    """
    from harness.errors import SpecError

    if isinstance(error, SpecError):
        return str(error)
    first, *others = str(error).splitlines() or [""]
    # Lines of a list are indented already.
    return "\n".join(
        [f"error: {first}", *(one if one[:2] == "  " else f"  {one}" for one in others)]
    )


@click.group(
    cls=LazyGroup,
    context_settings={"auto_envvar_prefix": "HARNESS", "help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="harness")
@click.pass_context
def main(context: click.Context) -> None:
    """From a task in YAML to a leaderboard of circuits.

    `harness run` with no argument runs the suite quickstart: it trains four models, finds their
    circuits with the suite's methods, and prints how faithful and how sparse they are. `harness
    help` lists the topics of the documentation.
    """
    if launched() > 1 and context.invoked_subcommand not in SHARED:
        raise HarnessError(
            f"harness {context.invoked_subcommand} is for one process: start it without torchrun; "
            f"{' and '.join(SHARED)} can share prompts between processes"
        )
