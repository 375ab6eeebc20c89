"""Every scheme answers every question, and every answer has a room that acts on it."""

import pytest

from snakemake_apptainer_freshness.apptainer import cache
from snakemake_apptainer_freshness.image import reference
from snakemake_apptainer_freshness.image.scheme import RULES, CacheKey, Grammar, PinnedBy, Scheme, Source
from snakemake_apptainer_freshness.registry import network
from snakemake_apptainer_freshness.registry.network import Network
from snakemake_apptainer_freshness.settings import LIMITS

SPELLED = {
    Scheme.DOCKER: "docker://quay.io/team/tool:1",
    Scheme.ORAS: "oras://quay.io/team/tool:1",
    Scheme.LIBRARY: "library://team/tools/tool:1",
    Scheme.HTTP: "http://example.org/tool.sif",
    Scheme.HTTPS: "https://example.org/tool.sif",
    Scheme.SHUB: "shub://team/tool",
    Scheme.IPFS: "ipfs://QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG",
    Scheme.DOCKER_ARCHIVE: "docker-archive:tool.tar",
    Scheme.OCI_ARCHIVE: "oci-archive:tool.tar",
    Scheme.OCI: "oci:folder:1",
    Scheme.DOCKER_DAEMON: "docker-daemon:tool:1",
    Scheme.FILE: "images/tool.sif",
}


def test_every_scheme_has_an_entry():
    assert set(RULES) == set(Scheme)


@pytest.mark.parametrize("scheme", Scheme)
def test_every_scheme_is_parsed_and_read_back(scheme):
    parsed = reference.parse(SPELLED[scheme])

    assert parsed.scheme is scheme
    assert reference.parse(str(parsed)) == parsed or scheme is Scheme.FILE


def test_every_grammar_has_a_parser():
    assert set(reference.PARSERS) == set(Grammar)


def test_every_source_has_a_factory():
    assert set(network.FACTORIES) == set(Source)


@pytest.mark.parametrize("source", Source)
def test_what_answers_for_a_source_can_resolve_and_check(source):
    made = network.FACTORIES[source](Network(environ={}, limits=LIMITS))

    assert callable(made.resolve)
    assert callable(made.check)


def test_every_cache_key_has_a_function():
    assert set(cache.KEYS) == set(CacheKey)


@pytest.mark.parametrize("scheme", Scheme)
def test_only_a_scheme_that_is_pinned_in_its_text_names_algorithms(scheme):
    rules = scheme.rules

    assert bool(rules.algorithms) == (scheme.is_registry or scheme is Scheme.LIBRARY)
    assert not (rules.algorithms and rules.pinned_by is PinnedBy.NOTHING)


@pytest.mark.parametrize("scheme", Scheme)
def test_a_tag_comes_with_a_host(scheme):
    assert scheme.rules.has_host or not scheme.rules.has_tag
