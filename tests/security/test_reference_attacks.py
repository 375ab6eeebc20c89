"""Attacks through what a workflow or a lock calls an image, each test named after its attack."""

import shlex
import subprocess

import pytest

from snakemake_apptainer_freshness.errors import InvalidDigest, InvalidReference
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.reference import is_shell_safe, parse

HEX = "0123456789abcdef" * 4
DIGEST = Digest.parse(f"sha256:{HEX}")

INJECTIONS = [
    ";touch pwned", "\t;touch\tpwned", "&&touch\tpwned", "|touch\tpwned", "$(touch\tpwned)", "`touch\tpwned`",
    "$IFS", "${IFS}", "\ntouch\tpwned", ">pwned", "<(touch\tpwned)", "'", '"', "*", "?", "[a-z]", "{a,b}", "!x",
    "#x", "~", "^", "%0a;touch pwned", "\\\ntouch", "{input}", "{config[secret]}",
]  # fmt: skip


@pytest.mark.parametrize("injection", INJECTIONS)
@pytest.mark.parametrize(
    "carrier", ["docker://h.example/x{}", "docker://{}h.example/x", "docker://h.example/x:{}", "oras://h.example/x@{}",
                "library://a/b/c{}", "x.sif{}", "{}x.sif", "file:///data/{}", "oci-archive:x{}", "shub://a/b{}"],
)  # fmt: skip
def test_shell_injection_through_a_container_string(carrier, injection):
    with pytest.raises(InvalidReference):
        parse(carrier.replace("{}", injection, 1))


def test_a_shell_reads_a_pinned_reference_as_one_word():
    for text in ("docker://h.example:5000/a__b/c--d.e:t", "oras://h.example/x", "library://a/b/c"):
        pinned = parse(text).pinned(DIGEST).text
        assert shlex.quote(pinned) == pinned
        echoed = subprocess.run(["bash", "-c", f"printf '<%s>' {pinned}"], capture_output=True, text=True, check=True)
        assert echoed.stdout == f"<{pinned}>"


@pytest.mark.parametrize("text", ["--pwd=/", "-x", "--bind=/:/host,x.sif"])
def test_option_injection_through_a_local_image(text):
    with pytest.raises(InvalidReference):
        parse(text)


@pytest.mark.parametrize(
    "digest",
    [
        "sha256:../../x",
        f"sha256:../{HEX[3:]}",
        f"sha256:{HEX[:-3]}/..",
        f"sha256:{HEX.upper()}",
        f"SHA256:{HEX}",
        f"sha256:{HEX[:-1]}",
        f"sha256:{HEX}0",
        f"sha256:{HEX}\n",
        f" sha256:{HEX}",
        f"sha256:{HEX}\0",
        f"sha256:{HEX};x",
        f"sha256:sha256:{HEX}",
        f"sha256:{HEX[:-1]}\u0430",
        "sha256:" + "\uff10" * 64,
        "sha256:" + "\u0661" * 64,
    ],
)
def test_digest_strings_as_paths_and_other_impostors(digest):
    with pytest.raises(InvalidDigest):
        Digest.parse(digest)
    with pytest.raises(InvalidReference):
        parse(f"docker://h.example/x@{digest}")
    with pytest.raises(InvalidReference):
        parse(f"library://a/b/c:{digest.replace(':', '.', 1)}")


@pytest.mark.parametrize("path", ["../x", "a/../b", "./x", "a/./b", "..", "a/..", "%2e%2e/x", "a/%2e%2e/b"])
@pytest.mark.parametrize("carrier", ["docker://h.example/{}", "docker://{}", "oras://h.example/{}", "library://{}"])
def test_path_traversal_through_a_repository(carrier, path):
    with pytest.raises(InvalidReference):
        parse(carrier.format(path))


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("docker://docker.io.evil.example/x", "docker.io.evil.example"),
        ("docker://docker.io.evil.example/library/x", "docker.io.evil.example"),
        ("docker://index.docker.io.evil.example/x", "index.docker.io.evil.example"),
        ("docker://evildocker.io/x", "evildocker.io"),
        ("docker://docker.io:443/x", "docker.io:443"),
        ("docker://docker.io-evil.example/x", "docker.io-evil.example"),
        ("docker://Docker.io/x", "Docker.io"),
    ],
)
def test_a_host_that_begins_or_ends_like_docker_io_is_not_docker_io(text, host):
    reference = parse(text)
    assert reference.host == host
    assert reference.repository in text


