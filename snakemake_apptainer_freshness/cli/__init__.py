"""The command line, ``apptainer-freshness``.

One module a command; a command's module is imported when it is called, and imports what it needs when it runs.
Exit status: 0 nothing to report, 1 findings, 2 wrong use or bad input, 3 a registry or file could not be reached, 130
interrupted. An error is one clear message on standard error, never a traceback.
"""

import importlib
import os
import sys
from collections.abc import Sequence
from inspect import cleandoc
from typing import Final, NoReturn

import click

from snakemake_apptainer_freshness.errors import FreshnessError

COMMANDS: Final = {
    "resolve": "Ask what references point at now.",
    "lock": "Make or complete the lock of a workflow, without running it.",
    "status": "Show what lock, registry and disk say of each image.",
    "verify": "Check the image files on this disk against their digests.",
    "pull": "Fetch the images that the lock names.",
    "inspect": "Show what one image file is, and what is proven.",
    "audit": "Show which image made each output, and what is proven.",
    "export": "Write the pinned references for other tools.",
    "adopt": "Prove which images made old outputs, so that they are kept.",
    "doctor": "Check programs, folders, logins and caches.",
    "gc": "Delete image files that no lock needs any more.",
    "bundle": "Carry a lock and its images to a machine without a registry.",
}
"""Every command, and its ``short_help``: for a list of all of them, none is imported."""
INTERRUPTED: Final = 130
_STATUSES: Final = "\n\nExit status: "
"""Begins the last paragraph of what a command says of itself."""


class _Commands(click.Group):
    """Finds a command in the module of its name."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"{__name__}.{cmd_name}").command
        return ending_with_statuses(allowing_offline(command))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([*COMMANDS.items()])


def allowing_offline(command: click.Command) -> click.Command:
    """Give `command`, and those in it, the option ``--offline``, unless it has one of its own."""
    for inner in command.commands.values() if isinstance(command, click.Group) else ():
        allowing_offline(inner)
    if not isinstance(command, click.Group) and not any(param.name == "offline" for param in command.params):
        text = "Ask no registry and fetch nothing."
        command.params.append(
            click.Option(["--offline"], is_flag=True, expose_value=False, callback=_go_offline, help=text)
        )
    return command


def _go_offline(context: click.Context, _option: click.Parameter, is_wanted: bool) -> None:  # noqa: FBT001  click's
    """Forbid the network to this process, and to the programs that it starts."""
    if not is_wanted:
        return
    from snakemake_apptainer_freshness.common.environment import OFFLINE

    before = os.environ.get(OFFLINE)
    os.environ[OFFLINE] = "1"

    def restore() -> None:
        os.environ.pop(OFFLINE)
        if before is not None:
            os.environ[OFFLINE] = before

    context.find_root().call_on_close(restore)


def ending_with_statuses(command: click.Command) -> click.Command:
    """Let the help of `command`, and of those in it, end with its exit statuses, below its options."""
    text, mark, statuses = cleandoc(command.help or "").partition(_STATUSES)
    if mark:
        command.help, command.epilog = text, mark.strip() + " " + statuses
    for inner in command.commands.values() if isinstance(command, click.Group) else ():
        ending_with_statuses(inner)
    return command


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=(
        "Exit status: 0 nothing to report, 1 findings, 2 wrong use or bad input, 3 a registry or file could not be "
        "reached, 130 interrupted."
    ),
)
@click.version_option(
    package_name="snakemake-apptainer-freshness", prog_name="apptainer-freshness", message="%(prog)s %(version)s"
)
def program() -> None:
    """Pin container tags to digests, and prove that the image that runs is the one that was named."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line, and end the process with its status."""
    status = run(arguments)
    try:
        sys.stdout.flush()
    except (OSError, ValueError):  # the reader of a pipe is gone: the interpreter would fail when it flushes once more
        sys.stdout = None
    sys.exit(status)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    try:
        status = program.main(arguments, prog_name="apptainer-freshness", standalone_mode=False)
    except FreshnessError as error:
        print_error(error)
        return error.exit_status
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except BrokenPipeError:  # the program that read our output has ended, as ``head`` does
        sys.stderr.close()
        return 0
    return status if isinstance(status, int) else 0


def print_error(error: FreshnessError) -> None:
    """Show `error` to a person: what is wrong, and below it what can be done."""
    click.echo(f"error: {error.message}", err=True)
    if error.hint:
        click.echo(f"       {error.hint}", err=True)
