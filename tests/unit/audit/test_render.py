"""The formats of an audit: what each module of ``audit/render/`` has, so that the command line can offer it."""

import inspect
import subprocess
import sys
from pathlib import Path

import click
import pytest

from snakemake_apptainer_freshness import cli
from snakemake_apptainer_freshness.audit import render
from snakemake_apptainer_freshness.audit.render import Format, FormatOption, check_file, formats, write_lines
from snakemake_apptainer_freshness.errors import LocalIOError

FORMATS = formats()
TESTS = Path(__file__).parent / "render"


def lacks(module):
    """What `module` lacks of a format."""
    found = []
    if not isinstance(getattr(module, "OPTION", None), FormatOption):
        found.append("OPTION")
    more = getattr(module, "MORE", None)
    if not isinstance(more, tuple) or not all(isinstance(option, FormatOption) and option.metavar for option in more):
        found.append("MORE")
    for name in ("check", "write"):
        wanted = list(inspect.signature(getattr(Format, name)).parameters)[1:]
        function = getattr(module, name, None)
        if not inspect.isfunction(function) or list(inspect.signature(function).parameters) != wanted:
            found.append(name)
    return found


def test_formats_are_found_by_the_names_of_their_modules():
    assert list(FORMATS) == sorted(path.stem for path in Path(render.__file__).parent.glob("[!_]*.py"))


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_has_all_that_the_command_line_asks_of_it(name):
    assert lacks(FORMATS[name]) == []


def test_the_test_of_formats_sees_a_module_that_is_none():
    assert lacks(inspect) == ["OPTION", "MORE", "check", "write"]


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_has_a_test_of_its_name(name):
    assert (TESTS / f"test_{name}.py").is_file()


def test_the_command_line_has_the_options_of_every_format_and_each_once():
    command = cli.program.get_command(click.Context(cli.program), "audit")
    offered = [flag for one in command.params for flag in one.opts]
    wanted = [option.flag for form in FORMATS.values() for option in (form.OPTION, *form.MORE)]

    assert {flag: offered.count(flag) for flag in wanted} == dict.fromkeys(wanted, 1)


def test_finding_the_formats_loads_no_template_engine_and_no_library():
    code = (
        "import sys; from snakemake_apptainer_freshness.audit.render import formats; formats();"
        "print({'jinja2', 'rocrate', 'httpx', 'rich'} & set(sys.modules))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert answer.stdout == "set()\n"


@pytest.mark.parametrize(("name", "words"), [("folder", "it is a folder"), ("no/file", "there is no folder")])
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_made(tmp_path, name, words):
    (tmp_path / "folder").mkdir()
    with pytest.raises(LocalIOError, match=words):
        check_file(tmp_path / name, "page")


def test_lines_go_to_a_file_or_to_standard_output(tmp_path, capsys):
    write_lines(["a", "b"], tmp_path / "file", "list")
    write_lines(["a", "b"], None, "list")

    assert (tmp_path / "file").read_text() == capsys.readouterr().out == "a\nb\n"
