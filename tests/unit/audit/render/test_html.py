"""The page as a format: a file that is written whole, or not at all."""

import pytest

from snakemake_apptainer_freshness.audit.render import html
from snakemake_apptainer_freshness.errors import LocalIOError
from tests.support.audits import sample


def test_the_page_is_written_as_one_file(tmp_path):
    html.write(sample(), tmp_path / "audit.html", {})

    text = (tmp_path / "audit.html").read_text()
    assert text.startswith("<!doctype html>")
    assert text.endswith("</html>\n")
    assert len(list(tmp_path.iterdir())) == 1


def test_a_page_that_cannot_be_written_is_refused_before_it_is_made(tmp_path):
    with pytest.raises(LocalIOError, match="cannot write the page"):
        html.check(sample(), tmp_path / "no" / "audit.html", {})
