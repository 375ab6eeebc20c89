"""Faults and attacks while an image is fetched, one test each: what is not proven never gets the image's name."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace

import pytest

from snakemake_apptainer_freshness.actions.fetch import Result, fetch
from snakemake_apptainer_freshness.apptainer import program
from snakemake_apptainer_freshness.errors import LocalIOError, PullFailed, UnprovenImage
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.settings import DISK
from snakemake_apptainer_freshness.store import facts, pull
from snakemake_apptainer_freshness.store.prefix import image_path
from tests.support import sifs
from tests.support.fake_apptainer import COPY, FakeApptainer, python, unprivileged
from tests.support.pins import DIGEST, MANIFEST, OTHER, REPOSITORY, pin, put, record

FETCH = """
import json, sys
from pathlib import Path
from snakemake_apptainer_freshness.actions.fetch import fetch
from tests.support.pins import pin
{more}
(result,) = fetch([pin()], Path({prefix!r}), environment={environment!r})
print(result.outcome, result.fact.state, type(result.error).__name__, result.error)
"""


@pytest.fixture
def fake(tmp_path):
    return FakeApptainer(tmp_path / "fake")


@pytest.fixture
def prefix(tmp_path):
    return tmp_path / "images"


def refused(fake, prefix) -> Result:
    (result,) = fetch([pin()], prefix, environment=fake.environment)
    assert result.outcome == "failed"
    assert not image_path(prefix, pin().url).exists()
    assert list(prefix.iterdir()) == []
    return result


def run(prefix, environment, *, more: str = "", without_privileges: bool = False) -> str:
    """What a process of its own says that came of fetching."""
    command = python(FETCH.format(prefix=str(prefix), environment=environment, more=more))
    if without_privileges:
        command = [*unprivileged(), *command]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


# --- What is pulled is not what was asked for ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"<html>Not today</html>" * 100, "magic bytes"),
        (sifs.pulled(f"{REPOSITORY}@{DIGEST}")[:-1], "truncated"),
        (sifs.pulled(f"{REPOSITORY}:1.0"), "its label says that it was pulled as quay.io/team/tool:1.0"),
        (sifs.pulled(f"{REPOSITORY}@{OTHER}"), "its label says"),
        (sifs.pulled("", labels={}), "its label says that it was pulled as something else"),
        (sifs.pulled(f"{REPOSITORY}@{DIGEST}", architecture=sifs.ARM64), "it is for arm64, the pin is for amd64"),
    ],
    ids=["empty", "page", "truncated", "tag", "other digest", "no label", "wrong architecture"],
)
def test_an_image_that_is_not_provably_the_pins_is_refused(fake, prefix, content, reason):
    fake.serve(pin(), content)
    result = refused(fake, prefix)
    assert isinstance(result.error, UnprovenImage)
    assert reason in result.error.message


def test_a_library_that_serves_another_image(fake, prefix):
    """The library's client compares neither the answer nor the file with what was asked for."""
    named = replace(DIGEST, hex="77" * 32)
    wanted = replace(pin(), pinned=parse(f"library://team/tool:sha256.{named.hex}"), digest=named, content=named)
    fake.serve(wanted, sifs.pulled("", labels={}))
    (result,) = fetch([wanted], prefix, environment=fake.environment)
    assert isinstance(result.error, UnprovenImage)
    assert "which the reference does not name" in result.error.message


def test_a_world_writable_image_is_closed_before_it_is_hashed(fake, prefix):
    fake.serve(pin())
    fake.behave(f'{COPY}; chmod 0777 "$destination"')
    (result,) = fetch([pin()], prefix, environment=fake.environment)
    assert result.fact.state == "verified"
    assert image_path(prefix, pin().url).stat().st_mode & 0o022 == 0


def test_a_link_where_the_image_should_be_pulled_to(fake, prefix, tmp_path):
    fake.serve(pin())
    fake.behave(f'cp "$image" {tmp_path}/elsewhere; ln -s {tmp_path}/elsewhere "$destination"')
    result = refused(fake, prefix)
    assert isinstance(result.error, UnprovenImage)
    assert "is not that image: it is a symbolic link" in result.error.message


# --- Apptainer ----------------------------------------------------------------------------------------------


def test_apptainer_missing(prefix, tmp_path):
    (result,) = fetch([pin()], prefix, environment={"PATH": str(tmp_path)})
    assert "neither apptainer nor singularity is on PATH" in str(result.error)


def test_apptainer_too_old(prefix, tmp_path):
    fake = FakeApptainer(tmp_path / "old", version="apptainer version 0.9.0")
    assert "at least apptainer 1.0 is needed" in str(refused(fake, prefix).error)


def test_apptainer_failing_with_a_known_message(fake, prefix):
    fake.behave("echo 'FATAL:   While pulling: manifest unknown' >&2; exit 255")
    error = refused(fake, prefix).error
    assert isinstance(error, PullFailed)
    assert error.message.startswith(f"cannot pull {pin().url}: the registry no longer has it\n  FATAL:")
    assert error.hint == "keep every copy of the image that you have"


def test_apptainer_hanging(fake, prefix, monkeypatch):
    monkeypatch.setattr(program, "DISK", DISK._replace(pull_timeout=0.3, grace=0.2))
    fake.behave('echo half > "$destination"; sleep 300')
    assert "did not end in" in str(refused(fake, prefix).error)


