"""Blobs of a registry as iterators: restarted, abandoned, redirected, and never with a login for another host."""

from __future__ import annotations

import threading
import time

import pytest

from snakemake_apptainer_freshness.errors import (
    ConnectionFailed,
    DamagedAnswer,
    NotFound,
    PolicyRefused,
    RegistryError,
    Unauthorized,
)
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.registry.resolver import Resolver, pulled
from tests.support.lab import QUICK, Lab
from tests.support.replies import Reply
from tests.support.simulator import Simulator

BLOB = bytes(range(256)) * 2000
DIGEST = Digest.of(BLOB)
PATH = f"/v2/team/tool/blobs/{DIGEST}"


@pytest.fixture
def lab(tmp_path):
    with Lab(tmp_path) as lab:
        yield lab


def fetch(lab: Lab, registry: Simulator) -> bytes:
    with Resolver(environ=lab.environ, limits=lab.limits) as resolver:
        return b"".join(resolver.blob(parse(f"docker://{registry.host}/team/tool:1"), DIGEST))


def test_pieces_come_in_their_order():
    def download(sink):
        sink.restart()
        for piece in (b"a", b"bc", b"", b"d"):
            sink(piece)

    assert list(pulled(download)) == [b"a", b"bc", b"d"]


def test_a_download_that_begins_anew_gives_each_byte_once():
    def download(sink):
        for pieces in ((b"abc", b"de"), (b"abcd",), (b"a", b"bcdefg", b"h")):
            sink.restart()
            for piece in pieces:
                sink(piece)

    assert b"".join(pulled(download)) == b"abcdefgh"


def test_the_error_of_a_download_is_raised_after_its_pieces():
    def download(sink):
        sink.restart()
        sink(b"a")
        raise ConnectionFailed("it broke")

    pieces = pulled(download)
    assert next(pieces) == b"a"
    with pytest.raises(ConnectionFailed):
        next(pieces)


def test_a_download_ends_when_nobody_reads_any_more():
    ended = threading.Event()

    def download(sink):
        sink.restart()
        try:
            while True:
                sink(bytes(1000))
        finally:
            ended.set()

    pieces = pulled(download)
    next(pieces)
    pieces.close()
    assert ended.wait(5)


def test_a_download_stays_a_few_pieces_ahead():
    given = []

    def download(sink):
        sink.restart()
        for number in range(1000):
            sink(b"x")
            given.append(number)

    pieces = pulled(download)
    next(pieces)
    time.sleep(0.2)
    assert len(given) < 40
    assert len(list(pieces)) == 999


def test_a_blob_is_downloaded(lab):
    registry = lab.registry("registry.example")
    registry.serve(PATH, BLOB)
    assert fetch(lab, registry) == BLOB


def test_a_blob_that_is_not_there_is_not_found(lab):
    registry = lab.registry("registry.example")
    registry.answer(PATH, Reply(status=404))
    with pytest.raises(NotFound):
        fetch(lab, registry)


def test_a_blob_that_breaks_off_is_asked_for_again(lab):
    registry = lab.registry("registry.example")
    registry.serve(PATH, BLOB)
    registry.answer(PATH, Reply(body=BLOB, cut=100_000), times=1)
    assert fetch(lab, registry) == BLOB
    assert len(registry.asked(PATH)) == 2


def rest_of(request):
    """The part of the blob that `request` asks for, as a registry with ranges serves it."""
    asked = request.headers.get("range", "")
    if not asked:
        return Reply(body=BLOB)
    start = int(asked.removeprefix("bytes=").removesuffix("-"))
    return Reply(
        status=206, body=BLOB[start:], headers=[("Content-Range", f"bytes {start}-{len(BLOB) - 1}/{len(BLOB)}")]
    )


@pytest.fixture
def breaking(tmp_path):
    """A lab that resumes from 50,000 bytes on, and a registry whose first answer breaks off after 100,000."""
    with Lab(tmp_path, QUICK._replace(resume_from=50_000)) as lab:
        registry = lab.registry("registry.example")
        registry.answer(PATH, rest_of)
        registry.answer(PATH, Reply(body=BLOB, cut=100_000), times=1)
        yield lab, registry


def test_a_blob_that_breaks_off_goes_on_where_it_broke_off(breaking):
    lab, registry = breaking
    assert fetch(lab, registry) == BLOB
    first, second = registry.asked(PATH)
    assert "range" not in first.headers
    assert 50_000 <= int(second.headers["range"].removeprefix("bytes=").removesuffix("-")) <= 100_000


def rest(lab: Lab, registry: Simulator, start: int) -> bytes:
    with Resolver(environ=lab.environ, limits=lab.limits) as resolver:
        return b"".join(resolver.blob(parse(f"docker://{registry.host}/team/tool:1"), DIGEST, start))


@pytest.mark.parametrize("start", [1, 49_999, 50_000, 250_000, len(BLOB) - 1, len(BLOB)])
def test_the_rest_of_a_blob_is_given_from_a_byte_on(breaking, start):
    """The first answer breaks off; what is a small part, or none, is not asked for as one."""
    lab, registry = breaking
    assert rest(lab, registry, start) == BLOB[start:]


