"""The real Apptainer, a real registry, and what lies on the disk afterwards."""

from __future__ import annotations

import itertools
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from snakemake_apptainer_freshness.actions.check import check
from snakemake_apptainer_freshness.actions.fetch import fetch
from snakemake_apptainer_freshness.cache import ledger, obtain, sif
from snakemake_apptainer_freshness.cache.apptainer import CacheFolder, keys
from snakemake_apptainer_freshness.cache.classify import Pin
from snakemake_apptainer_freshness.cache.prefix import image_path
from snakemake_apptainer_freshness.errors import PullFailed
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.settings import DISK
from tests.support import images, pins, programs, sifs
from tests.support.images import Image, Index, multi_arch, push, tiny_image
from tests.support.pins import flip_seven_bytes
from tests.support.registry import RealRegistry

HERE = str(Platform.here())
ELSEWHERE = "arm64" if images.native_architecture() == "amd64" else "amd64"


@dataclass(frozen=True, kw_only=True)
class Home:
    """A user's home: an environment, an image folder, Apptainer's cache."""

    folder: Path
    environment: dict[str, str]
    cache: CacheFolder

    @property
    def prefix(self) -> Path:
        return self.folder / "images"

    def apptainer(self, *arguments: str) -> str:
        """What the real program says."""
        result = subprocess.run(
            [programs.find("apptainer"), *arguments],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout


def home_in(folder: Path) -> Home:
    """A new user's home in `folder`."""
    environment = programs.environment(folder / "home") | {"APPTAINER_NOHTTPS": "1"}
    cache = CacheFolder.of(environment)
    assert cache is not None
    return Home(folder=folder, environment=environment, cache=cache)


@pytest.fixture
def home(tmp_path) -> Home:
    return home_in(tmp_path)


@dataclass(frozen=True, kw_only=True)
class Repository:
    """A repository of the real registry."""

    registry: RealRegistry
    name: str

    def pin(self, content: Image | Index, platform: str = HERE) -> Pin:
        """Push `content` as ``latest``, and pin it."""
        digest = push(content, self.registry.host, self.name, "latest")
        members = content.children if isinstance(content, Index) else [content]
        manifests = {f"{m.os}/{m.architecture}": m.digest for m in members if isinstance(m, Image)}
        return Pin(
            url=f"docker://{self.registry.host}/{self.name}@{digest}",
            reference=f"docker://{self.registry.host}/{self.name}:latest",
            digest=Digest.parse(digest),
            manifest=Digest.parse(manifests[platform]),
            platform=platform,
        )


_numbers = itertools.count()


@pytest.fixture
def repository(shared_registry) -> Callable[[str], Repository]:
    """Makes repositories that no other test uses."""
    return lambda name: Repository(registry=shared_registry, name=f"cache{next(_numbers)}/{name}")


def test_a_single_manifest_lies_under_the_predicted_key(home, repository):
    pin = repository("single").pin(tiny_image("single"))
    home.apptainer("pull", "image.sif", pin.url)
    assert list(home.cache.entries()) == list(home.cache.candidates(pin))
    assert len(list(home.cache.entries())) == 1


def test_an_index_lies_under_the_predicted_key(home, repository):
    pin = repository("index").pin(multi_arch(tiny_image("index"), ELSEWHERE))
    home.apptainer("pull", "image.sif", pin.url)
    assert list(home.cache.entries()) == list(home.cache.candidates(pin))
    assert len(list(home.cache.entries())) == 1


def test_another_architecture_lies_under_the_predicted_key(home, repository):
    content = multi_arch(tiny_image("other machine"), ELSEWHERE)
    pin = repository("other").pin(content, f"linux/{ELSEWHERE}")
    home.apptainer("pull", "--arch", ELSEWHERE, "image.sif", pin.url)
    assert list(home.cache.entries()) == list(home.cache.candidates(pin))
    assert list(home.cache.candidates(replace(pin, platform=HERE))) == []


def test_an_architecture_in_the_path_gives_the_predicted_key(home, shared_registry):
    # The path counts only behind a host with a dot, so the registry goes by its address.
    content = tiny_image("arm", architecture="arm64", variant="v8")
    pin = Repository(registry=shared_registry, name="arm64v8/alpine").pin(content, "linux/arm64")
    home.apptainer("pull", "image.sif", pin.url)
    assert list(home.cache.entries()) == list(home.cache.candidates(replace(pin, platform=HERE)))
    assert len(list(home.cache.entries())) == 1


def test_a_tags_image_lies_under_the_key_of_its_digest(home, repository):
    pin = repository("tag").pin(tiny_image("by tag"))
    home.apptainer("pull", "image.sif", pin.reference)
    (entry,) = home.cache.candidates(pin)
    assert sif.read(entry).pulled_digest is None


def test_the_cache_is_where_we_say_for_every_variable(home, repository):
    pin = repository("where").pin(tiny_image("where"))
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
    pin = repository("facts").pin(tiny_image("facts"))
    home.apptainer("pull", "image.sif", pin.url)
    image = sif.read(home.folder / "image.sif")
    assert image.pulled_digest == pin.digest
    assert image.architecture == images.native_architecture()
    assert image.builder == f"apptainer {home.apptainer('--version').split()[-1]}"
    assert image.squashfs_size is not None
    assert keys(pin)


# --- The trusted pull ---------------------------------------------------------------------------------------


def run(home: Home, image: Path | str) -> str:
    """What running the image prints."""
    return home.apptainer("-q", "run", *programs.apptainer_args(), str(image)).strip()


def fetched(home: Home, pin: Pin, folder: str = "images") -> Path:
    """The image of `pin` after a fetch that must succeed."""
    (result,) = fetch([pin], home.folder / folder, environment=home.environment)
    assert result.error is None, result.error
    assert result.fact.state == "verified"
    assert check([pin], home.folder / folder, full=True)[pin.url].state == "verified"
    return image_path(home.folder / folder, pin.url)


def test_a_fetched_image_runs_and_snakemake_finds_it_by_name(home, repository):
    pin = repository("tool").pin(tiny_image("fetched"))
    assert run(home, fetched(home, pin)) == "fetched"


def test_an_index_is_fetched_by_its_own_digest(home, repository):
    pin = repository("tool").pin(multi_arch(tiny_image("one of two"), ELSEWHERE))
    image = fetched(home, pin)
    assert run(home, image) == "one of two"
    assert sif.read(image).pulled_digest == pin.digest != pin.manifest


def test_a_second_folder_needs_neither_registry_nor_apptainer(home, repository):
    pin = repository("tool").pin(tiny_image("again"))
    first = fetched(home, pin)
    offline = replace(home, environment={**home.environment, "PATH": ""})
    (result,) = fetch([pin], home.folder / "second", environment=offline.environment)
    assert (result.action, result.fact.state) == ("copied", "verified")
    assert image_path(home.folder / "second", pin.url).read_bytes() == first.read_bytes()


def test_an_image_in_the_cache_that_we_have_no_record_of_is_pulled_again(home, repository):
    """Its label binds it to the digest; its bytes nobody has ever checked."""
    pin = repository("tool").pin(tiny_image("unrecorded"))
    home.apptainer("pull", "image.sif", pin.url)
    (entry,) = home.cache.candidates(pin)
    flip_seven_bytes(entry)
    image = fetched(home, pin)
    assert run(home, image) == "unrecorded"
    assert [path.name.split(".")[1][:10] for path in entry.parent.glob(f"{entry.name}.quar*")] == ["quarantine"]


def test_an_entry_built_from_a_tag_is_moved_aside(home, repository):
    pin = repository("tool").pin(tiny_image("by tag"))
    home.apptainer("pull", "image.sif", pin.reference)
    image = fetched(home, pin)
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
    "record removed": lambda entry: ledger.path_of(entry).unlink(),
    "record damaged": lambda entry: ledger.path_of(entry).write_bytes(b"{"),
}


