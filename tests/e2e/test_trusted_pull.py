"""The trusted pull, the real Apptainer and a real registry: what is believed of its cache, and what is left behind."""

from __future__ import annotations

import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from snakemake_apptainer_freshness.actions.fetch import fetch
from snakemake_apptainer_freshness.apptainer import sif
from snakemake_apptainer_freshness.errors import PullFailed
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.settings import DISK
from snakemake_apptainer_freshness.store import pull, state
from snakemake_apptainer_freshness.store.prefix import image_path
from tests.support import images, layers, pins, sifs
from tests.support.homes import Home, bare_image
from tests.support.images import multi_arch, tiny_image
from tests.support.pins import flip_seven_bytes, forget_all
from tests.support.repositories import Repository
from tests.support.workflow import READS_MESSAGE

ELSEWHERE = "arm64" if images.native_architecture() == "amd64" else "amd64"


def test_a_fetched_image_runs_and_snakemake_finds_it_by_name(home, repository):
    pin = repository("tool").pin(tiny_image("fetched"))
    assert home.run(home.fetched(pin)) == "fetched"


def test_an_index_is_fetched_by_its_own_digest(home, repository):
    pin = repository("tool").pin(multi_arch(bare_image("one of two"), ELSEWHERE))
    image = home.fetched(pin)
    assert home.message(image) == "one of two"
    assert sif.read(image).pulled_digest == pin.digest != pin.manifest


def test_a_second_folder_needs_neither_registry_nor_apptainer(home, repository):
    pin = repository("tool").pin(bare_image("again"))
    first = home.fetched(pin)
    offline = replace(home, environment={**home.environment, "PATH": ""})
    (result,) = fetch([pin], home.folder / "second", environment=offline.environment)
    assert (result.outcome, result.fact.state) == ("copied", "verified")
    assert image_path(home.folder / "second", pin.url).read_bytes() == first.read_bytes()


def test_an_image_in_the_cache_that_we_have_no_record_of_is_pulled_again(home, repository):
    """Its label binds it to the digest; its bytes were never checked."""
    pin = repository("tool").pin(bare_image("unrecorded"))
    home.apptainer("pull", "image.sif", pin.url)
    (entry,) = home.cache.candidates(pin)
    flip_seven_bytes(entry)
    image = home.fetched(pin)
    assert home.message(image) == "unrecorded"
    assert [path.name.split(".")[1][:10] for path in entry.parent.glob(f"{entry.name}.quar*")] == ["quarantine"]


def test_an_entry_built_from_a_tag_is_moved_aside(home, repository):
    pin = repository("tool").pin(bare_image("by tag"))
    home.apptainer("pull", "image.sif", pin.reference.text)
    image = home.fetched(pin)
    assert sif.read(image).pulled_digest == pin.digest


def _replace_by_link(entry: Path) -> None:
    elsewhere = entry.with_name("elsewhere")
    elsewhere.write_bytes(entry.read_bytes().replace(b"docker", b"DOCKER"))
    entry.unlink()
    entry.symlink_to(elsewhere)