@pytest.mark.parametrize(
    "text",
    [
        "docker://user:canary@h.example/x",
        "docker://canary@h.example/x",
        "docker://user:canary/canary@h.example/x",
        f"docker://user:canary@h.example/x@sha256:{HEX}",
        "docker://h.example/x@canary@h.example/y",
        "docker://user:canary @h.example/x",
        "docker://user:canary\\@h.example/x",
        "Docker://user:canary@h.example/x",
        "docker:user:canary@h.example/x",
        "docker://https://user:canary@h.example/x",
        "oras://user:canary@h.example/x",
        "library://user:canary@h.example/a/b/c",
        "library://user:canary/ca@h.example/a/b/c",
        "library://a/b/c:canary@x",
        "https://user:canary@h.example/x.sif",
        "https://user:canary@h.example/x.sif#y",
        "http://user:canary/ca@h.example:x/x.sif",
        "https://h.example:canary/x@y",
        "foo://user:canary@h.example/x",
    ],
)
def test_user_information_is_refused_and_the_password_never_shown(text):
    with pytest.raises(InvalidReference) as caught:
        parse(text)
    shown = f"{caught.value} {caught.value!r} {caught.value.hint}"
    assert "canary" not in shown


@pytest.mark.parametrize(
    "text",
    ["docker://h.example\\@evil.example/x", "docker://h.example\\x", "docker:\\\\h.example\\x", "https://h.example\\@evil.example/x"],
)  # fmt: skip
def test_backslashes_that_some_parsers_read_as_slashes(text):
    with pytest.raises(InvalidReference, match="backslash"):
        parse(text)


@pytest.mark.parametrize(
    "character",
    ["\u0430", "\u043e", "\uff0f", "\u2215", "\u2044", "\uff0e", "\u3002", "\uff1a", "\uff20", "\u200b", "\u200d",
     "\u202e", "\u00ad", "\ufeff", "\u0131", "\u212a", "\u00df", "\U0001d41a", "\ud800"],
)  # fmt: skip
def test_unicode_look_alikes(character):
    for text in (
        f"docker://{character}.example/x",
        f"docker://h.example/{character}",
        f"d{character}cker://x",
    ):
        with pytest.raises(InvalidReference, match=rf"U\+{ord(character):04X}"):
            parse(text)


@pytest.mark.parametrize("separator", ["\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\t", " ", "\0"])
def test_a_trailing_or_embedded_line_break(separator):
    for text in (
        f"docker://h.example/x{separator}",
        f"docker://h.example/x{separator}y",
        f"{separator}x.sif",
    ):
        with pytest.raises(InvalidReference):
            parse(text)
        assert not is_shell_safe(text)


def test_a_query_that_smuggles_another_image():
    for text in (
        "docker://h.example/x?tag=y",
        "docker://h.example/x#@sha256:" + HEX,
        "library://a/b/c?arch=x",
    ):
        with pytest.raises(InvalidReference):
            parse(text)


def test_apptainer_asking_one_host_and_downloading_from_another():
    # Apptainer 1.4.5: HEAD goes to localhost, the image comes from docker.io/localhost/x, which anyone may register.
    with pytest.raises(InvalidReference, match=r"docker\.io"):
        parse("docker://localhost/x").pinned(DIGEST)
    assert parse("oras://localhost/x").host == "docker.io"


@pytest.mark.parametrize(
    "text",
    [
        "docker://" + "a" * 10_000_000,
        "docker://" + "a-" * 500_000,
        "docker://" + "a/" * 500_000,
        "docker://x@" + "sha256:" * 100_000,
        "a." * 1_000 + ":",
        "docker://" + "a-" * 1_000 + "!",
        "docker://" + "a." * 1_000 + "/x",
        "docker://" + "[" * 2_000,
        "docker://" + "@" * 2_000,
        "docker://" + "a--" * 600 + "_",
    ],
)
def test_a_regular_expression_that_backtracks_without_end(text):
    with pytest.raises(InvalidReference) as caught:
        parse(text)
    assert len(str(caught.value)) < 1_000