@pytest.fixture(scope="module")
def damaged_home(tmp_path_factory, shared_registry):
    """A home whose cache holds one image that we pulled and recorded."""
    home = home_in(tmp_path_factory.mktemp("damaged"))
    pin = Repository(registry=shared_registry, name="damaged/tool").pin(tiny_image("sound"))
    fetched(home, pin)
    return home, pin


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_of_apptainers_cache_is_never_used(damaged_home, damage):
    home, pin = damaged_home
    (entry,) = home.cache.candidates(pin)
    DAMAGES[damage](entry)
    image = fetched(home, pin, f"after {damage}")
    assert run(home, image) == "sound"
    (entry,) = home.cache.candidates(pin)
    assert entry.read_bytes() == image.read_bytes()


def test_a_damaged_layer_in_apptainers_cache_is_never_built_from(home, repository):
    """Of the right size, so Apptainer takes it unseen; a valid layer, so nothing notices."""
    content = tiny_image("good")
    pin = repository("tool").pin(content)
    home.apptainer("pull", "image.sif", pin.url)
    good, evil = content.layers[-1], tiny_image("evil").layers[-1]
    layer = home.cache.blob(Digest.parse(good.digest))
    assert layer.stat().st_size == len(evil.content)
    layer.write_bytes(evil.content)

    (entry,) = home.cache.candidates(pin)
    entry.unlink()
    image = fetched(home, pin)

    assert run(home, image) == "good"
    assert list(layer.parent.glob(f"{layer.name}.quarantine-*"))


def test_a_cache_that_is_turned_off_is_left_alone(home, repository):
    pin = repository("tool").pin(tiny_image("no cache"))
    there = replace(home, environment={**home.environment, "APPTAINER_DISABLE_CACHE": "1"})
    assert run(home, fetched(there, pin)) == "no cache"
    assert list(home.cache.candidates(pin)) == []


