"""What tests of several rooms ask for."""

import pytest

from snakemake_apptainer_freshness.registry import resolver


@pytest.fixture
def no_registry(monkeypatch):
    """No registry may be asked."""
    for name in ("check", "resolve", "signatures"):
        monkeypatch.setattr(resolver.Resolver, name, lambda *_: pytest.fail("a registry was asked"))
