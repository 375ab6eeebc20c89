import pytest

from snakemake_apptainer_freshness.errors import InvalidReference
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.grammar import MAX_LENGTH
from snakemake_apptainer_freshness.image.reference import Reference, docker_meant, is_shell_safe, parse
from snakemake_apptainer_freshness.image.scheme import Scheme

HEX = "0123456789abcdef" * 4
SHA256 = f"sha256:{HEX}"
SHA512 = f"sha512:{HEX}{HEX}"
DIGEST = Digest.parse(SHA256)


@pytest.mark.parametrize(
    ("text", "host", "repository", "tag"),
    [
        # what is implied
        ("docker://ubuntu", "docker.io", "library/ubuntu", "latest"),
        ("docker://ubuntu:24.04", "docker.io", "library/ubuntu", "24.04"),
        ("docker://biocontainers/salmon", "docker.io", "biocontainers/salmon", "latest"),
        ("docker://docker.io/ubuntu", "docker.io", "library/ubuntu", "latest"),
        ("docker://docker.io/a/b:c", "docker.io", "a/b", "c"),
        ("docker://index.docker.io/ubuntu", "docker.io", "library/ubuntu", "latest"),
        ("docker://index.docker.io/a/b", "docker.io", "a/b", "latest"),
        ("docker://quay.io/x", "quay.io", "x", "latest"),
        # what makes a host
        ("docker://localhost/x", "localhost", "x", "latest"),
        ("docker://localhost", "docker.io", "library/localhost", "latest"),
        ("docker://quay.io", "docker.io", "library/quay.io", "latest"),
        ("docker://localhost:5000/a/b/c:d", "localhost:5000", "a/b/c", "d"),
        ("docker://name:5000", "docker.io", "library/name", "5000"),
        ("docker://registry:5000/x", "registry:5000", "x", "latest"),
        ("docker://127.0.0.1:5000/x", "127.0.0.1:5000", "x", "latest"),
        ("docker://[::1]:5000/x:y", "[::1]:5000", "x", "y"),
        ("docker://[2001:DB8::1]/x", "[2001:DB8::1]", "x", "latest"),
        ("docker://QUAY.io/x", "QUAY.io", "x", "latest"),
        ("docker://Registry/x", "Registry", "x", "latest"),
        ("docker://xn--n3h.example/x", "xn--n3h.example", "x", "latest"),
        ("docker://a.example:65535/x", "a.example:65535", "x", "latest"),
        ("docker://" + "a" * 63 + ".example/x", "a" * 63 + ".example", "x", "latest"),
        # what a name and a tag may look like
        ("docker://quay.io/bio/salmon:1.10.2--h_0", "quay.io", "bio/salmon", "1.10.2--h_0"),
        ("docker://x/a.b_c__d-e---f", "docker.io", "x/a.b_c__d-e---f", "latest"),
        ("docker://x:_", "docker.io", "library/x", "_"),
        ("docker://x:" + "T" * 128, "docker.io", "library/x", "T" * 128),
        ("docker://" + "f" * 63, "docker.io", "library/" + "f" * 63, "latest"),
        (f"docker://{HEX}:x", "docker.io", f"library/{HEX}", "x"),
        # go-containerregistry, which reads oras://, knows no localhost
        ("oras://ghcr.io/org/image:1", "ghcr.io", "org/image", "1"),
        ("oras://localhost:5000/image", "localhost:5000", "image", "latest"),
        ("oras://localhost/image", "docker.io", "localhost/image", "latest"),
    ],
)
def test_a_registry_reference_is_split_as_apptainer_does(text, host, repository, tag):
    reference = parse(text)
    assert (reference.host, reference.repository, reference.tag) == (host, repository, tag)
    assert (reference.digest, reference.path) == (None, "")
    assert not reference.is_pinned


@pytest.mark.parametrize(
    ("text", "tag", "digest"),
    [
        (f"docker://x@{SHA256}", None, SHA256),
        (f"docker://x@{SHA512}", None, SHA512),
        (f"docker://x:1@{SHA256}", "1", SHA256),
        (f"docker://h.example:1/x:latest@{SHA256}", "latest", SHA256),
        (f"oras://h.example/x@{SHA256}", None, SHA256),
    ],
)
def test_a_digest_pins_and_no_tag_is_implied_beside_it(text, tag, digest):
    reference = parse(text)
    assert reference.tag == tag
    assert str(reference.digest) == digest
    assert reference.is_pinned


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


