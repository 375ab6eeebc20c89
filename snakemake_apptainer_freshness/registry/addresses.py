"""IP addresses that are never connected to: link-local ones, and private ones that a public server names.

A registry, a realm or a redirect is a name that other people chose. If that name leads to a cloud's metadata service
or to another link-local address, following it would hand out what only this machine may ask. The check is made on the
addresses that a name resolved to, and the connection is made to the address that was checked, so that no second
look-up can give another answer. IPv4 addresses inside IPv6 ones (mapped, NAT64, 6to4) are judged as what they reach.

Private networks are ordinary: registries live there. Only a server of the public Internet has no business sending us
into one.
"""

import ipaddress
from enum import IntEnum
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_METADATA: Final = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "100.100.100.200",  # Alibaba Cloud
        "168.63.129.16",  # Azure
        "192.0.0.192",  # Oracle Cloud
        "fd00:ec2::254",  # AWS
        "fd20:ce::254",  # Google Cloud
    )
)
_NAT64: Final = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))
_COMPATIBLE: Final = ipaddress.IPv6Network("::/96")
_SHARED: Final = ipaddress.IPv4Network("100.64.0.0/10")


class Zone(IntEnum):
    """How far an address reaches; a larger one is more open."""

    FORBIDDEN = 0
    """Link-local, metadata, multicast, unspecified, reserved."""
    PRIVATE = 1
    """Loopback, RFC 1918, carrier-grade NAT, unique local."""
    PUBLIC = 2


ANYWHERE: Final = frozenset({Zone.PRIVATE, Zone.PUBLIC})
"""Every zone that may be connected to."""


def zone(address: Address) -> Zone:
    """Return the zone of `address`."""
    inner = embedded(address)
    if inner is not None:
        return zone(inner)
    if address in _METADATA or address.is_link_local or address.is_multicast or address.is_unspecified:
        return Zone.FORBIDDEN
    if isinstance(address, ipaddress.IPv4Address) and address.is_reserved:
        return Zone.FORBIDDEN
    if isinstance(address, ipaddress.IPv6Address) and address.is_site_local:
        return Zone.PRIVATE
    if address.is_loopback or address.is_private or (address.version == 4 and address in _SHARED):  # noqa: PLR2004  IPv4
        return Zone.PRIVATE
    return Zone.FORBIDDEN if address.is_reserved else Zone.PUBLIC


def embedded(address: Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address that an IPv6 `address` stands for, if it does."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    compatible = address in _COMPATIBLE and int(address) > 1
    if compatible or any(address in network for network in _NAT64):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def literal(host: str) -> Address | None:
    """Return the address that `host` spells; None where it is a name."""
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
