"""What is worth a comparison, from where its layers may come, and what is said where it cannot be compared."""

import threading
from pathlib import Path

import pytest

from snakemake_apptainer_freshness.actions.attest import Attestor, LazyRegistries, attest_all, may_be_attested
from snakemake_apptainer_freshness.freshness import DiskFact, DiskState
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.store.prefix import image_path
from tests.support.images import Image
from tests.support.pins import DIGEST, pin
from tests.support.proofs import Served, built, environment, file, folder, layer, pin_of
from tests.support.simulator import Simulator

CONTENT = Image(layers=(layer(folder("bin"), file("bin/tool", "one", 0o755)),))
PIN = pin_of(CONTENT)


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    return built(CONTENT, tmp_path_factory.mktemp("original"))


@pytest.fixture
def prefix(original, tmp_path):
    """An image folder that has the image of PIN."""
    image = image_path(tmp_path / "images", PIN.url)
    image.parent.mkdir()
    image.write_bytes(original.read_bytes())
    image.chmod(0o755)
    return image.parent


def known(state, detail="as it was"):
    return DiskFact(state=state, path="/image", detail=detail)


def attestor(tmp_path, source, **more):
    variables = environment(tmp_path / "home") | {"APPTAINER_CACHEDIR": str(tmp_path / "cache")}
    return Attestor(source=source, environment=variables, **more)


@pytest.mark.parametrize("state", list(DiskState))
def test_a_sound_image_of_a_registry_that_is_not_proven_may_be_compared(state):
    assert may_be_attested(pin(), known(state)) == (state in (DiskState.BOUND, DiskState.UNBOUND))


def test_what_has_no_layers_is_not_compared():
    reference = parse("oras://quay.io/team/tool:1")
    wanted = Pin.held_to(pinned=parse(f"oras://quay.io/team/tool@{DIGEST}"), reference=reference, digest=DIGEST)
    assert not may_be_attested(wanted, known(DiskState.BOUND))


def test_a_bound_image_is_proven_by_layers_of_the_registry(prefix, tmp_path):
    source = Served(content=CONTENT)
    fact = attestor(tmp_path, source).attest(PIN, image_path(prefix, PIN.url), known(DiskState.BOUND))
    assert fact.state is DiskState.VERIFIED
    assert fact.detail.startswith("proven by comparison with its layers (")
    assert CONTENT.layers[0].digest in source.asked


def test_for_an_unbound_image_no_layer_is_downloaded_unless_that_is_asked_for(prefix, tmp_path):
    source = Served(content=CONTENT)
    image = image_path(prefix, PIN.url)
    fact = attestor(tmp_path, source).attest(PIN, image, known(DiskState.UNBOUND))
    assert (fact.state, source.asked) == (DiskState.UNBOUND, [CONTENT.digest])
    assert fact.detail.startswith("as it was; ")
    assert "to fetch all is no dearer" in fact.detail

    assert attestor(tmp_path, source).attest(PIN, image, known(DiskState.UNBOUND), whole=True).state == "verified"


def test_without_a_registry_what_the_cache_lacks_leaves_it_as_it_was(prefix, tmp_path):
    fact = attestor(tmp_path, None).attest(PIN, image_path(prefix, PIN.url), known(DiskState.BOUND))
    assert (fact.state, fact.path) == (DiskState.BOUND, "/image")
    assert "is not in Apptainer's cache" in fact.detail


def test_a_registry_that_fails_leaves_it_as_it_was_and_is_told(prefix, tmp_path):
    other = Served(content=Image(layers=(layer(file("x")),)))
    fact = attestor(tmp_path, other).attest(PIN, image_path(prefix, PIN.url), known(DiskState.BOUND))
    assert fact.state is DiskState.BOUND
    assert "as it was; it could not be compared: " in fact.detail


def test_what_is_proven_or_damaged_already_is_not_looked_at(tmp_path):
    for state in (DiskState.VERIFIED, DiskState.CORRUPT, DiskState.ABSENT):
        before = known(state)
        assert attestor(tmp_path, None).attest(PIN, tmp_path / "none", before) is before


def test_of_many_those_that_are_worth_it_are_compared_and_each_is_told(prefix, tmp_path):
    other = pin(Digest.parse(f"sha256:{'0e' * 32}"))
    facts = {PIN.url: known(DiskState.BOUND), other.url: known(DiskState.ABSENT)}
    told = []
    found = attest_all(
        [PIN, other], prefix, facts, attestor=attestor(tmp_path, Served(content=CONTENT)), jobs=2,
        begin=lambda pin: told.append(("begin", pin.url)), end=lambda pin, fact: told.append((fact.state, pin.url)),
    )  # fmt: skip
    assert {url: fact.state for url, fact in found.items()} == {PIN.url: DiskState.VERIFIED}
    assert told == [("begin", PIN.url), (DiskState.VERIFIED, PIN.url)]


def test_a_comparison_can_be_stopped(prefix, tmp_path):
    stop = threading.Event()
    stop.set()
    with pytest.raises(InterruptedError):
        attestor(tmp_path, Served(content=CONTENT), stop=stop).attest(
            PIN, image_path(prefix, PIN.url), known(DiskState.BOUND)
        )


def test_registries_are_asked_for_a_manifest_once():
    with Simulator() as registry:
        digest = Digest.parse(registry.publish("team/tool", "1", CONTENT.manifest))
        reference = parse(f"docker://{registry.host}/team/tool@{digest}")
        registries = LazyRegistries({"APPTAINER_NOHTTPS": "1"})
        try:
            assert [registries.manifest(reference, digest) for _ in range(3)] == [CONTENT.manifest] * 3
            assert len(registry.asked("/v2/team/tool/manifests/", "GET")) == 1
        finally:
            registries.close()


def test_nothing_has_to_be_closed_where_no_registry_was_asked():
    LazyRegistries({}).close()
