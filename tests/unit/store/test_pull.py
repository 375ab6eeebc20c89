"""The trusted pull of one image: from where it comes, and that nothing is left where it is not what its pin names."""

from __future__ import annotations

import hashlib
import os
import threading
from dataclasses import replace

import pytest

from snakemake_apptainer_freshness.apptainer.cache import keys
from snakemake_apptainer_freshness.errors import LocalIOError, PullFailed, UnprovenImage
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.settings import DISK
from snakemake_apptainer_freshness.store import facts, places, pull, records
from snakemake_apptainer_freshness.store.facts import ProvenBy
from snakemake_apptainer_freshness.store.pull import copy_image, fact_of
from tests.support import sifs
from tests.support.fake_apptainer import COPY, FakeApptainer
from tests.support.pins import DIGEST, OTHER, REPOSITORY
from tests.support.pins import fact_of as known_of
from tests.support.pulls import PIN, SOUND, Pull


@pytest.fixture
def puller(tmp_path):
    return Pull(tmp_path)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(pull, "DISK", DISK._replace(pull_backoff=0.01, race_backoff=0.01))


def no_program():
    pytest.fail("no program is needed")


def test_without_a_cache_it_is_pulled_past_it_and_hashed(puller):
    content = puller.fake.serve(PIN)
    puller.fake.behave('echo "$past_cache" >> "$HOME.past"; ' + COPY + '; chmod 777 "$destination"')
    obtained = puller(cached=False)

    assert puller.temporary.read_bytes() == content
    assert (obtained.sha256, obtained.size) == (hashlib.sha256(content).hexdigest(), len(content))
    assert (obtained.proven_by, obtained.apptainer) == (ProvenBy.PULLED, "apptainer 1.4.5")
    assert puller.fake.temporary.with_name("home.past").read_text() == "1\n"
    assert puller.temporary.stat().st_mode & 0o022 == 0


def test_an_entry_of_the_cache_that_is_proven_is_copied_and_nothing_is_asked(puller):
    puller.entry(SOUND)
    facts.keep(known_of(SOUND, PIN, manifest=PIN.manifest))
    puller.program = no_program
    obtained = puller()

    assert puller.temporary.read_bytes() == SOUND
    assert (obtained.proven_by, obtained.manifest, obtained.known) == (ProvenBy.COPIED, PIN.manifest, None)


@pytest.mark.parametrize("bad", [sifs.pulled(f"{REPOSITORY}@{PIN.digest}", version="1.4.4"), b"no image"])
def test_an_unproven_entry_of_the_cache_is_moved_aside_and_never_reused(puller, bad):
    path = puller.entry(bad)
    records.path_of(path).write_text("{}")
    puller.fake.serve(PIN, SOUND)
    puller.blobs()
    obtained = puller()

    assert obtained.sha256 == hashlib.sha256(SOUND).hexdigest()
    [aside] = path.parent.glob("*quarantine*")
    assert aside.read_bytes() == bad
    assert not path.exists()
    assert not records.path_of(path).exists()
    assert "unproven image under this digest" in puller.notes[0]


def through(puller, more: str = "") -> None:
    """Let the stand-in leave what it pulled in the cache too, as Apptainer does, unless it is told to pull past it."""
    path = puller.cache.root / keys(PIN)[0]
    puller.fake.behave(f'[ "$past_cache" ] || cp "$image" {path}; {more} {COPY}')


def test_what_it_was_built_from_is_in_the_cache_and_sound_so_the_entry_is_proven_too(puller):
    puller.fake.serve(PIN, SOUND)
    puller.blobs()
    through(puller)
    puller()
    path = puller.cache.root / keys(PIN)[0]

    assert len(puller.fake.pulls) == 1
    assert puller.notes == []
    assert path.read_bytes() == SOUND
    assert places.load(path).content.sha256 == hashlib.sha256(SOUND).hexdigest()
    assert [fact.sha256 for fact in facts.about(PIN)] == [hashlib.sha256(SOUND).hexdigest()]


