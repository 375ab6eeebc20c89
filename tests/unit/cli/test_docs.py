"""docs/cli.md says what ``--help`` says."""

import re

import click
import pytest

from snakemake_apptainer_freshness import cli
from tests.support.cli_page import SECTIONS, TEXT

HERE = ("resolve", "lock", "status", "verify", "pull", "inspect", "audit", "doctor", "adopt", "gc", "bundle", "export")


def declared(name):
    """Every option of a command, or of the commands in it."""
    command = cli.program.get_command(click.Context(cli.program), name)
    commands = command.commands.values() if isinstance(command, click.Group) else [command]
    return [one for each in commands for one in each.params if isinstance(one, click.Option)]


def options(name):
    """Every option of a command, as it is typed; help is understood."""
    return {text for one in declared(name) for text in (*one.opts, *one.secondary_opts)}


def documented(name):
    """Every option in the table of a command's section; one that all have is documented for all together."""
    rows = re.findall(r"^\| (`--.*?) \|", SECTIONS[name], re.MULTILINE)
    return {"--offline"} | {text for row in rows for text in re.findall(r"`(--[\w-]+)`", row)}


@pytest.mark.parametrize("name", HERE)
def test_the_table_of_a_command_has_its_options_and_no_others(name):
    assert documented(name) == options(name)


@pytest.mark.parametrize("name", HERE)
def test_a_section_speaks_of_no_option_that_the_command_lacks(name):
    elsewhere = {option for other in cli.COMMANDS for option in options(other)}
    assert set(re.findall(r"`(--[\w-]+)", SECTIONS[name])) <= options(name) | elsewhere


@pytest.mark.parametrize("name", HERE)
def test_every_option_has_a_help_text(name):
    assert all(one.help for one in declared(name))


@pytest.mark.parametrize("name", HERE)
def test_the_keys_of_the_json_are_documented(name, place):
    if name in ("resolve", "inspect", "audit", "adopt", "bundle", "export", "lock"):
        return  # the keys of the lock, and sentences; a bundle has two commands, a lock its own test
    from tests.support import pins

    place.lock(pins.pin())
    place.fake.serve(pins.pin())
    offline = ["--offline"] if name == "status" else []
    document = place.run(name, "--json", *offline).json
    image = document["image"][0] if name == "verify" else {}
    for key in {*document, *image} - {"version", "lockfile", "prefix"}:
        assert f"`{key}`" in SECTIONS[name]


def test_the_table_of_exit_statuses_is_that_of_the_errors():
    from snakemake_apptainer_freshness import errors

    for kind in (errors.Finding, errors.UsageError, errors.SourceError):
        assert f"| {kind.exit_status} | " in TEXT
    assert f"| {cli.INTERRUPTED} | " in TEXT
