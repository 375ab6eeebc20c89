"""Digests of what tests make, computed without the program that is tested."""

import hashlib


def sha256(content: bytes) -> str:
    """``sha256:<hex>`` of ``content``."""
    return "sha256:" + hashlib.sha256(content).hexdigest()
