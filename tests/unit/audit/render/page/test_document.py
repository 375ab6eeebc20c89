"""The page as text: whole, escaped, and closed to everything but itself."""

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snakemake_apptainer_freshness.audit.difference import difference
from snakemake_apptainer_freshness.audit.render.page.document import counted, moment, render, sentence, size, visible
from snakemake_apptainer_freshness.audit.results import (
    Acknowledgement,
    ImageVulnerabilities,
    Replay,
    ScannedBy,
    Vulnerability,
    VulnerabilitySeverity,
)
from tests.support.audits import SCRIPT, WORKDIR, large, sample

PAGE = render(sample())
VOID = ("meta", "input", "br")


class Elements(HTMLParser):
    """Every element, and whether each was closed."""

    def __init__(self, text):
        super().__init__()
        self.found, self.open, self.crossed = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.crossed.append(tag)


def test_the_page_is_well_formed():
    elements = Elements(PAGE)

    assert elements.crossed == []
    assert elements.open == []


def test_nothing_in_the_page_is_loaded_from_anywhere():
    elements = Elements(PAGE).found

    assert {tag for tag, _ in elements}.isdisjoint({"link", "img", "iframe", "object", "embed", "base", "video"})
    assert not any({"src", "srcset", "action", "style", "onload"} & set(attrs) for _, attrs in elements)
    assert all(attrs["href"].startswith("#") for _, attrs in elements if "href" in attrs)
    assert not re.search(r"url\((?!#)|@import", PAGE)


@pytest.mark.parametrize(("text", "shown"), [("the file of a", "text"), ("report.txt changed", "text named")])
def test_a_finding_begins_with_a_capital_unless_it_begins_with_a_name(text, shown):
    finding = replace(sample().findings[0], text=text, subjects=("report.txt",))

    assert f'<p class="{shown}">{text}</p>' in render(replace(sample(), findings=(finding,)))
    assert ".findings .text:not(.named)::first-letter { text-transform: uppercase; }" in PAGE


@pytest.mark.parametrize("element", ["style", "script"])
def test_the_policy_allows_exactly_what_stands_in_the_page(element):
    policy = next(attrs["content"] for _, attrs in Elements(PAGE).found if "http-equiv" in attrs)
    (content,) = re.findall(rf"<{element}>(.*?)</{element}>", PAGE, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()

    assert f"{element}-src 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none';")


def test_every_output_stands_in_the_page_with_its_chain():
    for output in sample().outputs:
        for part in (output.digest, output.manifest, output.sif_sha256, output.run):
            assert part in PAGE


def test_what_could_not_be_looked_at_and_every_finding_is_told():
    text = re.sub(r"\s+", " ", PAGE)
    for told in (*sample().notes, *(finding.kind.replace("-", " ") for finding in sample().findings)):
        assert str(told).replace("'", "&#39;") in text


def test_markup_from_outside_is_text():
    assert SCRIPT not in PAGE
    assert SCRIPT.replace("<", "&lt;").replace(">", "&gt;") in PAGE
    assert "onerror=alert(2)&gt;" in PAGE
    assert "onerror=alert(4)&gt;" in PAGE
    assert ", as the last run checked" in PAGE


def test_what_cannot_be_seen_becomes_visible_and_the_page_can_be_written():
    assert "invoice\N{REPLACEMENT CHARACTER}gpj" in PAGE
    assert "two\\nlines\\ttab" in PAGE
    assert "\u202e" not in PAGE
    PAGE.encode()


@given(st.text(st.characters(categories=None), max_size=60))
def test_any_name_can_be_shown(name):
    shown = visible(name)

    assert shown.isprintable()
    assert visible(shown) == shown
    shown.encode()


def test_secrets_do_not_show():
    first, *others = sample().runs
    leaky = replace(first, command=("snakemake", "--config", "url=https://ada:hunter2@host/x?token=abc"))

    page = render(replace(sample(), runs=(leaky, *others)))

    assert "hunter2" not in page
    assert "token=[redacted]" in page


def test_an_empty_audit_says_that_there_is_nothing():
    empty = replace(sample(), runs=(), images=(), outputs=(), findings=(), edges=(), notes=(), replay=None)
    page = render(empty)

    assert Elements(page).crossed == []
    for text in ("Nothing was found", "There is no output", "No run left a record", "No run recorded an image"):
        assert text in page


