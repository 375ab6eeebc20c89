import pytest

from snakemake_apptainer_freshness.errors import InvalidReference
from snakemake_apptainer_freshness.image.digest import Digest
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