def test_of_the_rest_of_a_long_blob_no_more_is_asked_for(tmp_path):
    with Lab(tmp_path, QUICK._replace(resume_from=50_000)) as lab:
        registry = lab.registry("registry.example")
        registry.answer(PATH, rest_of)
        assert rest(lab, registry, 60_000) == BLOB[60_000:]
        [request] = registry.asked(PATH)
        assert request.headers["range"] == "bytes=60000-"


@pytest.mark.parametrize("refusal", [Reply(body=BLOB), Reply(status=416)])
def test_the_rest_of_a_blob_is_what_is_left_where_a_registry_sends_all(tmp_path, refusal):
    with Lab(tmp_path, QUICK._replace(resume_from=50_000)) as lab:
        registry = lab.registry("registry.example")
        registry.serve(PATH, BLOB)
        registry.answer(PATH, lambda request: refusal if "range" in request.headers else None)
        assert rest(lab, registry, 60_000) == BLOB[60_000:]


def test_a_small_part_of_a_blob_is_not_worth_it(lab):
    registry = lab.registry("registry.example")
    registry.answer(PATH, rest_of)
    registry.answer(PATH, Reply(body=BLOB, cut=100_000), times=1)
    assert fetch(lab, registry) == BLOB
    assert [request.headers.get("range") for request in registry.asked(PATH)] == [None, None]


def test_a_part_behind_a_redirect_is_asked_for_at_the_storage(breaking):
    lab, registry = breaking
    storage = lab.registry("thief.example")
    storage.answer("/bucket/blob", rest_of)
    storage.answer("/bucket/blob", Reply(body=BLOB, cut=100_000), times=1)
    registry.answer(PATH, Reply(status=307, headers=[("Location", f"{storage.url}/bucket/blob")]))
    assert fetch(lab, registry) == BLOB
    assert "range" in storage.asked("/bucket/blob")[-1].headers


@pytest.mark.parametrize("refusal", [Reply(body=BLOB), Reply(status=416)])
def test_a_registry_without_parts_is_asked_for_all(breaking, refusal):
    lab, registry = breaking
    registry.answer(PATH, lambda request: refusal if "range" in request.headers else None)
    assert fetch(lab, registry) == BLOB


@pytest.mark.parametrize("place", ["bytes 0-9/10", "bytes 1000-1/2", "", "100000-"])
def test_another_part_than_the_one_that_was_asked_for_is_refused(breaking, place):
    lab, registry = breaking
    other = Reply(status=206, body=b"evil", headers=[("Content-Range", place)])
    registry.answer(PATH, lambda request: other if "range" in request.headers else None)
    with pytest.raises(DamagedAnswer, match="another part"):
        fetch(lab, registry)


def test_a_part_that_was_not_asked_for_is_refused(lab):
    registry = lab.registry("registry.example")
    registry.answer(PATH, Reply(status=206, body=b"evil", headers=[("Content-Range", "bytes 0-3/4")]))
    with pytest.raises(DamagedAnswer, match="another part"):
        fetch(lab, registry)


def test_a_login_is_for_the_registry_and_not_for_its_storage(lab):
    registry = lab.registry("registry.example", auth="basic", users={"alice": lab.password})
    storage = lab.registry("thief.example")
    location = storage.serve("/bucket/blob", BLOB)
    registry.answer(
        PATH, lambda request: Reply(status=307, headers=[("Location", location)]) if request.authorization else None
    )
    lab.log_in(registry.host)

    assert fetch(lab, registry) == BLOB
    assert lab.saw_secret(registry)
    assert not lab.saw_secret(storage)


def test_a_private_storage_of_a_public_registry_is_refused(lab):
    registry = lab.registry("registry.example")
    inside = lab.registry("inside.example", public=False)
    registry.answer(PATH, Reply(status=307, headers=[("Location", inside.serve("/x", BLOB))]))
    with pytest.raises(PolicyRefused):
        fetch(lab, registry)
    assert inside.requests == []


def test_a_blob_behind_a_login_says_so(lab):
    registry = lab.registry("registry.example", auth="basic", users={"alice": lab.password})
    with pytest.raises(Unauthorized):
        fetch(lab, registry)


def test_a_manifest_is_held_to_its_digest(lab):
    registry = lab.registry("registry.example")
    digest = Digest.of(b"{}")
    registry.serve(f"/v2/team/tool/manifests/{digest}", b"{}")
    lie = Digest.of(b"other")
    registry.serve(f"/v2/team/tool/manifests/{lie}", b"{}")
    with Resolver(environ=lab.environ, limits=lab.limits) as resolver:
        reference = parse(f"docker://{registry.host}/team/tool:1")
        assert resolver.manifest(reference, digest) == b"{}"
        with pytest.raises(RegistryError):
            resolver.manifest(reference, lie)