@pytest.mark.parametrize(
    ("text", "host", "repository", "tag", "digest"),
    [
        ("library://alpine", "", "alpine", "latest", None),
        ("library://collection/alpine:3", "", "collection/alpine", "3", None),
        ("library://library/default/alpine:3", "", "library/default/alpine", "3", None),
        ("library://h.example:80/a/b/c", "h.example:80", "a/b/c", "latest", None),
        (f"library://a/b/c:sha256.{HEX}", "", "a/b/c", None, DIGEST),
    ],
)
def test_a_library_reference_is_split_as_apptainer_does(text, host, repository, tag, digest):
    reference = parse(text)
    assert (reference.host, reference.repository) == (host, repository)
    assert (reference.tag, reference.digest) == (tag, digest)
    assert reference.is_pinned == (digest is not None)


@pytest.mark.parametrize(
    ("text", "scheme", "host", "path"),
    [
        (
            "https://h.example/a/x.sif?download=1&b=%20",
            Scheme.HTTPS,
            "h.example",
            "/a/x.sif?download=1&b=%20",
        ),
        ("https://" + "a." * 126 + "a/x", Scheme.HTTPS, "a." * 126 + "a", "/x"),
        ("http://h.example:80/x--y_0", Scheme.HTTP, "h.example:80", "/x--y_0"),
        ("shub://user/repo:tag", Scheme.SHUB, "", "user/repo:tag"),
        ("ipfs://QmAbc", Scheme.IPFS, "", "QmAbc"),
        ("docker-archive:x.tar", Scheme.DOCKER_ARCHIVE, "", "x.tar"),
        ("docker-archive:///data/x.tar", Scheme.DOCKER_ARCHIVE, "", "///data/x.tar"),
        ("oci-archive:x.tar:tag", Scheme.OCI_ARCHIVE, "", "x.tar:tag"),
        ("oci:/data/layout:tag", Scheme.OCI, "", "/data/layout:tag"),
        ("docker-daemon:x:latest", Scheme.DOCKER_DAEMON, "", "x:latest"),
        ("x.sif", Scheme.FILE, "", "x.sif"),
        ("./a:b.sif", Scheme.FILE, "", "./a:b.sif"),
        ("/data/sandbox/", Scheme.FILE, "", "/data/sandbox/"),
        ("~/x.sif", Scheme.FILE, "", "~/x.sif"),
        ("file:///data/x.sif", Scheme.FILE, "", "/data/x.sif"),
        ("file://x.sif", Scheme.FILE, "", "x.sif"),
    ],
)
def test_other_sources_are_named_and_not_interpreted(text, scheme, host, path):
    reference = parse(text)
    assert (reference.scheme, reference.host, reference.path) == (scheme, host, path)
    assert (reference.repository, reference.tag, reference.digest) == ("", None, None)


def test_only_an_ipfs_address_pins_without_a_digest():
    assert parse("ipfs://QmAbc").is_pinned
    assert not parse("https://h.example/x.sif").is_pinned


def test_docker_and_oras_are_registries_and_nothing_else_is():
    assert [scheme.value for scheme in Scheme if scheme.is_registry] == ["docker", "oras"]


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("docker://ubuntu", "docker://docker.io/library/ubuntu:latest"),
        (f"docker://ubuntu:1@{SHA256}", f"docker://docker.io/library/ubuntu:1@{SHA256}"),
        (f"oras://h.example/x@{SHA256}", f"oras://h.example/x@{SHA256}"),
        ("library://a/b/c", "library://a/b/c:latest"),
        (f"library://h.example/a/b/c:sha256.{HEX}", f"library://h.example/a/b/c:sha256.{HEX}"),
        ("https://h.example/x?y", "https://h.example/x?y"),
        ("x.sif", "file://x.sif"),
        ("oci:layout:tag", "oci:layout:tag"),
        ("ipfs://QmAbc", "ipfs://QmAbc"),
    ],
)
def test_the_canonical_form_implies_nothing(text, canonical):
    assert str(parse(text)) == canonical
    assert parse(canonical) == parse(text)


def test_references_are_equal_when_they_mean_the_same():
    spellings = [
        "ubuntu",
        "ubuntu:latest",
        "library/ubuntu",
        "docker.io/ubuntu",
        "index.docker.io/library/ubuntu",
    ]
    assert len({parse(f"docker://{spelling}") for spelling in spellings}) == 1
    assert [parse(f"docker://{spelling}").text for spelling in spellings] == [f"docker://{s}" for s in spellings]


def test_hosts_that_differ_in_case_are_different_since_apptainer_looks_them_up_as_written():
    assert parse("docker://QUAY.io/x") != parse("docker://quay.io/x")


def test_a_string_of_a_subclass_is_kept_as_a_plain_string():
    class Flagged(str):
        __slots__ = ("flags",)

    assert type(parse(Flagged("docker://x")).text) is str


