"""What it costs."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator

from snakemake_apptainer_freshness.errors import FreshnessError, TimedOut
from snakemake_apptainer_freshness.lockfile import Entry
from tests.support.attacks import (
    MANIFESTS,
    REPOSITORY,
    honest,
    redirect,
)
from tests.support.lab import Lab, manifest
from tests.support.replies import Reply
from tests.support.simulator import OCI_MANIFEST


def endless_body(lab: Lab) -> bool:
    """A manifest that never ends: memory fills up."""
    registry, reference = honest(lab)
    sent = []

    def pieces() -> Iterator[bytes]:
        for _ in range(500):
            sent.append(65536)
            yield b"x" * 65536

    headers = [("Content-Type", OCI_MANIFEST)]
    registry.answer(MANIFESTS, lambda _: Reply(headers=headers, chunks=pieces()), method="GET")
    lab.ask(reference)
    return sum(sent) > 24 * 1024 * 1024


def announced_size_beyond_the_limit(lab: Lab) -> bool:
    """A length that is too much to read, said in advance: reading starts nevertheless."""
    registry, reference = honest(lab)
    registry.answer(MANIFESTS, Reply(body=b"x" * 1000, length=1 << 40), method="GET")
    answer = lab.ask(reference)
    return not (isinstance(answer, FreshnessError) and "announced" in answer.message)


def slow_drip(lab: Lab) -> bool:
    """A byte now and then, always before the read timeout: the whole never comes, and the client never gives up."""
    registry, reference = honest(lab)
    registry.answer(MANIFESTS, Reply(body=b"x" * 30, pause=0.03), method="GET")
    return not isinstance(lab.ask(reference), TimedOut)


def slow_drip_of_the_head(lab: Lab) -> bool:
    """The same before the body: a header that never ends."""
    registry, reference = honest(lab)
    registry.answer(MANIFESTS, Reply(raw=b"HTTP/1.1 200 OK\r\nX: yyyyyyyyyyyyyyy", pause=0.03), method="GET")
    return not isinstance(lab.ask(reference), TimedOut)


def gzip_bomb(lab: Lab) -> bool:
    """A small answer that unpacks to a large one."""
    registry, reference = honest(lab)
    bomb = gzip.compress(manifest())
    headers = [("Content-Type", OCI_MANIFEST), ("Content-Encoding", "gzip")]
    registry.answer(MANIFESTS, Reply(headers=headers, body=bomb), method="GET")
    answer = lab.ask(reference)
    return not (isinstance(answer, FreshnessError) and "compressed" in answer.message)


def endless_redirects(lab: Lab) -> bool:
    registry, reference = honest(lab)
    registry.answer("/v2/", lambda request: redirect(request.path + "x"), times=60)
    lab.ask(reference)
    return len(registry.requests) > 50


def endless_pagination(lab: Lab) -> bool:
    """The list of tags always has another page."""
    registry, reference = honest(lab)
    page = json.dumps({"tags": ["2"]}).encode()
    link = ("Link", f'</v2/{REPOSITORY}/tags/list?n=1&last=2>; rel="next"')
    registry.answer(f"/v2/{REPOSITORY}/tags/", Reply(headers=[link], body=page))
    lab.ask(reference.removesuffix("1") + "3")
    return len(registry.asked(f"/v2/{REPOSITORY}/tags/")) != 1


def enormous_token(lab: Lab) -> bool:
    registry, reference = honest(lab, auth="token")
    registry.answer("/token", Reply(body=json.dumps({"token": "x" * 200_000}).encode()))
    lab.ask(reference)
    return any(len(request.authorization) > 100_000 for request in registry.requests)


def token_with_a_line_break(lab: Lab) -> bool:
    """A token that would end the header and begin another one."""
    registry, reference = honest(lab, auth="token")
    registry.answer("/token", Reply(body=json.dumps({"token": "x\r\nX-Evil: 1"}).encode()))
    answer = lab.ask(reference)
    sent = any("x-evil" in request.headers for request in registry.requests)
    return sent or not (isinstance(answer, FreshnessError) and "no usable token" in answer.message)


def helper_that_hangs(lab: Lab) -> bool:
    lab.helper("slow", "exec sleep 1")
    answer = _ask_with_helper(lab, "slow")
    return not (isinstance(answer, FreshnessError) and "took more than" in answer.message)


def helper_that_floods(lab: Lab) -> bool:
    lab.helper("flood", "exec cat /dev/zero")
    answer = _ask_with_helper(lab, "flood")
    return not (isinstance(answer, FreshnessError) and "wrote more than" in answer.message)


def _ask_with_helper(lab: Lab, name: str) -> Entry | FreshnessError:
    registry, reference = honest(lab, auth="basic", users={"alice": lab.password})
    lab.write_logins({"credHelpers": {registry.host: name}})
    return lab.ask(reference)
