import pytest

from snakemake_apptainer_freshness.errors import PolicyRefused
from snakemake_apptainer_freshness.registry import urls
from snakemake_apptainer_freshness.registry.urls import Origin


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("https://quay.io/v2/x?a=b", "https://quay.io/v2/x?a=b"),
        ("HTTPS://Quay.IO", "https://quay.io/"),
        ("https://quay.io:443/", "https://quay.io/"),
        ("https://quay.io?a", "https://quay.io/?a"),
        ("http://localhost:5000/a#fragment", "http://localhost:5000/a"),
        ("https://[::1]:5000/", "https://[::1]:5000/"),
        ("https://[0:0::1]/", "https://[::1]/"),
        ("https://192.0.2.1/", "https://192.0.2.1/"),
    ],
)
def test_plain_urls_are_taken_apart_and_put_together(text, normal):
    assert str(urls.parse(text)) == normal


@pytest.mark.parametrize(
    "text",
    [
        "",
        "quay.io",
        "//quay.io/",
        "ftp://quay.io/",
        "file:///etc/passwd",
        "https://",
        "https:///x",
        "https://user@quay.io/",
        "https://user:secret@quay.io/",
        "https://quay.io\\@evil.example/",
        "https://quay.io/a\\b",
        "https://quay.io /",
        "https://quay.io/\n",
        "https://quay.io/\x00",
        "https://quäy.io/",
        "https://quay.io:0/",
        "https://quay.io:99999/",
        "https://quay.io:/",
        "https://quay%2eio/",
        "https://[::1/",
        "https://[::g]/",
        "https://[fe80::1%25eth0]/",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://127.1/",
        "https://010.0.0.1/",
        "https://a..b/",
        "https://-a/",
        "https://" + "a" * 300 + "/",
        "https://quay.io/" + "a" * 9000,
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(text):
    with pytest.raises(PolicyRefused):
        urls.parse(text)


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/v2/other", "https://quay.io/v2/other"),
        ("//cdn.example/x", "https://cdn.example/x"),
        ("https://cdn.example/x?sig=1", "https://cdn.example/x?sig=1"),
    ],
)
def test_locations_are_joined(location, target):
    assert str(urls.join(urls.parse("https://quay.io/v2/x"), location)) == target


@pytest.mark.parametrize("location", ["x", "../x", "?a", "javascript:alert(1)"])
def test_other_relative_locations_are_refused(location):
    with pytest.raises(PolicyRefused):
        urls.join(urls.parse("https://quay.io/v2/x"), location)


def test_the_query_stays_out_of_messages():
    assert urls.parse("https://quay.io/a?token=secret").without_query() == "https://quay.io/a"


def test_an_origin_says_its_port_only_where_it_is_not_the_scheme_s_own():
    assert Origin(scheme="https", host="::1", port=443).netloc == "[::1]"
    assert Origin(scheme="http", host="quay.io", port=443).netloc == "quay.io:443"
