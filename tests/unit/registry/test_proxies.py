import pytest

from snakemake_apptainer_freshness.errors import ConnectionFailed
from snakemake_apptainer_freshness.registry import proxies, urls

ENVIRON = {"HTTP_PROXY": "http://plain:1", "HTTPS_PROXY": "http://alice:p%40ss@secure:2"}


def find(url, **environ):
    return proxies.find(urls.parse(url).origin, {**ENVIRON, **environ})


def test_each_scheme_has_its_proxy():
    assert str(find("http://quay.io/")) == "http://plain:1"
    proxy = find("https://quay.io/")
    assert (str(proxy), proxy.username, proxy.password) == ("http://secure:2", "alice", "p@ss")
    assert "p@ss" not in repr(proxy)


def test_small_letters_count_where_capitals_are_missing():
    origin = urls.parse("https://quay.io/").origin
    assert str(proxies.find(origin, {"https_proxy": "proxy:3"})) == "http://proxy:3"


def test_there_is_no_proxy_without_a_setting():
    assert proxies.find(urls.parse("https://quay.io/").origin, {"ALL_PROXY": "http://all:1"}) is None


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "[::1]"])
def test_this_machine_is_never_reached_through_a_proxy(host):
    assert find(f"http://{host}:5000/") is None


def test_a_request_header_of_a_cgi_program_is_not_taken_for_a_proxy():
    assert find("http://quay.io/", REQUEST_METHOD="GET") is None


@pytest.mark.parametrize(
    ("entry", "exempt"),
    [
        ("quay.io", True),
        ("QUAY.IO", True),
        (".io", True),
        ("*.io", True),
        ("io", True),
        ("ay.io", False),
        ("cdn.quay.io", False),
        (".quay.io", False),
        ("quay.io:443", True),
        ("quay.io:80", False),
        ("*", True),
        ("other,  quay.io", True),
        ("10.0.0.0/8", False),
        ("", False),
        ("/", False),
    ],
)
def test_no_proxy_lists_names(entry, exempt):
    assert (find("https://quay.io/", NO_PROXY=entry) is None) is exempt


@pytest.mark.parametrize(
    ("entry", "exempt"),
    [("10.1.2.3", True), ("10.0.0.0/8", True), ("11.0.0.0/8", False), ("10.1.2.3:443", True), ("10.1.2.4", False)],
)
def test_no_proxy_lists_addresses(entry, exempt):
    assert (find("https://10.1.2.3/", no_proxy=entry) is None) is exempt


@pytest.mark.parametrize("text", ["socks5://a:secret@b:1", "http://", "http://a:x", "http://:1", "a b"])
def test_a_proxy_that_cannot_be_used_is_named_by_its_variable(text):
    with pytest.raises(ConnectionFailed, match="HTTPS_PROXY") as error:
        find("https://quay.io/", HTTPS_PROXY=text)
    assert "secret" not in str(error.value)
