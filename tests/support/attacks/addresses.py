"""Where it is sent."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from tests.support.attacks import (
    MANIFESTS,
    METADATA,
    REPOSITORY,
    challenge,
    honest,
    redirect,
)
from tests.support.lab import Lab, manifest
from tests.support.simulator import Simulator


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
    """Another list at each look-up."""

    def __init__(self, answers: Iterator[list[str]]) -> None:
        super().__init__()
        self._answers = answers

    def __iter__(self) -> Any:
        return iter(next(self._answers))
