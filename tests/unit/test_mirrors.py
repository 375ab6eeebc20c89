"""The files that name mirrors, and which places they give an image."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snakemake_apptainer_freshness.errors import InvalidSettings
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.mirrors import PlaceKind, loads, places_of

TEXT = """
[[mirror]]
prefix = "quay.io"
places = ["docker://registry.example.org/quay/", "https://example.org/layout/", "all.tar"]

[[mirror]]
prefix = "quay.io/biocontainers"
places = ["/data/mirror"]

[[mirror]]
prefix = "https://example.org/tool.sif"
places = ["https://elsewhere.example/tool.sif"]

[[mirror]]
prefix = ""
places = ["anything"]
"""
MIRRORS = loads(TEXT, source="/etc/apptainer-freshness/mirrors.toml")


def places(reference):
    return [(str(place), rest) for place, rest in places_of(MIRRORS, parse(reference))]


def test_local_places_come_first_and_then_the_longest_prefix():
    assert places("docker://quay.io/biocontainers/samtools:1") == [
        ("/data/mirror", "samtools"),
        ("/etc/apptainer-freshness/all.tar", "biocontainers/samtools"),
        ("/etc/apptainer-freshness/anything", "quay.io/biocontainers/samtools"),
        ("docker://registry.example.org/quay", "biocontainers/samtools"),
        ("https://example.org/layout/", "biocontainers/samtools"),
    ]


def test_a_prefix_is_of_whole_components():
    assert ("/data/mirror", "") not in places("docker://quay.io/biocontainersx/samtools:1")
    assert places("docker://quay.iox/a:1") == [("/etc/apptainer-freshness/anything", "quay.iox/a")]


def test_a_web_address_is_named_with_its_scheme():
    assert ("https://elsewhere.example/tool.sif", "") in places("https://example.org/tool.sif")
    assert len(places("docker://example.org/tool.sif:1")) == 1


def test_a_short_name_is_meant_in_full():
    [mirror] = loads('[[mirror]]\nprefix = "docker.io/library"\nplaces = ["/x"]', source="m.toml")
    assert mirror.rest(parse("docker://alpine")) == "alpine"


def test_each_kind_of_place_is_told_apart():
    kinds = {str(place): place.kind for mirror in MIRRORS for place in mirror.places}
    assert kinds["docker://registry.example.org/quay"] is PlaceKind.REGISTRY
    assert kinds["https://example.org/layout/"] is PlaceKind.LAYOUT
    assert kinds["https://elsewhere.example/tool.sif"] is PlaceKind.FILE
    assert kinds["/etc/apptainer-freshness/all.tar"] is PlaceKind.BUNDLE
    assert kinds["/data/mirror"] is PlaceKind.FOLDER


def test_a_file_without_mirrors_names_none():
    assert loads("", source="m.toml") == ()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("mirror = 1", "must be a list of tables"),
        ("[[mirrors]]", "unknown key 'mirrors'"),
        ("x", "not valid TOML"),
        ("[[mirror]]\nprefix = 'a'", "mirror[1] lacks places"),
        ("[[mirror]]\nprefix = 1\nplaces = ['/x']", "prefix must be a text"),
        ("[[mirror]]\nprefix = 'docker://quay.io'\nplaces = ['/x']", "without docker://"),
        ("[[mirror]]\nprefix = 'a'\nplaces = []", "at least one place"),
        ("[[mirror]]\nprefix = 'a'\nplaces = '/x'", "mirror[1].places must be a list of texts"),
        ("[[mirror]]\nprefix = 'a'\nplaces = [1]", "must be a list of texts"),
        ("[[mirror]]\nprefix = 'a'\nplaces = ['http://x/y']", "a place is a path, docker://… or https://…"),
        ("[[mirror]]\nprefix = 'a'\nplaces = ['docker://x$(touch y)']", "docker://x"),
        ("[[mirror]]\nprefix = 'a'\nplaces = ['https://x/`y`']", "https://x"),
    ],
)
def test_what_is_wrong_is_named(text, problem):
    with pytest.raises(InvalidSettings, match=r"cannot use the mirrors in m\.toml") as caught:
        loads(text, source="m.toml")
    assert problem in caught.value.message
    assert caught.value.hint


@given(st.text(max_size=200))
def test_any_text_names_mirrors_or_is_refused(text):
    try:
        loads(text, source="m.toml")
    except InvalidSettings as error:
        assert error.hint  # noqa: PT017  any refusal is right, if it says what to do


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_place_of_any_prefix_is_one_or_refused(prefix, place):
    import tomli_w

    try:
        loads(tomli_w.dumps({"mirror": [{"prefix": prefix, "places": [place]}]}), source="m.toml")
    except InvalidSettings as error:
        assert error.hint  # noqa: PT017
