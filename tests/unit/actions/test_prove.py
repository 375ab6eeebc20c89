"""The deep proof's words: what it says of which file, and what it leaves behind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from snakemake_apptainer_freshness.actions.check import check_one
from snakemake_apptainer_freshness.actions.prove import Proof, prove
from snakemake_apptainer_freshness.apptainer import base_files, sif
from snakemake_apptainer_freshness.apptainer.cache import CacheFolder
from snakemake_apptainer_freshness.apptainer.program import Apptainer
from snakemake_apptainer_freshness.errors import MissingProgram
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.store import facts, places
from snakemake_apptainer_freshness.store.facts import ProvenBy
from tests.support import images, sifs
from tests.support.digests import sha256
from tests.support.images import Image, Index, multi_arch
from tests.support.proofs import Served, built, environment, file, folder, layer, pin_of

CONTENT = Image(layers=(layer(folder("bin"), file("bin/tool", "one", 0o755)),), env=("PATH=/bin",))
OTHER = Image(layers=(layer(folder("bin"), file("bin/tool", "two", 0o755), file("more")),), env=("PATH=/bin",))


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    return built(CONTENT, tmp_path_factory.mktemp("original"))


@pytest.fixture
def image(original, tmp_path) -> Path:
    """A copy that no other test sees."""
    path = tmp_path / "image.simg"
    path.write_bytes(original.read_bytes())
    path.chmod(0o755)
    return path


def judge(image: Path, content: Image | Index = CONTENT, **options) -> Proof:
    options = {"registry": Served(content=content), "environment": environment(image.parent / "home")} | options
    return prove(pin_of(content), image, **options)


def test_the_same_content_is_verified_and_counted(image):
    proof = judge(image)
    assert proof.state == "verified"
    assert proof.differences == ()
    assert proof.files > 20
    assert proof.bytes > 3
    assert (proof.fact.state, proof.fact.path) == ("verified", str(image))


def test_a_proof_leaves_a_fact_by_which_the_image_is_verified_from_then_on(image):
    pin = pin_of(CONTENT)
    judge(image)
    fact = places.load(image).content

    assert fact.proven_by is ProvenBy.COMPARED
    assert (fact.pinned, fact.digest, fact.manifest) == (pin.url, pin.digest, pin.digest)
    assert check_one(pin, image).state == "verified"


def test_a_proof_can_be_made_without_leaving_a_fact(image):
    assert judge(image, remember=False).state == "verified"
    assert places.load(image) is None
    assert facts.about(pin_of(CONTENT)) == ()


def test_another_content_is_stale_and_the_differences_are_named(image):
    proof = judge(image, OTHER)
    assert proof.state == "stale"
    assert proof.differences == (
        "/bin/tool: its content is another one than in its layers",
        "/more: is missing",
    )
    assert proof.differences[0] in proof.detail
    assert "and 1 more" in proof.detail


def test_a_refuted_image_is_not_run_by_its_label_from_then_on(image, tmp_path):
    """Its label says that it was pulled by the digest, and only the comparison showed that it is something else."""
    pin = pin_of(OTHER)
    labelled = tmp_path / "labelled.simg"
    labelled.write_bytes(_labelled(image, pin))
    assert check_one(pin, labelled).state == "bound"
    proof = judge(labelled, OTHER)
    assert proof.state == "stale"

    fact = check_one(pin, labelled)
    assert (fact.state, fact.detail) == ("stale", proof.detail)
    assert check_one(pin, labelled, full=True).state == "stale"
    assert [known.refuted for known in facts.about(pin)] == [proof.detail]


def test_what_replaces_a_refuted_image_is_judged_for_itself(image):
    judge(image, OTHER)
    assert check_one(pin_of(OTHER), image).state == "stale"
    image.write_bytes(_labelled(image, pin_of(OTHER)))
    assert check_one(pin_of(OTHER), image).state == "bound"


def test_a_refutation_does_not_replace_the_proof_for_another_pin(image):
    judge(image)
    assert judge(image, OTHER).state == "stale"
    assert check_one(pin_of(CONTENT), image).state == "verified"


def test_a_refutation_can_be_told_without_leaving_a_fact(image):
    assert judge(image, OTHER, remember=False).state == "stale"
    assert facts.about(pin_of(OTHER)) == ()


def _labelled(image: Path, pin: Pin) -> bytes:
    """The file system of `image` under a label that says that it was pulled as `pin`: a user can write that."""
    partition = sif.read(image).partition
    packed = image.read_bytes()[partition.offset : partition.offset + partition.size]
    return sifs.pulled(pin.url.partition("://")[2], content=packed)


def test_only_the_first_differences_are_named(image):
    many = Image(layers=(layer(*(file(f"f{number:03}") for number in range(100))),))
    assert len(judge(image, many).differences) == 10


def test_what_is_not_there_is_absent(tmp_path):
    assert judge(tmp_path / "missing").state == "absent"


@pytest.mark.parametrize("content", [b"", b"nothing", bytes(100_000)])
def test_what_is_no_sif_is_corrupt(tmp_path, content):
    path = tmp_path / "x"
    path.write_bytes(content)
    assert judge(path).state == "corrupt"


def test_a_link_to_an_image_is_not_followed(image, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(image)
    assert judge(link).state == "corrupt"


def test_other_sources_have_no_layers(image):
    pin = replace(pin_of(CONTENT), pinned=parse("library://a/b/c:sha256." + "0" * 64))
    proof = prove(pin, image, registry=None, environment=environment(image.parent / "home"))
    assert proof.state == "unbound"
    assert "library://" in proof.detail


def test_the_platform_is_chosen_from_the_index(image):
    other = "arm64" if images.native_architecture() == "amd64" else "amd64"
    assert judge(image, multi_arch(CONTENT, other)).state == "verified"
    assert judge(image, multi_arch(replace(OTHER, architecture=other), images.native_architecture())).state == "stale"


def test_an_index_without_this_platform_proves_nothing(image):
    proof = judge(image, Index(manifests=(replace(CONTENT, architecture="s390x"),)))
    assert proof.state == "unbound"


def filled(home: Path, content: Image) -> CacheFolder:
    """Apptainer's blob cache, with what a pull of `content` leaves there."""
    cache = CacheFolder.of(environment(home))
    for body in (content.manifest, *content.blobs):
        path = cache.blob(Digest.parse(sha256(body)))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    return cache