def _replace_by(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def replaced(entry: Path) -> None:
        entry.unlink()
        make(entry)

    return replaced


DAMAGES: dict[str, Callable[[Path], object]] = {
    "truncated": lambda entry: os.truncate(entry, entry.stat().st_size // 2),
    "emptied": lambda entry: os.truncate(entry, 0),
    "random": lambda entry: entry.write_bytes(os.urandom(100_000)),
    "seven bytes flipped": flip_seven_bytes,
    "another valid image": lambda entry: entry.write_bytes(sifs.pulled("quay.io/other/tool:1.0")),
    "folder": _replace_by(Path.mkdir),
    "fifo": _replace_by(os.mkfifo),
    "symbolic link": _replace_by_link,
    "world-writable and changed": lambda entry: (entry.chmod(0o777), flip_seven_bytes(entry)),
    "nothing known": lambda _: forget_all(),
    "fact damaged": lambda _: [path.write_bytes(b"{") for path in state.folder().rglob("*.json")],
}


@pytest.fixture(scope="module")
def damaged_home(tmp_path_factory, shared_registry):
    """A home whose cache holds one image that we pulled and recorded."""
    home = Home.of(tmp_path_factory.mktemp("damaged"))
    pin = Repository(shared_registry, "damaged/tool").pin(bare_image("sound"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_STATE_HOME", str(home.folder / "state"))
        home.fetched(pin)
    return home, pin


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_of_apptainers_cache_is_never_used(damaged_home, damage, monkeypatch):
    home, pin = damaged_home
    monkeypatch.setenv("XDG_STATE_HOME", str(home.folder / "state"))
    (entry,) = home.cache.candidates(pin)
    DAMAGES[damage](entry)
    image = home.fetched(pin, f"after {damage}")
    assert home.message(image) == "sound"
    (entry,) = home.cache.candidates(pin)
    assert entry.read_bytes() == image.read_bytes()


def test_a_damaged_layer_in_apptainers_cache_is_never_built_from(home, repository):
    """Of the right size, so Apptainer takes it unseen; a valid layer, so nothing notices."""
    content = bare_image("good")
    pin = repository("tool").pin(content)
    home.apptainer("pull", "image.sif", pin.url)
    good, evil = content.layers[-1], bare_image("evil").layers[-1]
    layer = home.cache.blob(Digest.parse(good.digest))
    assert layer.stat().st_size == len(evil.content)
    layer.write_bytes(evil.content)

    (entry,) = home.cache.candidates(pin)
    entry.unlink()
    image = home.fetched(pin)

    assert home.message(image) == "good"
    assert list(layer.parent.glob(f"{layer.name}.quarantine-*"))


def test_a_cache_that_is_turned_off_is_left_alone(home, repository):
    pin = repository("tool").pin(bare_image("no cache"))
    there = replace(home, environment={**home.environment, "APPTAINER_DISABLE_CACHE": "1"})
    assert home.message(there.fetched(pin)) == "no cache"
    assert list(home.cache.candidates(pin)) == []


def test_a_digest_that_is_gone_is_said(home, repository):
    pin = repository("tool").pin(bare_image("gone"))
    gone = replace(
        pin, pinned=parse(pin.url.replace(pin.digest.hex, "0" * 64)), digest=Digest.parse("sha256:" + "0" * 64)
    )
    (result,) = fetch([gone], home.prefix, environment=home.environment)
    assert isinstance(result.error, PullFailed)
    assert "the registry no longer has it" in result.error.message


def test_a_registry_that_is_down_is_tried_again_and_then_said(home, tmp_path, monkeypatch):
    monkeypatch.setattr(pull, "DISK", DISK._replace(pull_backoff=0.01))
    wanted = pins.pin()
    down = replace(wanted, pinned=parse(wanted.url.replace("quay.io", "127.0.0.1:1")))
    (result,) = fetch([down], home.prefix, environment=home.environment)
    assert isinstance(result.error, PullFailed)
    assert "the registry could not be reached" in result.error.message


def test_eight_real_runs_at_once_pull_each_image_once(home, repository):
    wanted = [repository(f"tool{number}").pin(bare_image(f"number {number}")) for number in range(2)]
    code = (
        "import pickle, sys; from pathlib import Path; from snakemake_apptainer_freshness.actions.fetch import fetch;"
        "pins, prefix, environment = pickle.load(sys.stdin.buffer);"
        "results = fetch(pins, prefix, environment=environment);"
        "print(sum(r.outcome == 'pulled' for r in results)); sys.exit(any(r.error for r in results))"
    )
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(8)
    ]
    said = pickle.dumps((wanted, home.prefix, home.environment))
    answers = [process.communicate(said, timeout=120) for process in runs]
    assert [process.returncode for process in runs] == [0] * 8, answers
    assert sum(int(out) for out, _ in answers) == len(wanted)
    assert [home.message(image_path(home.prefix, pin.url)) for pin in wanted] == ["number 0", "number 1"]


def test_a_real_pull_that_is_interrupted_leaves_nothing_half_written(home, repository, tmp_path):
    layer = layers.Layer.of({"big": random.Random(1).randbytes(30_000_000)}, compress=False)
    content = images.Image(layers=(layer,))
    pin = repository("tool").pin(content)
    (tmp_path / "tmp").mkdir()
    environment = home.environment | {"TMPDIR": str(tmp_path / "tmp")}
    code = (
        "import pickle, sys; from snakemake_apptainer_freshness.actions.fetch import fetch;"
        "pins, prefix, environment = pickle.load(sys.stdin.buffer); fetch(pins, prefix, environment=environment)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )
    assert process.stdin is not None
    process.stdin.write(pickle.dumps(([pin], home.prefix, environment)))
    process.stdin.close()
    for _ in range(300):
        if any(path.name.startswith("build-temp") for path in (tmp_path / "tmp").glob("*/*")):
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.stderr is not None
    assert process.wait(20) == 128 + signal.SIGTERM, process.stderr.read()
    process.stderr.close()
    assert list(home.prefix.iterdir()) == []
    assert list((tmp_path / "tmp").iterdir()) == []


_FETCH = """
import pickle, sys
from snakemake_apptainer_freshness.actions.fetch import fetch
pins, prefix, environment = pickle.load(sys.stdin.buffer)
(result,) = fetch(pins, prefix, environment=environment)
print(result.error)
print(sorted(path.name for path in prefix.iterdir()))
"""


@pytest.mark.parametrize("place", ["images", "tmp", "home/.apptainer"])
def test_a_disk_that_is_really_full_in_the_middle_of_a_pull(home, repository, place):
    """A file system of one megabyte, mounted in a user namespace of its own, which Apptainer needs here anyway."""
    layer = layers.Layer.of({"big": random.Random(2).randbytes(3_000_000)}, compress=False)
    pin = repository("tool").pin(images.Image(layers=(layer,)))
    for name in ("images", "tmp", "home/.apptainer"):
        (home.folder / name).mkdir(parents=True, exist_ok=True)
    mounted = 'mount -t tmpfs -o size=1m none "$1" && shift && exec "$@"'
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", mounted, "sh", home.folder / place]
    environment = home.environment | {"TMPDIR": str(home.folder / "tmp")}

    result = subprocess.run(
        [*command, sys.executable, "-c", _FETCH], env=environment, capture_output=True, check=False,
        input=pickle.dumps(([pin], home.prefix, environment)),
    )  # fmt: skip

    said = result.stdout.decode()
    assert f"cannot pull {pin.url}: the disk is full" in said, said + result.stderr.decode()
    assert "no space left on device" in said
    assert said.splitlines()[-1] == "[]"
    assert list((home.folder / "tmp").iterdir()) == []


@pytest.mark.parametrize("platforms", [1, 2])
def test_a_pull_asks_for_each_document_by_its_digest_once(repository, workspace, platforms):
    tool = repository()
    image = tiny_image("hello")
    content = multi_arch(image, "arm64") if platforms > 1 else image
    images.push(content, tool.registry.host, tool.name, "1.0")
    workspace.write("Snakefile", READS_MESSAGE.format(image=tool.reference))
    workspace.freshness("lock")
    shutil.rmtree(workspace.home / ".local", ignore_errors=True)  # the user who pulls has proven nothing yet
    tool.registry.clear()
    workspace.freshness("pull")

    asked = [path for method, path, _ in tool.our_requests() if method == "GET" and "/manifests/sha256:" in path]
    assert len(asked) == len(set(asked)) >= 1
