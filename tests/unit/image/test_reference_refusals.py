"""What no reference may be: each rule that a text breaks, and what to write instead."""

import pytest

from snakemake_apptainer_freshness.errors import InvalidReference
from snakemake_apptainer_freshness.image.grammar import MAX_LENGTH
from snakemake_apptainer_freshness.image.reference import parse

HEX = "0123456789abcdef" * 4
SHA256 = f"sha256:{HEX}"
SHA512 = f"sha512:{HEX}{HEX}"


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "an empty string"),
        ("docker://", "no image is named"),
        ("docker:ubuntu", "docker: must be followed by //"),
        ("docker:/ubuntu", "docker: must be followed by //"),
        ("Docker://ubuntu", "the scheme must be lower case"),
        ("DOCKER://ubuntu", "the scheme must be lower case"),
        ("dcoker://ubuntu", "dcoker: is not a source"),
        ("instance://x", "instance: is not a source"),
        ("ubuntu:24.04", "ubuntu: is not a source"),
        ("docker:///ubuntu", "a component of the name is empty"),
        ("docker://x//y", "a component of the name is empty"),
        ("docker://x/", "a component of the name is empty"),
        ("docker://quay.io/", "a component of the name is empty"),
        ("docker://:tag", "a component of the name is empty"),
        ("docker://https://quay.io/x", "https:// is not allowed inside docker://"),
        ("docker://docker://x", "docker:// is not allowed inside docker://"),
        ("docker://x?a=b", "a query"),
        ("docker://x#a", "a fragment"),
        ("docker:// x", r"white space \(U\+0020\)"),
        ("docker://x ", r"white space \(U\+0020\)"),
        (" docker://x", r"white space \(U\+0020\)"),
        ("docker://x\t", r"white space \(U\+0009\)"),
        ("docker://x\0", r"control character U\+0000"),
        ("docker://quay.io\\x", "a backslash"),
        ("docker://x:{version}", "{ is not allowed"),
        ("docker://Library/x/Y", "must be lower case"),
        ("docker://quay.io/Salmon", "must be lower case"),
        ("docker://Ubuntu", "must be lower case"),
        ("oras://Registry/x", "must be lower case"),
        ("docker://-x", "not a component"),
        ("docker://x-", "not a component"),
        ("docker://a___b", "not a component"),
        ("docker://a..b", "not a component"),
        ("docker://a._b", "not a component"),
        ("docker://_a", "not a component"),
        ("docker://quay.io/a$b", "not a component"),
        ("docker://x:", "'' is not a tag"),
        ("docker://x:.a", "is not a tag"),
        ("docker://x:-a", "is not a tag"),
        ("docker://y/x:a/b", "is not a tag"),
        ("docker://x:a/b", "'a' is not a port"),
        ("docker://x:a:b", "is not a tag"),
        ("docker://x:" + "a" * 129, "is not a tag"),
        (f"docker://{HEX}", "64 hex digits are an identifier"),
        ("docker://x@sha256:12", "sha256 needs 64 hex digits"),
        (f"docker://x@sha512:{HEX}", "sha512 needs 128 hex digits"),
        ("docker://x@sha384:" + "0" * 96, "the algorithm must be sha256 or sha512"),
        ("docker://x@sha256:" + "A" * 64, "lower-case hex"),
        ("docker://x@", "an @ must be followed by a digest"),
        ("docker://x@latest", "an @ must be followed by a digest"),
        (f"docker://x@{SHA256}@{SHA256}", "an @ must be followed by a digest"),
        ("docker://my_host.example/x", "not a host name"),
        ("docker://-h.example/x", "not a host name"),
        ("docker://h-.example/x", "not a host name"),
        ("docker://h..example/x", "not a host name"),
        ("docker://.example/x", "not a host name"),
        ("docker://example./x", "not a host name"),
        ("docker://:5000/x", "not a host name"),
        ("docker://" + "a" * 64 + ".example/x", "not a host name"),
        ("docker://h.example:/x", "'' is not a port"),
        ("docker://h.example:0/x", "'0' is not a port"),
        ("docker://h.example:65536/x", "'65536' is not a port"),
        ("docker://h.example:123456/x", "'123456' is not a port"),
        ("docker://h.example:80a/x", "'80a' is not a port"),
        ("docker://::1/x", "is not a port|not a host"),
        ("docker://[::1/x", "is not a host"),
        ("docker://[::1]x/y", "is not a host"),
        ("docker://[]:1/x", "not an IPv6 address"),
        ("docker://[1.2.3.4]/x", "not an IPv6 address"),
        ("docker://[::1%eth0]/x", "not an IPv6 address"),
        ("docker://[:::]/x", "not an IPv6 address"),
        ("docker://[::ffff:1.2.3.4]/x", "not an IPv6 address"),
        ("file:x.sif", "file: must be followed by //"),
        ("library:a/b/c", "library: must be followed by //"),
        ("library://a//c", "not a path of a library"),
        ("library://h.example/a/b/c/d", "not a path of a library"),
        ("library://a/b/c:", "is not a tag"),
        ("library://a/b/c:1,2", "is not a tag"),
        ("library://a/b/c:sha256.12", "sha256 needs 64 hex digits"),
        (f"library://a/b/c@{SHA256}", "a user name or password"),
        ("library://u@h.example/a/b/c", "a user name or password"),
        ("https://u:p@h.example/x", "a user name or password"),
        ("https://h.example/x;y", "not safe in a rule"),
        ("https://h.example/x#y", "not safe in a rule"),
        ("https:///x", "not a host name"),
        ("https://" + "a." * 126 + "ab/x", "not a host name"),
        ("docker-archive:", "no image is named"),
        ("file://", "no image is named"),
        ("./it's.sif", "not safe in a rule"),
        ("~root;x", "not safe in a rule"),
        ("-x.sif", "not safe in a rule"),
    ],
)
def test_what_breaks_a_rule_is_refused_by_its_name(text, rule):
    with pytest.raises(InvalidReference, match=rule):
        parse(text)