@pytest.mark.parametrize(
    ("replay", "said"),
    [
        (Replay(possible=True, because="x"), "today: yes"),
        (Replay(possible=False, because="x"), "today: no<"),
        (Replay(possible=False, because="x", unreachable=True), "today: not known"),
    ],
)
def test_whether_it_could_be_run_again_is_said_in_one_word(replay, said):
    assert said in render(replace(sample(), replay=replay))


def test_the_reason_of_a_replay_is_begun_once():
    assert "because because" not in PAGE
    assert "today: no</strong>, because the digest of" in PAGE


def test_no_word_of_a_program_stands_for_one_of_a_language():
    text = " ".join(re.findall(r">([^<>]+)<", re.sub(r"<(style|script)>.*?</\1>", "", PAGE, flags=re.DOTALL)))

    for finding in sample().findings:
        assert "-" not in finding.kind or finding.kind not in text


def test_the_difference_of_two_runs_has_a_section_only_where_it_was_asked():
    audit = sample()
    assert "What differs between two runs" not in PAGE

    page = render(replace(audit, difference=difference(*audit.runs[:2])))

    assert Elements(page).crossed == []
    assert "What differs between two runs" in page
    assert '<a href="#run-0"><bdi>run 1 · 2 Mar 08:00</bdi></a> and' in page
    assert "Made by one of the runs alone" in page


def test_an_acknowledged_finding_stays_on_the_page_with_its_severity_and_counts_no_more():
    known = Acknowledgement(reason="<b>compared</b>", who="ada@site.org", until="2027-03-01")
    first, *others = sample().findings
    page = render(replace(sample(), findings=(replace(first, acknowledged=known), *others)))

    assert Elements(page).crossed == []
    assert "1 finding acknowledged" in page
    assert "Acknowledged by ada@site.org until 2027-03-01: &lt;b&gt;compared&lt;/b&gt;." in page
    assert first.text in page
    assert "5 errors</span>" in page


def test_an_image_that_no_job_ran_is_not_shown_as_one_that_ran():
    assert '<small class="jobs">no job</small>' not in PAGE
    assert '<small class="jobs">no job</small>' in render(large(4))


def test_several_work_directories_are_one_view():
    audit = sample()
    assert "Work directories" not in PAGE

    page = render(replace(audit, workdirs=(WORKDIR, "/data/<b>")))

    assert "Work directories" in page
    assert '<option value="/data/&lt;b&gt;">' in page


def test_numbers_are_written_for_people():
    assert (counted(1, "run"), counted(10_000, "run")) == ("1 run", "10,000 runs")
    assert (size(0), size(4096), size(3 * 2**40)) == ("0 B", "4.0 KiB", "3.0 TiB")
    assert moment("2026-03-02T08:00:01Z") == "2026-03-02 08:00"
    assert (sentence("it is so"), sentence("Why?"), sentence("")) == ("It is so.", "Why?", ".")


def found(identifier, severity):
    return Vulnerability(id=identifier, package=SCRIPT, version="1", fixed="", severity=severity, aliases=())


def scan(image, *vulnerabilities, **changes):
    values = {"digest": "sha256:" + "1" * 64, "scanner": "trivy", "joined_by": ScannedBy.DIGEST, "ignored": 0}
    values |= {"workdir": image.workdir, "reference": image.reference, "vulnerabilities": vulnerabilities, "outputs": 2}
    return ImageVulnerabilities(**values | changes)


def test_what_scanners_found_has_a_section_with_the_worst_image_first_and_each_leads_to_its_image():
    audit = sample()
    first, second, third = audit.images[:3]
    critical, low = found("CVE-1", VulnerabilitySeverity.CRITICAL), found("CVE-2", VulnerabilitySeverity.LOW)
    scans = (scan(first, low), scan(second, critical, low, joined_by=ScannedBy.NAME), scan(third, ignored=3))
    page = render(replace(audit, vulnerabilities=scans))
    part = page[page.index('<h2 id="vulnerabilities">') :].partition("</section>")[0]

    assert re.findall(r'<h3 class="reference"><a href="#(image-\d)">', part) == ["image-1", "image-0"]
    assert "Nothing that is not accepted was found in 1 image<" in part
    assert part.index("was found in 1 image") < part.index('<a href="#image-2">')
    assert re.findall(r"<strong>(\d)</strong> (\w+)", part) == [("1", "critical"), ("1", "low"), ("1", "low")]
    assert part.count("Joined by its name alone") == 1
    assert "3 accepted" in part
    assert '<a href="#vulnerabilities">Vulnerabilities <span class="n">3</span></a>' in page
    assert SCRIPT not in page
    assert Elements(page).crossed == []
    assert 'id="vulnerabilities"' not in PAGE
