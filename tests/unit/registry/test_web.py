"""``https://`` images."""

import hashlib

import pytest

from snakemake_apptainer_freshness.errors import Denied, NotFound, PolicyRefused, Unauthorized, Unpullable
from snakemake_apptainer_freshness.freshness import RemoteState
from snakemake_apptainer_freshness.lockfile import Entry, Lock, dumps, loads
from tests.support.attacks import redirect
from tests.support.replies import Reply

SIF = b"#!/usr/bin/env run-singularity\n\0SIF_MAGIC\0" + b"content" * 50_000
OTHER = SIF + b"more"


@pytest.fixture
def server(lab):
    return lab.registry("registry.example")


def serve(server, body=SIF, **headers):
    return server.serve("/x.sif", body, *[(key.replace("_", "-"), value) for key, value in headers.items()])


def test_a_file_is_pinned_by_the_hash_of_its_content(lab, server):
    url = serve(server, ETag='"1"', Last_Modified="Mon, 01 Jan 2024 00:00:00 GMT")
    entry = lab.ask(url)
    assert str(entry.digest) == "sha256:" + hashlib.sha256(SIF).hexdigest()
    assert entry.pinned.text == url
    assert entry.hints == {"etag": '"1"', "last_modified": "Mon, 01 Jan 2024 00:00:00 GMT"}
    assert loads(dumps(Lock.of([entry]))) == Lock.of([entry])


def test_a_version_that_has_not_changed_costs_one_head(lab, server):
    entry = lab.ask(serve(server, ETag='"1"'))
    server.clear()
    assert lab.check(entry).state is RemoteState.CURRENT
    assert [request.method for request in server.requests] == ["HEAD"]


def test_a_version_that_changed_is_confirmed_by_its_content(lab, server):
    entry = lab.ask(serve(server, ETag='"1"'))
    serve(server, ETag='"2"')
    assert lab.check(entry).state is RemoteState.CURRENT
    serve(server, OTHER, ETag='"3"')
    fact = lab.check(entry)
    assert (fact.state, str(fact.digest)) == (RemoteState.MOVED, "sha256:" + hashlib.sha256(OTHER).hexdigest())


def test_a_server_that_says_nothing_cannot_be_checked_without_a_download(lab, server):
    entry = lab.ask(serve(server))
    server.clear()
    fact = lab.check(entry)
    assert fact.state is RemoteState.UNCHECKED
    assert "download" in fact.detail
    assert len(server.requests) == 1


def test_a_file_that_is_gone_is_lost(lab, server):
    entry = lab.ask(serve(server, ETag='"1"'))
    server.answer("/x.sif", Reply(status=404))
    assert lab.check(entry).state is RemoteState.LOST


@pytest.mark.parametrize(("status", "error"), [(404, NotFound), (410, NotFound), (401, Unauthorized), (403, Denied)])
def test_a_refusal_is_told_by_its_kind(lab, server, status, error):
    url = serve(server)
    server.answer("/x.sif", Reply(status=status))
    assert isinstance(lab.ask(url), error)


def test_a_login_page_in_place_of_the_file_is_not_pinned(lab, server):
    assert isinstance(lab.ask(serve(server, b"<html>please log in</html>")), Unpullable)


def test_a_download_that_broke_off_is_hashed_from_the_start_again(lab, server):
    url = serve(server)
    server.answer("/x.sif", Reply(body=SIF, cut=100_000, reset=True), method="GET", times=1)
    assert str(lab.ask(url).digest) == "sha256:" + hashlib.sha256(SIF).hexdigest()


def test_redirects_are_followed_to_other_hosts(lab, server):
    cdn = lab.registry("service.example")
    server.answer("/x.sif", redirect(cdn.serve("/real.sif", SIF)))
    assert isinstance(lab.ask(server.url + "/x.sif"), Entry)


def test_a_redirect_to_plain_http_is_refused(lab, server):
    server.answer("/x.sif", redirect("http://registry.example/x.sif"))
    assert isinstance(lab.ask(server.url + "/x.sif"), PolicyRefused)


def test_a_redirect_from_the_internet_into_a_private_network_is_refused(lab, server):
    inside = lab.registry("inside.test", public=False)
    server.answer("/x.sif", redirect(inside.serve("/x.sif", SIF)))
    assert isinstance(lab.ask(server.url + "/x.sif"), PolicyRefused)
    assert not inside.requests