def test_a_digest_that_is_gone_is_said(home, repository):
    pin = repository("tool").pin(tiny_image("gone"))
    gone = replace(pin, url=pin.url.replace(pin.digest.hex, "0" * 64), digest=Digest.parse("sha256:" + "0" * 64))
    (result,) = fetch([gone], home.prefix, environment=home.environment)
    assert isinstance(result.error, PullFailed)
    assert "the registry no longer has it" in result.error.message


def test_a_registry_that_is_down_is_tried_again_and_then_said(home, tmp_path, monkeypatch):
    monkeypatch.setattr(obtain, "DISK", replace(DISK, pull_backoff=0.01))
    wanted = pins.pin()
    down = replace(wanted, url=wanted.url.replace("quay.io", "127.0.0.1:1"))
    (result,) = fetch([down], home.prefix, environment=home.environment)
    assert isinstance(result.error, PullFailed)
    assert "the registry could not be reached" in result.error.message


def test_eight_real_runs_at_once_pull_each_image_once(home, repository):
    wanted = [repository(f"tool{number}").pin(tiny_image(f"number {number}")) for number in range(2)]
    code = (
        "import pickle, sys; from pathlib import Path; from snakemake_apptainer_freshness.actions.fetch import fetch;"
        "pins, prefix, environment = pickle.load(sys.stdin.buffer);"
        "results = fetch(pins, prefix, environment=environment);"
        "print(sum(r.action == 'pulled' for r in results)); sys.exit(any(r.error for r in results))"
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
    assert [run(home, image_path(home.prefix, pin.url)) for pin in wanted] == ["number 0", "number 1"]


def test_a_real_pull_that_is_interrupted_leaves_nothing_half_written(home, repository, tmp_path):
    layer = images.Layer.of({"big": random.Random(1).randbytes(30_000_000)}, compress=False)
    content = replace(tiny_image("big"), layers=(images.busybox_layer(), layer))
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


# --- The poisoned cache -------------------------------------------------------------------------------------


class LyingRegistry:
    """Passes on what another registry says, but for what HEAD and GET are to be told of one manifest.

    The first lie need not be one: a tag that moves between the two requests looks the same.
    """

    def __init__(self, truth: str, manifest: str, *, head: str, get: str) -> None:
        answers = {"HEAD": head, "GET": get}

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                path = self.path.replace(f"/manifests/{manifest}", f"/manifests/{answers[self.command]}")
                headers = {
                    key: ", ".join(self.headers.get_all(key, [])) for key in self.headers if key.lower() != "host"
                }
                request = Request(f"http://{truth}{path}", headers=headers, method=self.command)
                try:
                    answer = urlopen(request)
                except HTTPError as error:
                    answer = error
                with answer:
                    self.send_response(answer.status)
                    for key, value in answer.headers.items():
                        if key.lower() not in ("connection", "transfer-encoding"):
                            self.send_header(key, value)
                    self.end_headers()
                    self.wfile.write(answer.read())

            do_GET = do_HEAD  # noqa: N815  the name that the server looks for

            def log_message(self, *_: object) -> None:
                """Nothing to say."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def test_a_cache_poisoned_by_a_tag_that_moved_between_two_requests(home, repository):
    """The story of docs/cache.md: what Apptainer alone runs for a pinned digest, and what we run."""
    there = repository("tool")
    honest = there.pin(tiny_image("what the digest names"))
    evil = there.pin(tiny_image("something else"))

    # Somebody runs the tag once, through a registry or a mirror where it moves at the wrong moment.
    with LyingRegistry(there.registry.host, "latest", head=str(honest.digest), get=str(evil.digest)) as liar:
        home.apptainer("pull", "image.sif", f"docker://{liar.host}/{there.name}:latest")

    # Apptainer alone, asked for the digest, from the honest registry:
    assert run(home, honest.url) == "something else"
    home.apptainer("pull", "alone.sif", honest.url)
    assert run(home, "alone.sif") == "something else"

    # With us:
    image = fetched(home, honest)
    assert run(home, image) == "what the digest names"
    # And Apptainer's own cache is mended on the way.
    assert run(home, honest.url) == "what the digest names"


def test_a_registry_that_lies_about_a_digest(home, repository):
    there = repository("tool")
    honest, evil = there.pin(tiny_image("honest")), there.pin(tiny_image("evil"))
    with LyingRegistry(there.registry.host, str(honest.digest), head=str(honest.digest), get=str(evil.digest)) as liar:
        lied_to = replace(honest, url=f"docker://{liar.host}/{there.name}@{honest.digest}")
        (result,) = fetch([lied_to], home.prefix, environment=home.environment)
    assert result.action == "failed"
    assert isinstance(result.error, PullFailed)
    assert list(home.prefix.iterdir()) == []