@pytest.mark.parametrize(
    "query",
    [
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=CANARY",
        "a=b&x-goog-signature=CANARY",
        "sv=2022&sig=CANARY",
        "Key-Pair-Id=1&Signature=CANARY",
        "private_token=CANARY",
        "api_key=CANARY",
        "X%2DAmz%2DSignature=CANARY",
    ],
)
def test_a_signed_address_is_refused_and_its_signature_not_shown(query):
    with pytest.raises(InvalidReference, match="which the lock would publish") as raised:
        parse(f"https://h.example/x.sif?{query}")

    assert "CANARY" not in str(raised.value)


@pytest.mark.parametrize("query", ["download=1", "versionId=3", "signed=no", "key=genome", "tokens"])
def test_an_address_with_an_ordinary_query_is_taken(query):
    assert parse(f"https://h.example/x.sif?{query}").path == f"/x.sif?{query}"


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("docker:ubuntu:1", "write docker://ubuntu:1"),
        ("docker:/quay.io/x", "write docker://quay.io/x"),
        ("Docker://quay.io/x", "write docker://quay.io/x"),
        ("docker://https://quay.io/x", "write docker://quay.io/x"),
        ("docker://quay.io/Salmon", "write 'salmon'"),
        ("docker://x@latest", "registry login"),
        ("foo:bar.sif", "./ in front"),
        ("docker://x:{v}", "wildcard"),
    ],
)
def test_a_refusal_says_what_to_write_instead(text, advice):
    with pytest.raises(InvalidReference) as caught:
        parse(text)
    assert advice in caught.value.hint


def test_a_name_may_have_255_characters_with_its_host_and_no_more():
    longest = "docker://h.example/" + "a" * (255 - len("h.example/"))
    assert len(parse(longest).name) == 255
    with pytest.raises(InvalidReference, match="at most 255"):
        parse(longest + "a")


def test_the_implied_host_and_library_count_towards_the_255_characters():
    room = 255 - len("docker.io/library/")
    assert len(parse("docker://" + "a" * room).name) == 255
    with pytest.raises(InvalidReference, match="at most 255"):
        parse("docker://" + "a" * (room + 1))


def test_the_longest_valid_reference_is_within_the_limit_of_length():
    reference = parse("docker://h.example/" + "a" * 245 + ":" + "t" * 128 + "@" + SHA512)
    assert len(str(reference)) < MAX_LENGTH


def test_a_longer_text_is_refused_before_it_is_looked_at():
    with pytest.raises(InvalidReference, match=f"at most {MAX_LENGTH} characters"):
        parse("docker://" + "a" * MAX_LENGTH)


def test_a_tag_without_a_scheme_is_refused_with_the_reference_that_was_meant():
    with pytest.raises(InvalidReference) as caught:
        parse("ubuntu:24.04")

    assert caught.value.hint == "did you mean docker://ubuntu:24.04?"