def test_a_build_from_a_damaged_layer_is_thrown_away_and_the_layer_moved_aside(puller):
    puller.fake.serve(PIN, SOUND)
    damaged = puller.blobs()[-1]
    damaged.write_bytes(bytes(damaged.stat().st_size))
    through(puller)
    puller()

    assert len(puller.fake.pulls) == 2
    assert not damaged.exists()
    assert any("a layer in Apptainer's cache is not what its name says" in note for note in puller.notes)
    assert puller.notes[-1] == "pulling past Apptainer's cache: it holds damaged layers of this image"
    assert not (puller.cache.root / keys(PIN)[0]).exists()
    assert puller.temporary.read_bytes() == SOUND


def test_a_build_whose_manifest_the_cache_lacks_is_not_believed(puller):
    puller.fake.serve(PIN, SOUND)
    puller()
    assert len(puller.fake.pulls) == 2
    assert "it does not hold the manifest" in puller.notes[-1]


@pytest.mark.parametrize("why", ["no manifest is known", "the version keeps none"])
def test_what_could_not_be_proven_afterwards_is_pulled_past_the_cache_at_once(puller, why, tmp_path):
    if why == "the version keeps none":
        puller.fake = FakeApptainer(tmp_path / "old", version="apptainer version 1.2.0")
    puller.fake.serve(PIN, SOUND)
    puller.blobs()
    puller.fake.behave('[ "$past_cache" ] && ' + COPY)
    puller(manifest=None if why == "no manifest is known" else PIN.digest)

    assert len(puller.fake.pulls) == 1
    assert puller.notes == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (sifs.pulled(f"{REPOSITORY}@{OTHER}"), f"it was pulled as {REPOSITORY}@{OTHER}"),
        (sifs.pulled(f"{REPOSITORY}:1.0"), f"it was pulled as {REPOSITORY}:1.0"),
        (sifs.pulled(f"{REPOSITORY}@{PIN.digest}", labels={}), "it was pulled as something else"),
        (sifs.pulled(f"{REPOSITORY}@{PIN.digest}", architecture=sifs.ARM64), "arm64"),
        (SOUND[:5000], ""),
        (b"", ""),
    ],
)
def test_what_is_not_what_its_pin_names_is_refused_and_removed(puller, content, said):
    puller.fake.serve(PIN, content)
    with pytest.raises(UnprovenImage, match="is not that image") as refused:
        puller(cached=False)
    assert said in refused.value.message
    assert not puller.temporary.exists()


@pytest.mark.parametrize("instead", ["true", 'ln -s /etc/passwd "$destination"', 'mkdir -p "$destination/more"'])
def test_what_is_no_file_is_refused(puller, instead):
    puller.fake.behave(instead)
    with pytest.raises(UnprovenImage, match="is not that image"):
        puller(cached=False)
    assert not os.path.lexists(puller.temporary)


def test_an_image_whose_name_is_its_hash_is_held_to_it(puller):
    content = Digest(algorithm="sha256", hex=hashlib.sha256(SOUND).hexdigest())
    reference = parse("library://lab/tools/tool:1")
    pinned = parse(f"library://lab/tools/tool:sha256.{content.hex}")
    named = Pin.held_to(pinned=pinned, reference=reference, digest=content)
    puller.fake.serve(named, SOUND)
    assert puller(named, cached=False).sha256 == content.hex
    puller.temporary.unlink()

    other = sifs.pulled(f"{REPOSITORY}@{PIN.digest}", version="1.4.4")
    puller.fake.serve(named, other)
    with pytest.raises(UnprovenImage, match=hashlib.sha256(other).hexdigest()):
        puller(named, cached=False)
    assert not puller.temporary.exists()


def test_a_place_that_cannot_be_written_is_an_error_of_this_machine(puller, tmp_path):
    puller.fake.serve(PIN)
    puller.temporary = tmp_path / "none" / "image"
    with pytest.raises(LocalIOError, match="cannot write the image of"):
        puller(cached=False)


def test_a_pull_that_is_stopped_leaves_nothing(puller):
    puller.fake.serve(PIN)
    puller.fake.behave(COPY + "; sleep 30")
    threading.Timer(0.2, puller.stop.set).start()
    with pytest.raises(InterruptedError):
        puller(cached=False)
    assert not puller.temporary.exists()


