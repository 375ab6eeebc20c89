"""The program itself: its list of commands, which costs no more than it must."""

import subprocess
import sys

import click
import pytest

from snakemake_apptainer_freshness import cli


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
