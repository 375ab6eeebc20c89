"""The pins of a main process reach its jobs whole, or not at all."""

import base64
import contextlib
import hashlib
import json
import shlex
import types
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snakemake_apptainer_freshness.common.files import StatKey
from snakemake_apptainer_freshness.engine import handover
from snakemake_apptainer_freshness.engine.config import PINS_KEY
from snakemake_apptainer_freshness.engine.handover import Handover, decode, encode, hand_over
from snakemake_apptainer_freshness.errors import FreshnessError, UsageError
from snakemake_apptainer_freshness.freshness import FileHash
from snakemake_apptainer_freshness.settings import Mode, OnUnverified
from tests.support.pins import run_as

D = "sha256:" + "d" * 64
PINS = {
    "docker://quay.io/a/b:1": run_as("docker://quay.io/a/b:1", f"docker://quay.io/a/b@{D}", D),
    "https://q.io/x.sif": run_as("https://q.io/x.sif", digest=D),
    "shub://a/b": run_as("shub://a/b"),
}


KEY = StatKey(host="node", device=7, inode=8, size=9, mtime_ns=10**18, ctime_ns=10**18 + 1)
HASHES = {
    f"docker://quay.io/a/b@{D}": FileHash(sha256="5" * 64, stat=KEY),
    "https://q.io/x.sif": FileHash(sha256="d" * 64, writable_by_all=True),
}
HANDOVER = Handover(pins=PINS, mode=Mode.FROZEN, on_unverified=OnUnverified.WARN, hashes=HASHES)


def packed(pins, file=""):
    return encode(Handover(pins=pins, mode=Mode.LOCK, on_unverified=OnUnverified.REPAIR), file=file)


def no_file(name):
    raise AssertionError(f"no file was named, and {name} is read")


def content_of(pins):
    given = Handover(pins=pins, mode=Mode.LOCK, on_unverified=OnUnverified.REPAIR, hashes=HASHES)
    return handover.content_of(handover.rows_of(given))


def word(pins):
    table = {"mode": "lock", "on_unverified": "repair", "run": "", "pins": pins}
    return "v1." + base64.urlsafe_b64encode(zlib.compress(json.dumps(table).encode())).decode()


def test_what_was_encoded_is_decoded():
    assert decode(encode(HANDOVER), no_file) == HANDOVER
    assert decode(packed({}), no_file).pins == {}


def test_the_word_means_nothing_to_a_shell():
    assert shlex.quote(encode(HANDOVER).replace("=", "")) == encode(HANDOVER).replace("=", "")


def test_pins_of_a_file_and_those_beside_it_are_one_table():
    beside = {"docker://q.io/c:1": run_as("docker://q.io/c:1", f"docker://q.io/c@{D}", D)}
    content = content_of(PINS)
    name = hashlib.sha256(content).hexdigest()

    decoded = decode(packed(beside, name), {name: content}.__getitem__)
    assert decoded.pins == PINS | beside
    assert decoded.hashes == HASHES


@pytest.mark.parametrize("content", [content_of({}), content_of(PINS)[:-1], b"", zlib.compress(b"[" * 100_000)])
def test_a_file_that_is_not_the_one_that_was_written_is_refused(content):
    name = hashlib.sha256(content_of(PINS)).hexdigest()
    with pytest.raises(UsageError, match="not the one that the main process wrote"):
        decode(packed({}, name), lambda _: content)


@pytest.mark.parametrize("content", [b"", zlib.compress(b"[1]"), zlib.compress(b"[" * 100_000)])
def test_a_file_without_pins_is_refused(content):
    with pytest.raises(UsageError, match="damaged"):
        decode(packed({}, hashlib.sha256(content).hexdigest()), lambda _: content)


@pytest.mark.parametrize("name", ["../../etc/passwd", "A" * 64, "a" * 63])
def test_what_is_no_hash_names_no_file(name):
    with pytest.raises(UsageError, match="is no SHA-256"):
        decode(packed({}, name), no_file)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "v2.x",
        "v1.",
        "v1.!!!",
        encode(HANDOVER)[:-8],
        word([1]),
        word({"docker://q.io/a": 1}),
        word({"docker://q.io/a": [f"docker://evil.io/a@{D}", D]}),
        word({"docker://q.io/a:1": ["docker://q.io/a:2", ""]}),
        word({"docker://q.io/a:1": [f"docker://q.io/a@{D}", D, "5" * 63, False]}),
        word({"docker://q.io/a:1": [f"docker://q.io/a@{D}", D, "5" * 64, 0]}),
        word({"docker://q.io/a:1": [f"docker://q.io/a@{D}", D, "5" * 64]}),
        word({"docker://q.io/a:1": [f"docker://q.io/a@{D}", D, "5" * 64, False, "node", 1, 2, 3, 4]}),
        word({"docker://q.io/a:1": [f"docker://q.io/a@{D}", D, "5" * 64, False, "node", 1, 2, 3, 4, "5"]}),
        word({"docker://q.io/a:1": [f"docker://q.io/a@{D}", D, None]}),
        word({"docker://q.io/a:1": [f"docker://q.io/a@{D}", ""]}),
        word({"docker://q.io/a:1": ["x;touch /tmp/y", D]}),
        word({"a": ["b", D]}),
        "v1." + base64.urlsafe_b64encode(zlib.compress(b" " * 50_000_000)).decode(),
    ],
)
def test_a_damaged_or_invented_word_is_refused(text):
    with pytest.raises(FreshnessError):
        decode(text, no_file)


@given(st.text() | st.binary().map(lambda b: "v1." + base64.urlsafe_b64encode(b).decode()))
def test_any_text_is_pins_or_an_error_of_ours(text):
    with contextlib.suppress(FreshnessError):
        decode(text, no_file)


def test_a_later_word_replaces_the_earlier_one_and_nothing_else():
    settings = types.SimpleNamespace(config_args=["a=1"])

    hand_over(settings, "one")
    hand_over(settings, "two")

    assert settings.config_args == ["a=1", f"{PINS_KEY}=two"]
