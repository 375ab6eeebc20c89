"""The page of an audit in a real browser: read with eyes, keyboard, screen reader and printer, and by an attacker."""

import re
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise

import pytest
from playwright.sync_api import expect

from snakemake_apptainer_freshness.audit.render.page.document import render
from tests.support.audits import QUOTED, SALMON, SCRIPT, digest, large, sample
from tests.support.browser import chromium, opened

CONTRAST = """() => {
  const channel = (value) => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const numbers = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = (rgb) => 0.2126 * channel(rgb[0]) + 0.7152 * channel(rgb[1]) + 0.0722 * channel(rgb[2]);
  const behind = (element) => {
    for (; element; element = element.parentElement) {
      const rgb = numbers(getComputedStyle(element).backgroundColor);
      if (rgb.length === 3 || rgb[3] === 1) return rgb;
    }
    return [255, 255, 255];
  };
  const faint = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || element.closest("svg, .skip, script, style") || !element.checkVisibility()) continue;
    const [one, other] = [light(numbers(getComputedStyle(element).color)), light(behind(element))];
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (ratio < 4.5) faint.push(`${element.className} ${ratio.toFixed(2)} ${element.textContent.slice(0, 30)}`);
  }
  return faint;
}"""
STRUCTURE = """() => {
  const all = (query) => [...document.querySelectorAll(query)];
  const told = (picture, part) => picture.querySelector(`:scope > ${part}`)?.textContent;
  const ids = all("[id]").map((one) => one.id);
  return {
    headings: all("h1, h2, h3, h4, h5, h6").map((one) => Number(one.localName[1])),
    twice: ids.filter((id, place) => ids.indexOf(id) !== place),
    nowhere: all("[href]").map((one) => one.getAttribute("href")).filter((to) => !ids.includes(to.slice(1))),
    unscoped: all("th:not([scope])").length,
    headless: all("table").filter((one) => !one.querySelector("thead th[scope=col]")).length,
    untold: all("svg[role=img]").filter((one) => !told(one, "title") || !told(one, "desc")).length,
    silent: all("svg:not([role=img])").filter((one) => !one.closest("[aria-hidden=true]")).length,
    unnamed: all("section, nav, [role=region], article").filter((one) => {
      const by = one.getAttribute("aria-labelledby");
      return !(by ? document.getElementById(by)?.textContent : one.getAttribute("aria-label"));
    }).length,
    handlers: all("*").flatMap((one) => one.getAttributeNames()).filter((name) => /^(on|style$)/.test(name)).length,
  };
}"""


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The pages, each made once."""
    folder = tmp_path_factory.mktemp("pages")
    made = {}
    for name, audit in (("sample", sample()), ("large", large())):
        made[name] = folder / f"{name}.html"
        made[name].write_text(render(audit), encoding="utf-8")
    return made


@pytest.fixture
def visit(browser, files):
    """Opens a page; it has to keep to itself, and to be silent."""

    @contextmanager
    def visiting(name="sample", **context):
        with opened(browser, files[name], **context) as watched:
            yield watched.page
            assert watched.requests == []
            assert watched.problems == []

    return visiting


def rows(page):
    """The paths of the outputs that are shown, folded or not."""
    return page.locator("#outputs ~ details:not([hidden]) tbody tr:not([hidden]) > th > bdi").all_text_contents()


def shown(page):
    return page.locator("#shown")


def test_the_page_says_the_answer_and_every_part_has_its_place(visit):
    with visit() as page:
        heading = page.get_by_role("heading", level=1).text_content()
        assert heading == "6 errors 7 of 14 outputs proven, 1 without a container"
        sections = page.get_by_role("heading", level=2).all_text_contents()
        assert sections == [
            "Findings",
            "What could not be looked at",
            "Images and their three witnesses",
            "Rules and the images they ran in",
            "Runs",
            "Outputs and their chains",
        ]
        assert len(page.locator(".findings > li").all()) == len(sample().findings)
        assert sorted(rows(page)) == sorted(page_name(output.path) for output in sample().outputs)


def page_name(path):
    """How the page shows a name with characters that cannot be seen."""
    return re.sub(r"[\ud800-\udfff\u202e]", "\N{REPLACEMENT CHARACTER}", path).replace("\n", "\\n").replace("\t", "\\t")


def test_a_screen_reader_finds_its_way(visit):
    with visit() as page:
        found = page.evaluate(STRUCTURE)
        assert found.pop("headings")[0] == 1
        assert found == {
            "twice": [], "nowhere": [], "unscoped": 0, "headless": 0, "untold": 0, "silent": 0, "unnamed": 0,
            "handlers": 0,
        }  # fmt: skip
        steps = page.evaluate(STRUCTURE)["headings"]
        assert all(after - before <= 1 for before, after in pairwise(steps))
        for landmark in ("banner", "navigation", "main", "search", "contentinfo"):
            assert page.get_by_role(landmark).count() == 1
        expect(page.get_by_role("status")).to_have_text("Showing 14 of 14 outputs")


def test_hostile_names_are_shown_and_do_nothing(visit):
    with visit() as page:
        assert {SCRIPT, QUOTED} <= set(rows(page))
        assert page.locator("main script, main img, main b:has-text('bold')").count() == 0
        assert "\u202e" not in page.content()
        page.locator("summary").evaluate_all("all => all.forEach((one) => one.click())")


def test_even_a_script_that_got_in_could_reach_nobody(browser, files):
    with opened(browser, files["sample"]) as watched:
        watched.page.evaluate(
            "document.body.append(Object.assign(document.createElement('script'), {text: 'boom = 1'}))"
        )
        watched.page.evaluate("document.body.append(Object.assign(new Image(), {src: 'https://evil.test/i'}))")
        asked = watched.page.evaluate("fetch('https://evil.test/').catch((error) => error.name)")

        assert asked == "TypeError"
        assert watched.page.evaluate("typeof boom") == "undefined"
        assert watched.requests == []
        assert len([text for text in watched.problems if "Content Security Policy" in text]) >= 3


def test_a_search_finds_paths_and_digests_and_says_how_many(visit):
    with visit() as page:
        find = page.get_by_role("searchbox", name="Find")
        find.fill("QUANTS/")
        expect(shown(page)).to_have_text("Showing 4 of 14 outputs")
        assert sorted(rows(page)) == ["quants/a.sf", "quants/b.sf", "quants/c.sf", "quants/d.sf"]
        find.fill(digest("salmon new"))
        expect(shown(page)).to_have_text("Showing 1 of 14 outputs")
        assert rows(page) == ["quants/d.sf"]
        find.fill("nothing like it")
        expect(shown(page)).to_have_text("Showing 0 of 14 outputs")
        page.get_by_role("combobox", name="Rule").select_option("quantify")
        find.press("Escape")
        expect(shown(page)).to_have_text("Showing 14 of 14 outputs")


def test_verdicts_and_rules_can_be_chosen_with_the_keyboard_alone(visit):
    with visit() as page:
        page.get_by_role("searchbox").focus()
        page.keyboard.press("Tab")
        page.keyboard.press("q")
        expect(shown(page)).to_have_text("Showing 4 of 14 outputs")
        page.get_by_role("checkbox", name=re.compile("^proven")).focus()
        page.keyboard.press("Space")
        expect(shown(page)).to_have_text("Showing 2 of 14 outputs")
        assert rows(page) == ["quants/a.sf", "quants/b.sf"]
        page.get_by_role("button", name="Clear").press("Enter")
        expect(shown(page)).to_have_text("Showing 14 of 14 outputs")


def test_the_keyboard_skips_to_the_findings_and_folds_a_chain(visit):
    with visit() as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the findings"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        chain = page.locator("details.chain").first
        assert chain.evaluate("one => one.open")
        chain.locator("> summary").press("Enter")
        assert not chain.evaluate("one => one.open")
        assert page.locator(":focus").evaluate("one => getComputedStyle(one).outlineStyle") == "solid"


def test_a_finding_leads_to_its_output_though_it_was_folded_and_filtered_out(visit):
    with visit() as page:
        page.get_by_role("button", name="Fold all", exact=True).click()
        page.get_by_role("searchbox").fill("nothing like it")
        expect(shown(page)).to_have_text("Showing 0 of 14 outputs")
        page.locator(".findings a", has_text="plots/summary.pdf").click()
        expect(page.locator("tr:target")).to_be_in_viewport()
        assert "plots/summary.pdf" in page.locator("tr:target").text_content()


def test_the_timeline_shows_when_the_tag_and_the_lock_moved_and_what_ran(visit):
    with visit() as page:
        lanes = page.locator("article.image", has_text=SALMON).locator("table.lanes")
        assert lanes.locator("td.moved").count() == 2
        assert lanes.locator(".band b").all_text_contents() == ["A", "B", "A", "B", "?", "A", "B"]
        assert lanes.locator(".mark").all_text_contents() == ["bound", "verified", "verified"]
        assert lanes.locator("thead th").all_text_contents()[1].split() == ["run", "2", "·", "3", "Mar", "08:00"]


def test_the_timeline_fills_the_width_that_there_is(visit):
    with visit(viewport={"width": 1400, "height": 900}) as page:
        card = page.locator("article.image").first.bounding_box()["width"]
        assert page.locator("table.lanes").first.bounding_box()["width"] > 0.9 * card


def test_a_timeline_that_is_cut_says_that_more_follows_and_keeps_its_first_column(visit):
    with visit(viewport={"width": 390, "height": 800}) as page:
        figure = page.locator("article.image", has_text=SALMON).locator("figure.timeline")
        expect(figure.locator(".follows")).to_be_visible()
        name = figure.get_by_role("rowheader", name="Lock")
        before = name.bounding_box()["x"]
        figure.locator(".scroll").evaluate("one => one.scrollLeft = one.scrollWidth")
        expect(figure.locator(".follows")).to_be_hidden()
        assert abs(name.bounding_box()["x"] - before) < 1


def test_sixty_images_that_never_changed_fit_on_two_screens(browser, tmp_path):
    audit = large(4)
    images = [replace(audit.images[0], reference=f"docker://quay.io/team/tool{number}:1") for number in range(60)]
    file = tmp_path / "many.html"
    file.write_text(render(replace(audit, images=tuple(images))), encoding="utf-8")

    with opened(browser, file, viewport={"width": 1400, "height": 900}) as watched:
        lines = watched.page.locator("details.image")
        assert lines.count() == 60
        first, last = lines.first.bounding_box(), lines.last.bounding_box()
        assert last["y"] + last["height"] - first["y"] < 2 * 900


def test_an_affected_output_says_through_what(visit):
    with visit() as page:
        chain = page.locator("details.chain", has_text="1 affected")
        chain.locator("> summary").click()
        chain.locator("small.affected a", has_text="trimmed/a.fq").click()
        expect(page.locator("tr:target")).to_be_in_viewport()


def test_on_paper_nothing_is_folded_shortened_or_in_the_way(visit):
    with visit("sample") as page:
        page.get_by_role("button", name="Fold all", exact=True).click()
        first = page.locator("details.chain tbody tr").first
        expect(first).not_to_be_visible()
        page.emulate_media(media="print")
        expect(first).to_be_visible()
        expect(page.get_by_role("navigation")).not_to_be_visible()
        short = "all => all.filter((one) => one.scrollWidth > one.clientWidth + 1 && one.clientWidth).length"
        assert page.locator("code.d").evaluate_all(short) == 0
        assert page.pdf(format="A4").startswith(b"%PDF")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_enough_contrast(visit, scheme):
    with visit(color_scheme=scheme) as page:
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (background == "rgb(20, 23, 26)") is (scheme == "dark")
        assert page.evaluate(CONTRAST) == []


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_the_page_fits_the_screen(visit, width):
    with visit(viewport={"width": width, "height": 800}) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        heading = page.get_by_role("heading", level=1).bounding_box()
        assert heading["x"] >= 0
        assert heading["x"] + heading["width"] <= width


def test_without_script_everything_can_be_read_and_unfolded(visit):
    with visit(java_script_enabled=False) as page:
        expect(page.locator("#filter")).not_to_be_visible()
        chain = page.locator("details.chain").first
        expect(chain.locator("tbody tr").first).to_be_visible()
        chain.locator("> summary").click()
        expect(chain.locator("tbody tr").first).not_to_be_visible()
        assert len(rows(page)) == 14


def test_ten_thousand_outputs_can_be_searched(visit):
    with visit("large") as page:
        expect(shown(page)).to_have_text("Showing 10,000 of 10,000 outputs")
        page.get_by_role("searchbox").fill("sample001234/part2")
        expect(shown(page)).to_have_text("Showing 1 of 10,000 outputs")
        assert rows(page) == ["results/sample001234/part2.tsv"]
        expect(page.locator("details.chain:not([hidden]) tbody tr:not([hidden])")).to_be_visible()
        page.get_by_role("button", name="Clear").click()
        expect(shown(page)).to_have_text("Showing 10,000 of 10,000 outputs")
