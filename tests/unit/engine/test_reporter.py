"""When Snakemake's report is ours, and where it may not be written."""

import sys
import types
from pathlib import Path

import pytest
from snakemake_interface_common.exceptions import WorkflowError

from snakemake_apptainer_freshness.engine import reporter

HTML = types.SimpleNamespace(name="html")
SETTINGS = types.SimpleNamespace(path=Path("audit.html"))


def created(monkeypatch, plugin, *arguments):
    """What Snakemake's own method is given, where the command line has these `arguments`."""
    monkeypatch.setattr(sys, "argv", ["snakemake", *arguments])
    return reporter.create(lambda *given, **more: (*given, more), plugin, SETTINGS, "globally", more=1)


def test_our_reporter_takes_the_place_of_snakemakes_own_where_it_was_asked_for(monkeypatch):
    asked = ("--report", "audit.html", "--reporter", "apptainer-freshness")
    plugin, settings, *rest = created(monkeypatch, HTML, *asked)

    assert plugin.name == "apptainer-freshness"
    assert settings.path == Path("audit.html")
    assert rest == ["globally", {"more": 1}]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--report", "audit.html"],
        ["--report", "x.html", "--reporter", "html"],
        ["--no-such-option", "--reporter"],
        ["--help"],
        ["--profile", "/nowhere"],
    ],
)
def test_otherwise_snakemakes_own_is_left_alone_in_silence(monkeypatch, capsys, arguments):
    assert created(monkeypatch, HTML, *arguments)[:2] == (HTML, SETTINGS)
    assert capsys.readouterr() == ("", "")


def test_another_reporter_is_left_alone(monkeypatch):
    other = types.SimpleNamespace(name="other")

    assert created(monkeypatch, other, "--reporter", "apptainer-freshness")[0] is other


def test_a_zip_is_refused_before_anything_is_read():
    with pytest.raises(WorkflowError, match=r"cannot write the audit to report\.zip"):
        reporter.render(Path("report.zip"))
