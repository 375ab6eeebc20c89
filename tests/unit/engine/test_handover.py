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

from snakemake_apptainer_freshness.engine.config import PINS_KEY
from snakemake_apptainer_freshness.engine.handover import Handover, decode, encode, hand_over
from snakemake_apptainer_freshness.errors import FreshnessError, UsageError
from snakemake_apptainer_freshness.settings import Mode, OnUnverified
from tests.support.pins import run_as

D = "sha256:" + "d" * 64
PINS = {
    "docker://quay.io/a/b:1": run_as("docker://quay.io/a/b:1", f"docker://quay.io/a/b@{D}", D),
    "https://q.io/x.sif": run_as("https://q.io/x.sif", digest=D),
    "shub://a/b": run_as("shub://a/b"),
}


LUGGAGE = Handover(pins=PINS, mode=Mode.FROZEN, on_unverified=OnUnverified.WARN)


def packed(pins):
    return encode(Handover(pins=pins, mode=Mode.LOCK, on_unverified=OnUnverified.REPAIR))


def word(pins):
    table = {"mode": "lock", "on_unverified": "repair", "pins": pins}
    return "v1." + base64.urlsafe_b64encode(zlib.compress(json.dumps(table).encode())).decode()


def test_what_was_encoded_is_decoded():
    assert decode(encode(LUGGAGE)) == LUGGAGE
    assert decode(packed({})).pins == {}


def test_the_word_means_nothing_to_a_shell():
    assert shlex.quote(encode(LUGGAGE).replace("=", "")) == encode(LUGGAGE).replace("=", "")


def many(count):
    found = {}
    for n in range(count):
        digest = f"sha256:{hashlib.sha256(str(n).encode()).hexdigest()}"
        name = f"docker://quay.io/biocontainers/tool{n}"
        text = f"{name}:{n}--hdfd78af_0"
        found[text] = run_as(text, f"{name}@{digest}", digest)
    return found


def test_a_thousand_images_fit_on_a_command_line():
    assert len(packed(many(1000))) < 96 * 1024


def test_more_images_than_a_command_line_holds_are_refused():
    with pytest.raises(UsageError, match="handing 10000 pinned images"):
        packed(many(10000))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "v2.x",
        "v1.",
        "v1.!!!",
        encode(LUGGAGE)[:-8],
        word([1]),
        word({"docker://q.io/a": 1}),
        word({"docker://q.io/a": [f"docker://evil.io/a@{D}", D]}),
        word({"docker://q.io/a:1": ["docker://q.io/a:2", ""]}),
        word({"docker://q.io/a:1": [f"docker://q.io/a@{D}", ""]}),
        word({"docker://q.io/a:1": ["x;touch /tmp/y", D]}),
        word({"a": ["b", D]}),
        "v1." + base64.urlsafe_b64encode(zlib.compress(b" " * 50_000_000)).decode(),
    ],
)
def test_a_damaged_or_invented_word_is_refused(text):
    with pytest.raises(FreshnessError):
        decode(text)


@given(st.text() | st.binary().map(lambda b: "v1." + base64.urlsafe_b64encode(b).decode()))
def test_any_text_is_pins_or_an_error_of_ours(text):
    with contextlib.suppress(FreshnessError):
        decode(text)


def test_a_later_word_replaces_the_earlier_one_and_nothing_else():
    settings = types.SimpleNamespace(config_args=["a=1"])

    hand_over(settings, "one")
    hand_over(settings, "two")

    assert settings.config_args == ["a=1", f"{PINS_KEY}=two"]
