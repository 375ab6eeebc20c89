"""What a person at a terminal sees of a table, whatever its width."""

import pytest

from snakemake_apptainer_freshness.cli import output

PINNED = f"docker://quay.io/biocontainers/salmon@sha256:{'a' * 64}"
ROWS = [("moved", "docker://quay.io/biocontainers/salmon:1.10", f"it points at\n{PINNED}")]


@pytest.fixture
def at_width(monkeypatch, capsys):
    """Gives what a terminal of a width shows of `ROWS`."""
    monkeypatch.setattr(output, "at_terminal", lambda stream: True)  # noqa: ARG005
    monkeypatch.setenv("NO_COLOR", "1")

    def show(width):
        monkeypatch.setenv("COLUMNS", str(width))
        output.table(("what", "image", "note"), ROWS)
        return capsys.readouterr().out

    return show


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_no_digest_and_no_reference_is_broken_in_the_middle(at_width, width):
    shown = at_width(width)

    assert PINNED in shown
    assert "docker://quay.io/biocontainers/salmon:1.10" in shown


def test_a_wide_terminal_has_a_table_and_a_narrow_one_a_line_for_each_cell(at_width):
    assert at_width(200).startswith("what ")
    assert at_width(80).splitlines() == [
        "moved",
        "  docker://quay.io/biocontainers/salmon:1.10",
        "  it points at",
        f"  {PINNED}",
    ]
