"""A lab for every test that asks a registry."""

import pytest

from tests.support.lab import Lab


@pytest.fixture
def lab(tmp_path):
    with Lab(tmp_path) as lab:
        yield lab