def test_apptainer_killed_in_the_middle(fake, prefix):
    fake.serve(pin())
    fake.behave('head -c 5000 "$image" > "$destination"; kill -9 $$')
    assert "killed by signal 9" in str(refused(fake, prefix).error)


# --- The disk -----------------------------------------------------------------------------------------------


def test_a_disk_that_is_full_in_the_middle_of_a_pull(fake, prefix):
    """The kernel's own answer: what is written to ``/dev/full`` does not fit."""
    fake.serve(pin())
    fake.behave('head -c 5000 "$image" > "$destination"; cat "$image" > /dev/full || exit 255')
    error = refused(fake, prefix).error
    assert "the disk is full" in str(error)
    assert len(fake.pulls) == 1


def test_a_quota_that_is_reached_in_the_middle_of_a_pull(fake, prefix):
    fake.behave('echo half > "$destination"; echo "write /x: disk quota exceeded" >&2; exit 255')
    assert "the disk quota is used up" in str(refused(fake, prefix).error)


def test_a_limit_that_is_reached_while_the_record_is_written(fake, prefix):
    """A limit on the size of files that lets the image through, which another process writes, but not our record."""
    fake.serve(pin())
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))"
    fake.behave(f"ulimit -S -f unlimited; {COPY}")
    said = run(prefix, fake.environment, more=limited)
    assert said.startswith("failed absent LocalIOError cannot"), said
    assert list(prefix.iterdir()) == []


def test_a_read_only_prefix(fake, prefix):
    fake.serve(pin())
    prefix.mkdir(mode=0o555)
    said = run(prefix, fake.environment, without_privileges=True)
    assert said.startswith(f"failed absent LocalIOError cannot lock {image_path(prefix, pin().url)}: Permission denied")
    assert "make" in said
    assert "writable" in said


def test_a_read_only_prefix_with_good_images_is_no_reason_to_fail(fake, prefix):
    record(put(prefix, pin()), pin())
    prefix.chmod(0o555)
    assert run(prefix, fake.environment, without_privileges=True).startswith("kept verified")


def test_a_prefix_that_becomes_read_only_in_the_middle(fake, prefix, monkeypatch):
    fake.serve(pin())

    def refuse(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(facts, "keep", refuse)
    result = refused(fake, prefix)
    assert isinstance(result.error, LocalIOError)
    assert "Read-only file system" in result.error.message


def test_no_permission_on_the_shared_cache(fake, prefix, tmp_path):
    """Another user's cache is not used, not changed, and no reason to fail."""
    cache = tmp_path / "shared"
    (cache / "cache/oci-tmp").mkdir(parents=True)
    (cache / "cache/oci-tmp").chmod(0o555)
    fake.serve(pin())
    fake.environment |= {"APPTAINER_CACHEDIR": str(cache), "APPTAINER_DISABLE_CACHE": "0"}
    fake.behave(f'tr "\\0" " " < /proc/$$/cmdline >> {tmp_path}/arguments; {COPY}')
    assert run(prefix, fake.environment, without_privileges=True).startswith("pulled verified")
    assert "--disable-cache" in (tmp_path / "arguments").read_text()
    assert list((cache / "cache/oci-tmp").iterdir()) == []


def test_a_cache_that_cannot_be_locked(fake, prefix, tmp_path, monkeypatch):
    fake.serve(pin())
    fake.environment |= {"APPTAINER_CACHEDIR": str(tmp_path / "cache"), "APPTAINER_DISABLE_CACHE": "0"}
    real = pull.exclusive

    def refuse(path, **how):
        if path.parent.name == "oci-tmp":
            raise LocalIOError("cannot lock it")
        return real(path, **how)

    monkeypatch.setattr(pull, "exclusive", refuse)
    (result,) = fetch([pin()], prefix, environment=fake.environment)
    assert result.fact.state == "verified"


def test_another_program_that_fills_the_empty_slot_meanwhile(fake, prefix, tmp_path):
    """Apptainer says that it reused an image which was not there when we looked: where it is from is not known."""
    good = fake.serve(pin())
    facts.keep_index(DIGEST, {pin().platform: MANIFEST})
    (tmp_path / "evil").write_bytes(sifs.pulled(f"{REPOSITORY}@{DIGEST}", content=sifs.squashfs(filler=b"\x66")))
    fake.environment |= {"APPTAINER_CACHEDIR": str(tmp_path / "cache"), "APPTAINER_DISABLE_CACHE": "0"}
    evil = f'echo "INFO:    Using cached SIF image" >&2; cp {tmp_path}/evil "$destination"'
    fake.behave(f'if [ "$past_cache" ]; then {COPY}; else {evil}; fi')
    steps = []
    (result,) = fetch([pin()], prefix, environment=fake.environment, report=steps.append)
    assert result.fact.state == "verified"
    assert image_path(prefix, pin().url).read_bytes() == good
    assert any("another program put an image into it" in step.detail for step in steps)


def test_the_environment_of_the_user_reaches_apptainer(fake, prefix, tmp_path):
    fake.serve(pin())
    fake.behave(f"env > {tmp_path}/seen; {COPY}")
    fetch([pin()], prefix, environment={**fake.environment, "APPTAINER_DOCKER_USERNAME": "me"})
    assert "APPTAINER_DOCKER_USERNAME=me" in (tmp_path / "seen").read_text()
    assert os.environ.get("APPTAINER_DOCKER_USERNAME") is None
