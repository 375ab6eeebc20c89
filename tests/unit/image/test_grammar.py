"""The grammar of references: what each part may look like, and messages that show no password."""

import pytest

from snakemake_apptainer_freshness.errors import InvalidReference
from snakemake_apptainer_freshness.image import grammar


@pytest.mark.parametrize(
    ("name", "docker", "oras"),
    [
        ("alpine", ("docker.io", "alpine"), ("docker.io", "alpine")),
        ("team/tool", ("docker.io", "team/tool"), ("docker.io", "team/tool")),
        ("index.docker.io/team/tool", ("docker.io", "team/tool"), ("docker.io", "team/tool")),
        ("quay.io/team/tool", ("quay.io", "team/tool"), ("quay.io", "team/tool")),
        ("host:5000/tool", ("host:5000", "tool"), ("host:5000", "tool")),
        ("localhost/tool", ("localhost", "tool"), ("docker.io", "localhost/tool")),
        ("Team/tool", ("Team", "tool"), ("docker.io", "Team/tool")),
    ],
)
def test_the_host_is_split_off_as_each_scheme_does_it(name, docker, oras):
    assert grammar.split_host(name, as_docker=True) == docker
    assert grammar.split_host(name, as_docker=False) == oras


@pytest.mark.parametrize("tag", ["1", "v1.2_3-x", "_", "a" * 128])
def test_good_tags_pass(tag):
    grammar.check_tag("x", tag)


@pytest.mark.parametrize("tag", ["", ".1", "-1", "a" * 129, "a/b", "ä", "1 "])
def test_bad_tags_are_refused(tag):
    with pytest.raises(InvalidReference, match="is not a tag"):
        grammar.check_tag("x", tag)


@pytest.mark.parametrize("host", ["quay.io", "localhost:1", "[::1]:5000", "10.0.0.1", "a-b.c", "h:65535"])
def test_good_hosts_pass(host):
    grammar.check_host("x", host)


@pytest.mark.parametrize(
    "host", ["", "my_host.org", "-a.org", "h:0", "h:65536", "[fe80::1%1]", "[::ffff:1.2.3.4]", "a..b"]
)
def test_bad_hosts_are_refused(host):
    with pytest.raises(InvalidReference):
        grammar.check_host("x", host)


@pytest.mark.parametrize("text", ["", "a b", "a\tb", "a{b}", "a\\b", "tööl", "a\x07", "x" * 2049])
def test_what_no_reference_may_contain_is_refused(text):
    with pytest.raises(InvalidReference):
        grammar.refuse_unwritable(text)


def test_no_message_shows_a_password():
    assert "secret" not in grammar.shown("docker://user:secret@quay.io/tool")


def test_a_message_shows_a_digest_whole():
    digest = f"sha256:{'a' * 64}"

    assert digest in grammar.shown(f"docker://quay.io/tool@{digest}")
