"""Sizes, counts and times, as a person reads them."""

import pytest

from snakemake_apptainer_freshness.common.text import be, counted, duration, short, size, unicode


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (1024**4, "1.0 TiB"), (1024**6, "1024.0 PiB")],
)
def test_a_size(count, text):
    assert size(count) == text


def test_a_count():
    assert counted(1, "image") == "1 image"
    assert counted(2000, "image") == "2,000 images"
    assert counted(0, "entry", "entries") == "0 entries"
    assert (counted(["a", "b"], "run"), be(["a", "b"]), be(1)) == ("2 runs", "are", "is")


def test_the_beginning_of_a_digest():
    assert short("sha512:" + "ab" * 64) == "sha512:abababababab"


@pytest.mark.parametrize(("seconds", "text"), [(0.9, "0:00"), (67, "1:07"), (3727.5, "1:02:07")])
def test_a_time_that_passed(seconds, text):
    assert duration(seconds) == text


def test_a_name_that_is_not_unicode_is_replaced():
    assert unicode(b"a\xff".decode("utf-8", "surrogateescape")) == "a\N{REPLACEMENT CHARACTER}"
    assert unicode("\ud800") == "\N{REPLACEMENT CHARACTER}"
