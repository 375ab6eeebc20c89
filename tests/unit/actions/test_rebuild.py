"""Of what an image is made, and that a source which has something else is refused. Real builds: test_unpack.py."""

import hashlib
import threading

import pytest

from snakemake_apptainer_freshness.actions.rebuild import Recipe, Workshop, rebuild, recipe, refuse_incomplete
from snakemake_apptainer_freshness.errors import CorruptImage
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.manifest import Descriptor
from snakemake_apptainer_freshness.image.tree import NotComparable
from snakemake_apptainer_freshness.store.facts import ProvenBy
from tests.support import sifs
from tests.support.images import Image
from tests.support.pins import pin
from tests.support.proofs import Served, file, layer, pin_of

CONTENT = Image(layers=(layer(file("one", "1" * 300)), layer(file("two", "2" * 300))))
SIF = sifs.pulled("lab/tool:1")
SHA256 = Digest(algorithm="sha256", hex=hashlib.sha256(SIF).hexdigest())
NAMED = Recipe(pin=pin(), content=SHA256)


def no_program():
    pytest.fail("no program is needed")


def workshop(lies=None, stop=None):
    return Workshop(
        source=Served(content=CONTENT, lies=lies or {}), program=no_program, stop=stop or threading.Event(),
        note=lambda _: None, refuse=CorruptImage,
    )  # fmt: skip


def sizes(made_of):
    return {part.digest: part.size for part in made_of.parts}


def test_an_image_is_made_of_its_manifest_its_configuration_and_its_layers():
    made_of = recipe(pin_of(CONTENT), Served(content=CONTENT))
    parts = [CONTENT.manifest, CONTENT.config, *(one.content for one in CONTENT.layers)]
    assert [part.size for part in made_of.parts] == [len(part) for part in parts]
    assert str(made_of.parts[0].digest) == CONTENT.digest
    assert made_of.size(lambda _: None) == sum(map(len, parts))


def test_a_ready_image_is_the_one_that_is_said_to_be_of_this_manifest():
    ready = Descriptor(media_type="x", digest=SHA256, size=7)
    pinned = pin_of(CONTENT)
    made_of = recipe(pinned, Served(content=CONTENT), ready={pinned.digest: ready})
    assert (made_of.sif, made_of.size(lambda _: None)) == (ready, 7)
    assert recipe(pinned, Served(content=CONTENT), ready={SHA256: ready}).sif is None


def test_a_source_that_has_another_manifest_has_no_recipe():
    with pytest.raises(NotComparable):
        recipe(pin_of(CONTENT), Served(content=CONTENT, lies={CONTENT.digest: b"{}"}))


def test_what_lacks_a_part_or_has_it_of_another_size_is_incomplete():
    made_of = recipe(pin_of(CONTENT), Served(content=CONTENT))
    there = sizes(made_of)
    refuse_incomplete(made_of, there.get)
    last = made_of.parts[-1].digest
    with pytest.raises(NotComparable, match=f"it lacks {last}"):
        refuse_incomplete(made_of, {**there, last: None}.get)
    with pytest.raises(NotComparable, match=r"has 1 bytes in it, and \d+ in its manifest"):
        refuse_incomplete(made_of, {**there, last: 1}.get)
    with pytest.raises(NotComparable, match=f"it lacks {SHA256}"):
        refuse_incomplete(NAMED, {}.get)


def test_a_file_that_its_hash_names_is_copied_and_hashed(tmp_path):
    obtained = rebuild(NAMED, tmp_path / "image", workshop({str(SHA256): SIF}))
    assert (tmp_path / "image").read_bytes() == SIF
    assert (obtained.sha256, obtained.size, obtained.proven_by) == (SHA256.hex, len(SIF), ProvenBy.NAMED)
    assert (obtained.apptainer, obtained.manifest) == ("apptainer 1.4.5", None)


@pytest.mark.parametrize("lie", [SIF + b"x", SIF[:-1], b""])
def test_a_file_that_is_not_what_its_hash_names_is_refused(tmp_path, lie):
    with pytest.raises(CorruptImage, match=r"docker://quay\.io/team/tool:1\.0"):
        rebuild(NAMED, tmp_path / "image", workshop({str(SHA256): lie}))


@pytest.mark.parametrize("content", [b"no image", sifs.pulled("lab/tool:1", architecture=sifs.ARM64)])
def test_what_is_no_image_for_this_machine_is_refused_though_its_hash_is_right(tmp_path, content):
    digest = Digest(algorithm="sha256", hex=hashlib.sha256(content).hexdigest())
    with pytest.raises(CorruptImage, match="the image of docker://quay"):
        rebuild(Recipe(pin=pin(), content=digest), tmp_path / "image", workshop({str(digest): content}))


def test_nothing_that_is_there_is_written_over(tmp_path):
    (tmp_path / "image").write_text("mine")
    with pytest.raises(FileExistsError):
        rebuild(NAMED, tmp_path / "image", workshop({str(SHA256): SIF}))
    assert (tmp_path / "image").read_text() == "mine"


def test_a_copy_can_be_stopped(tmp_path):
    stop = threading.Event()
    stop.set()
    with pytest.raises(InterruptedError):
        rebuild(NAMED, tmp_path / "image", workshop({str(SHA256): SIF}, stop))
