"""A state folder of its own for every test: what one has proven, another does not know."""

import pytest

from snakemake_apptainer_freshness.common.environment import CHECK_EVERY
from tests.support.workflow import Workspace


@pytest.fixture(scope="session", autouse=True)
def _no_state_of_the_developer_and_warm_starts(tmp_path_factory):
    """What fixtures prove that several tests share lies here, and not in the developer's home."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("shared-state")))
        patched.setattr(Workspace, "warm", True)
        patched.setenv(CHECK_EVERY, "0")  # tests move tags within seconds; what is remembered has tests of its own
        yield


@pytest.fixture(autouse=True)
def state_home(tmp_path_factory, monkeypatch):
    """Where this test's user keeps what was proven."""
    folder = tmp_path_factory.mktemp("state")
    monkeypatch.delenv("APPTAINER_FRESHNESS_STATE", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    return folder
