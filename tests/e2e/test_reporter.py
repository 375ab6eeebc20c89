"""``snakemake --report audit.html --reporter apptainer-freshness``: the page of an audit by way of Snakemake."""

import html
import re

from tests.support.workflow import READS_MESSAGE

OURS = ("--reporter", "apptainer-freshness")


def answer(page):
    return html.unescape(re.search(r'<meta name="description" content="(.*?)">', page)[1])


def test_the_report_is_the_page_of_the_audit(workspace, repository):
    image = repository()
    digest = image.push("hello")
    workspace.write("Snakefile", READS_MESSAGE.format(image=image.reference))
    workspace.snakemake(flag="lock")

    workspace.write("profile/config.yaml", "reporter: apptainer-freshness\n")
    told = workspace.snakemake("--report", "audit.html", "--profile", "profile")
    page = workspace.read("audit.html")

    assert f"apptainer-freshness: {answer(page)}" in told.ours
    assert "message.txt" in page
    assert digest in page

    workspace.snakemake(*OURS, "--report-apptainer-freshness-path", "by-path.html")
    assert answer(workspace.read("by-path.html")) == answer(page)


def test_without_a_record_the_report_is_one_clear_error_and_snakemakes_own_is_left_alone(workspace):
    workspace.write("Snakefile", 'rule a:\n    output: "a"\n    shell: "touch a"\n')

    told = workspace.snakemake("--report", "x.html", *OURS, fails=True).output
    assert "no run was recorded in" in told
    assert "Traceback" not in told
    assert not workspace.exists("x.html")

    workspace.snakemake("--report", "own.html")
    assert "Audit of container images" not in workspace.read("own.html")