def fails_with_the_cache(puller, said: str) -> None:
    """Let the stand-in say something and fail, unless it is told to pull past the cache."""
    puller.fake.serve(PIN, SOUND)
    puller.blobs()
    puller.fake.behave(f'if [ "$past_cache" ]; then {COPY}; else echo "{said}"; exit 255; fi')


def test_a_failure_that_no_retry_mends_is_tried_once_more_past_the_cache(puller):
    fails_with_the_cache(puller, "FATAL: broken")
    puller()
    assert len(puller.fake.pulls) == 2
    assert puller.notes[0].startswith("attempt 1 failed, trying again: ")


def test_a_failure_for_which_the_cache_is_no_reason_is_not_tried_past_it(puller):
    fails_with_the_cache(puller, "write /x: no space left on device")
    with pytest.raises(PullFailed, match="the disk is full"):
        puller()
    assert len(puller.fake.pulls) == 1


def test_a_damaged_layer_that_a_pull_fails_with_is_moved_aside(puller):
    fails_with_the_cache(puller, "FATAL: broken")
    damaged = puller.blobs()[-1]
    damaged.write_bytes(bytes(damaged.stat().st_size))
    puller()
    assert not damaged.exists()
    assert "a layer in Apptainer's cache is not what its name says" in puller.notes[1]


def test_the_last_attempt_goes_past_the_cache(puller):
    fails_with_the_cache(puller, "connection reset by peer")
    puller()
    assert len(puller.fake.pulls) == DISK.pull_attempts
    assert len(puller.notes) == DISK.pull_attempts - 1
    assert puller.temporary.read_bytes() == SOUND


@pytest.mark.parametrize("may_link", [True, False])
def test_a_copy_is_what_was_known_and_nothing_of_the_original_can_change_it(tmp_path, may_link):
    original, copy = tmp_path / "original", tmp_path / "copy"
    original.write_bytes(SOUND)
    facts.keep(known_of(SOUND, PIN))
    copied = copy_image(PIN, original, copy, may_link=may_link)

    assert copied.sha256 == hashlib.sha256(SOUND).hexdigest()
    assert copy.read_bytes() == SOUND
    assert copy.stat().st_mode & 0o022 == 0
    if not may_link:
        assert copy.stat().st_ino != original.stat().st_ino


@pytest.mark.parametrize("content", [SOUND[:-1] + b"x", SOUND + b"x", b""])
def test_nothing_is_copied_that_is_not_known(tmp_path, content):
    original, copy = tmp_path / "original", tmp_path / "copy"
    original.write_bytes(content)
    facts.keep(known_of(SOUND, PIN))
    assert copy_image(PIN, original, copy) is None
    assert not copy.exists()


def test_what_was_refuted_is_not_copied(tmp_path):
    original = tmp_path / "original"
    original.write_bytes(SOUND)
    facts.keep(known_of(SOUND, PIN, refuted="it differs"))
    assert copy_image(PIN, original, tmp_path / "copy") is None


def test_what_is_no_file_or_not_there_is_not_copied(tmp_path):
    facts.keep(known_of(SOUND, PIN))
    (tmp_path / "real").write_bytes(SOUND)
    (tmp_path / "link").symlink_to("real")
    assert copy_image(PIN, tmp_path / "link", tmp_path / "copy") is None
    assert copy_image(PIN, tmp_path / "none", tmp_path / "copy") is None


def test_what_is_known_of_an_image_is_what_it_was_obtained_for(puller):
    puller.fake.serve(PIN, SOUND)
    facts.keep_index(DIGEST, {PIN.platform: PIN.digest})
    wanted = replace(PIN, digest=PIN.digest)
    fact = fact_of(wanted, puller(cached=False))

    assert (fact.sha256, fact.size) == (hashlib.sha256(SOUND).hexdigest(), len(SOUND))
    assert (fact.digest, fact.platform, fact.pinned) == (PIN.digest, PIN.platform, PIN.url)
    assert fact.is_about(PIN)
    assert not fact.refuted
