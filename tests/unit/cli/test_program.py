"""The program itself: its list of commands, which costs no more than it must."""

import os
import re
import subprocess
import sys
from importlib.metadata import version

import click
import pytest

from snakemake_apptainer_freshness import cli
from snakemake_apptainer_freshness.common.environment import OFFLINE


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_the_list_says_of_a_command_what_the_command_says_of_itself(name):
    command = cli.program.get_command(click.Context(cli.program), name)

    assert command.name == name
    assert command.short_help == cli.COMMANDS[name]


def test_the_list_of_commands_imports_none_of_them():
    script = (
        "import sys; from snakemake_apptainer_freshness import cli; status = cli.run(['--help'])\n"
        "print(status, *(name for name in sys.modules if name.startswith('snakemake')), file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert "\n  lock " in result.stdout
    assert result.stderr.split() == [
        "0",
        "snakemake_apptainer_freshness",
        "snakemake_apptainer_freshness.errors",
        "snakemake_apptainer_freshness.cli",
    ]


def every_command():
    for name in cli.COMMANDS:
        command = cli.program.get_command(click.Context(cli.program), name)
        yield (name,)
        yield from ((name, inner) for inner in getattr(command, "commands", ()))


@pytest.mark.parametrize("command", [(), *every_command()], ids=" ".join)
def test_every_help_ends_with_its_exit_statuses(command, capsys):
    assert cli.run([*command, "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())

    assert text.count("Exit status: 0 ") == 1
    assert "--help" not in text.partition("Exit status: ")[2]
    assert re.search(r"[,;] 2 (wrong|where)", text)


def test_the_version_is_the_installed_one(capsys):
    assert cli.run(["--version"]) == 0
    assert capsys.readouterr().out == f"apptainer-freshness {version('snakemake-apptainer-freshness')}\n"


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_verb_can_be_told_to_use_no_network(name):
    command = cli.program.get_command(click.Context(cli.program), name)
    verbs = command.commands.values() if isinstance(command, click.Group) else [command]

    for verb in verbs:
        assert [one.name for one in verb.params].count("offline") == 1


def test_a_verb_that_has_to_ask_says_that_it_may_not_and_forgets_it_afterwards(monkeypatch, capsys):
    monkeypatch.delenv(OFFLINE, raising=False)

    assert cli.run(["resolve", "--offline", "docker://quay.io/a/b:1"]) == 3
    assert "no registry is asked, since no network is wanted" in capsys.readouterr().err
    assert OFFLINE not in os.environ
