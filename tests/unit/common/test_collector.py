"""The collector of garbage is paused, and afterwards as it was before."""

import gc

import pytest

from snakemake_apptainer_freshness.common.collector import collector_paused


def test_it_does_not_run_meanwhile_and_runs_again_afterwards():
    with collector_paused():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_it_runs_again_after_an_error():
    with pytest.raises(ZeroDivisionError), collector_paused():
        raise ZeroDivisionError
    assert gc.isenabled()


def test_what_was_paused_before_stays_paused():
    with collector_paused(), collector_paused():
        pass
    with collector_paused():
        with collector_paused():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()
