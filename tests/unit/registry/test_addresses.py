import ipaddress

import pytest

from snakemake_apptainer_freshness.registry import addresses
from snakemake_apptainer_freshness.registry.addresses import Zone


@pytest.mark.parametrize(
    "text",
    [
        "169.254.169.254",
        "169.254.0.1",
        "fe80::1",
        "::ffff:169.254.169.254",
        "::169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "fd00:ec2::254",
        "fd20:ce::254",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "ff02::1",
        "255.255.255.255",
    ],
)
def test_link_local_and_metadata_addresses_are_forbidden(text):
    assert addresses.zone(ipaddress.ip_address(text)) is Zone.FORBIDDEN


@pytest.mark.parametrize(
    "text",
    ["127.0.0.1", "::1", "10.0.0.5", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fd12::1", "::ffff:10.0.0.5"],
)
def test_private_networks_are_private(text):
    assert addresses.zone(ipaddress.ip_address(text)) is Zone.PRIVATE


@pytest.mark.parametrize("text", ["9.9.9.9", "52.1.2.3", "2606:4700::1111", "::ffff:9.9.9.9", "2002:909:909::1"])
def test_the_internet_is_public(text):
    assert addresses.zone(ipaddress.ip_address(text)) is Zone.PUBLIC


def test_names_are_no_literals():
    assert addresses.literal("quay.io") is None
    assert addresses.literal("::1") == ipaddress.ip_address("::1")