@pytest.mark.parametrize(
    ("text", "pinned"),
    [
        ("docker://quay.io/biocontainers/salmon:1.10.2", f"docker://quay.io/biocontainers/salmon@{SHA256}"),
        ("docker://ubuntu:24.04", f"docker://docker.io/library/ubuntu@{SHA256}"),
        ("docker://amd64/ubuntu", f"docker://docker.io/amd64/ubuntu@{SHA256}"),
        (f"docker://h.example/x:1@sha256:{'0' * 64}", f"docker://h.example/x@{SHA256}"),
        ("docker://[::1]:5000/x", f"docker://[::1]:5000/x@{SHA256}"),
        ("oras://ghcr.io/x/y:1", f"oras://ghcr.io/x/y@{SHA256}"),
        ("library://a/b/c:1", f"library://a/b/c:sha256.{HEX}"),
        ("library://h.example/a/b/c", f"library://h.example/a/b/c:sha256.{HEX}"),
    ],
)
def test_the_pinned_form_names_the_repository_and_the_digest_and_no_tag(text, pinned):
    assert parse(text).pinned(DIGEST).text == pinned
    again = parse(pinned)
    assert (again.name, again.tag, again.digest) == (parse(text).name, None, DIGEST)
    assert again.pinned(DIGEST).text == pinned


def test_docker_can_be_pinned_by_sha512():
    assert parse("docker://h.example/x").pinned(Digest.parse(SHA512)).text == f"docker://h.example/x@{SHA512}"


@pytest.mark.parametrize("text", ["oras://h.example/x", "library://a/b/c"])
def test_oras_and_library_cannot_be_pinned_by_sha512(text):
    with pytest.raises(InvalidReference, match="has no form that carries a sha512 digest"):
        parse(text).pinned(Digest.parse(SHA512))


@pytest.mark.parametrize(
    "text", ["x.sif", "https://h.example/x", "shub://a/b", "ipfs://Qm", "oci:x", "docker-daemon:x:y"]
)
def test_what_cannot_carry_a_digest_says_so(text):
    with pytest.raises(InvalidReference, match="has no form that carries a sha256 digest"):
        parse(text).pinned(DIGEST)


@pytest.mark.parametrize("text", ["docker://localhost/x", "docker://Registry/x"])
def test_a_host_that_apptainer_would_not_download_from_has_no_pinned_form(text):
    with pytest.raises(InvalidReference, match=r"but download from docker\.io") as caught:
        parse(text).pinned(DIGEST)
    assert "write the port" in caught.value.hint


@pytest.mark.parametrize(
    "text", [f"docker://h.example:5000/a_b/c--d@{SHA256}", "/data/x-1.0+2=3,4%5@6.sif", "docker://[::1]/x"]
)
def test_plain_words_are_safe(text):
    assert is_shell_safe(text)


@pytest.mark.parametrize("character", list(" \t\n\r\0;&|<>()$`\\\"'*?[]{}!#~^é\u2028"))
def test_no_other_character_is_safe(character):
    for text in (f"docker://x{character}", f"{character}docker://x", f"docker://x{character}y"):
        assert not is_shell_safe(text)


@pytest.mark.parametrize("text", ["", "-x", "--help", "docker://[::1]", "docker://[*]/x", "x://[::1]/y"])
def test_an_option_a_glob_and_nothing_are_not_safe(text):
    assert not is_shell_safe(text)


def test_pinned_checks_its_own_result():
    forged = Reference(text="", scheme=Scheme.DOCKER, host="h.example", repository="x;touch y")
    with pytest.raises(InvalidReference, match="not safe"):
        forged.pinned(DIGEST)


@pytest.mark.parametrize(
    "text",
    ["quay.io/x/y:1", "ubuntu:24.04", "localhost:5000/x", "quay.io/x/y", f"quay.io/x/y@{SHA256}", "biocontainers/x:1"],
)
def test_what_lacks_its_scheme_alone_is_recognised(text):
    assert docker_meant(text) == f"docker://{text}"


@pytest.mark.parametrize(
    "text",
    ["images/x.sif", "./quay.io/x", "/images/x", "~/x:1", "images/x", "x.simg", "dcoker://ubuntu:1", "X/Y:1", "a:b:c"],
)
def test_a_file_and_what_would_be_refused_anyway_is_taken_for_no_image_of_a_registry(text):
    assert docker_meant(text) == ""


def test_a_tag_without_a_scheme_is_refused_with_the_reference_that_was_meant():
    with pytest.raises(InvalidReference) as caught:
        parse("ubuntu:24.04")

    assert caught.value.hint == "did you mean docker://ubuntu:24.04?"
