"""Where the real Apptainer puts what it pulls, and that we look for it there."""

from __future__ import annotations

from dataclasses import replace

from snakemake_apptainer_freshness.apptainer import sif
from snakemake_apptainer_freshness.apptainer.cache import CacheFolder, keys
from snakemake_apptainer_freshness.common.sharing import share
from snakemake_apptainer_freshness.image.platform import Platform
from tests.support import images
from tests.support.homes import bare_image
from tests.support.images import multi_arch
from tests.support.repositories import Repository

HERE = str(Platform.here())
ELSEWHERE = "arm64" if images.native_architecture() == "amd64" else "amd64"


def test_a_single_manifest_lies_under_the_predicted_key(home, repository):
    pin = repository("single").pin(bare_image("single"))
    home.apptainer("pull", "image.sif", pin.url)
    assert list(home.cache.entries()) == list(home.cache.candidates(pin))
    assert len(list(home.cache.entries())) == 1


def test_an_index_lies_under_the_predicted_key(home, repository):
    pin = repository("index").pin(multi_arch(bare_image("index"), ELSEWHERE))
    home.apptainer("pull", "image.sif", pin.url)
    assert list(home.cache.entries()) == list(home.cache.candidates(pin))
    assert len(list(home.cache.entries())) == 1


def test_another_architecture_lies_under_the_predicted_key(home, repository):
    content = multi_arch(bare_image("other machine"), ELSEWHERE)
    pin = repository("other").pin(content, f"linux/{ELSEWHERE}")
    home.apptainer("pull", "--arch", ELSEWHERE, "image.sif", pin.url)
    assert list(home.cache.entries()) == list(home.cache.candidates(pin))
    assert list(home.cache.candidates(replace(pin, platform=Platform.parse(HERE)))) == []


def test_an_architecture_in_the_path_gives_the_predicted_key(home, shared_registry):
    # The path counts only behind a host with a dot, so the registry goes by its address.
    content = bare_image("arm", architecture="arm64", variant="v8")
    pin = Repository(shared_registry, "arm64v8/alpine").pin(content, "linux/arm64")
    home.apptainer("pull", "image.sif", pin.url)
    assert list(home.cache.entries()) == list(home.cache.candidates(replace(pin, platform=Platform.parse(HERE))))
    assert len(list(home.cache.entries())) == 1


def test_a_tags_image_lies_under_the_key_of_its_digest(home, repository):
    pin = repository("tag").pin(bare_image("by tag"))
    home.apptainer("pull", "image.sif", pin.reference.text)
    (entry,) = home.cache.candidates(pin)
    assert sif.read(entry).pulled_digest is None


def test_the_cache_is_where_we_say_for_every_variable(home, repository):
    pin = repository("where").pin(bare_image("where"))
    for name in ("APPTAINER_CACHEDIR", "SINGULARITY_CACHEDIR", "APPTAINER_CONFIGDIR"):
        environment = {k: v for k, v in home.environment.items() if k != "APPTAINER_CONFIGDIR"}
        environment[name] = str(home.folder / name)
        there = replace(home, environment=environment)
        there.apptainer("pull", "--force", "image.sif", pin.url)
        cache = CacheFolder.of(environment)
        assert cache is not None
        assert len(list(cache.candidates(pin))) == 1
        assert cache.damaged_blobs(pin.manifest) == []


def test_a_real_image_says_all_that_we_read(home, repository):
    pin = repository("facts").pin(bare_image("facts"))
    home.apptainer("pull", "image.sif", pin.url)
    image = sif.read(home.folder / "image.sif")
    assert image.pulled_digest == pin.digest
    assert image.architecture == images.native_architecture()
    assert image.builder == f"apptainer {home.apptainer('--version').split()[-1]}"
    assert image.squashfs_size is not None
    assert keys(pin)


def test_an_image_takes_its_room_once_beside_apptainers_cache(home, repository):
    pin = repository("once").pin(bare_image("once"))
    image = home.fetched(pin)
    [entry] = [path for path in home.cache.candidates(pin) if path.exists()]
    assert takes_room_once(entry, image)
    image.unlink()
    again = home.fetched(pin)
    assert takes_room_once(entry, again)
    entry.unlink()
    assert home.message(again) == "once"


def takes_room_once(one, other):
    """Whether two files are one, or share their bytes, which only file systems with reflinks can."""
    return one.samefile(other) or can_share(one.parent)


def can_share(folder):
    """Whether the file system of `folder` makes reflinks."""
    (folder / "source").write_bytes(b"x")
    try:
        with (folder / "source").open("rb") as source, (folder / "target").open("wb") as target:
            return share(source.fileno(), target.fileno())
    finally:
        (folder / "source").unlink()
        (folder / "target").unlink()