def test_what_is_in_the_cache_is_not_asked_for(image, tmp_path):
    filled(tmp_path / "home", CONTENT)
    served = Served(content=CONTENT)
    assert judge(image, registry=served).state == "verified"
    assert served.asked == []


def test_without_a_registry_the_cache_is_enough_or_it_is_said_what_is_missing(image, tmp_path):
    assert "not in Apptainer's cache" in judge(image, registry=None).detail
    cache = filled(tmp_path / "home", CONTENT)
    assert judge(image, registry=None).state == "verified"
    cache.blob(Digest.parse(CONTENT.layers[0].digest)).unlink()
    assert judge(image, registry=None).state == "unbound"


def test_without_a_registry_an_index_that_was_hashed_before_says_which_manifest_it_is(image, tmp_path):
    filled(tmp_path / "home", CONTENT)
    index = multi_arch(CONTENT, "s390x")
    pin = pin_of(index, manifest=CONTENT.digest)
    home = environment(tmp_path / "home")
    assert prove(pin, image, registry=None, environment=home).state == "unbound"  # the lock's word alone is a claim
    facts.keep_index(pin.digest, {pin.platform: CONTENT.digest})
    assert prove(pin, image, registry=None, environment=home).state == "verified"


@pytest.mark.parametrize("what", ["manifest", "config", "layer"])
def test_what_is_damaged_in_the_cache_comes_from_the_registry(image, tmp_path, what):
    cache = filled(tmp_path / "home", CONTENT)
    body = {"manifest": CONTENT.manifest, "config": CONTENT.config, "layer": CONTENT.layers[0].content}[what]
    cache.blob(Digest.parse(sha256(body))).write_bytes(body[:-1] + bytes([body[-1] ^ 1]))
    served = Served(content=CONTENT)

    assert judge(image, registry=served).state == "verified"
    assert served.asked == [sha256(body)]


def test_scripts_of_an_unknown_apptainer_are_not_called_stale(image, monkeypatch):
    original = base_files.read
    found = Apptainer.find(environment(image.parent / "home"))
    monkeypatch.setattr(Apptainer, "find", lambda _: replace(found, version="apptainer 1.0.0"))

    def other(config, program):
        tree = original(config, program)
        tree.children[b".singularity.d"].children[b"startscript"].sha256 = bytes(32)
        return tree

    monkeypatch.setattr(base_files, "read", other)
    proof = judge(image)

    assert proof.state == "unbound"
    assert "only what Apptainer inserts differs" in proof.detail
    assert proof.differences == ("/.singularity.d/startscript: is not what Apptainer writes there",)


def test_scripts_that_this_apptainer_does_not_write_are_stale(image, monkeypatch):
    original = base_files.read

    def other(config, program):
        tree = original(config, program)
        tree.children[b".singularity.d"].children[b"startscript"].sha256 = bytes(32)
        return tree

    monkeypatch.setattr(base_files, "read", other)
    assert judge(image).state == "stale"


def test_without_apptainer_it_says_so(image, tmp_path):
    with pytest.raises(MissingProgram, match="apptainer"):
        judge(image, environment={"PATH": str(tmp_path), "HOME": str(tmp_path)})
