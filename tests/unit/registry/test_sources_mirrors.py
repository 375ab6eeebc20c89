"""Which place answers for ``docker://`` where registries.conf names mirrors, other places and blocked registries."""

from snakemake_apptainer_freshness.errors import NotFound, PolicyRefused
from snakemake_apptainer_freshness.freshness import RemoteState
from snakemake_apptainer_freshness.lockfile import Entry
from tests.support.attacks import MANIFESTS, REPOSITORY, honest
from tests.support.digests import sha256
from tests.support.lab import manifest, sif_manifest
from tests.support.replies import Reply


def conf(lab, text):
    path = lab.home / ".config/containers/registries.conf"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_a_mirror_is_asked_first_and_the_registry_where_it_has_nothing(lab):
    registry, reference = honest(lab)
    mirror = lab.registry("inside.test", public=False)
    conf(lab, f'[[registry]]\nlocation = "{registry.host}"\n[[registry.mirror]]\nlocation = "{mirror.host}"\n')
    assert isinstance(lab.ask(reference), Entry)
    assert mirror.requests
    assert registry.requests


def test_a_mirror_that_has_it_is_enough_and_the_pin_keeps_its_name(lab):
    registry, reference = honest(lab)
    mirror = lab.registry("inside.test", public=False)
    mirror.publish(REPOSITORY, "1", manifest(3))
    conf(lab, f'[[registry]]\nlocation = "{registry.host}"\n[[registry.mirror]]\nlocation = "{mirror.host}"\n')
    entry = lab.ask(reference)
    assert entry.pinned.text == f"docker://{registry.host}/{REPOSITORY}@{sha256(manifest(3))}"
    assert not registry.requests
    assert not lab.warnings


def test_a_mirror_that_lies_is_passed_over_and_named(lab):
    registry, reference = honest(lab)
    mirror = lab.registry("inside.test", public=False)
    headers = [("Docker-Content-Digest", sha256(manifest())), ("Content-Type", "application/json")]
    mirror.answer(MANIFESTS, Reply(headers=headers, body=manifest(3)))
    conf(lab, f'[[registry]]\nlocation = "{registry.host}"\n[[registry.mirror]]\nlocation = "{mirror.host}"\n')
    assert str(lab.ask(reference).digest) == sha256(manifest())
    (warning,) = lab.warnings
    assert "a mirror failed" in warning
    assert mirror.host in warning
    assert "serves other bytes" in warning


def test_a_mirror_that_has_not_got_it_is_no_news(lab):
    registry, reference = honest(lab)
    mirror = lab.registry("inside.test", public=False)
    conf(lab, f'[[registry]]\nlocation = "{registry.host}"\n[[registry.mirror]]\nlocation = "{mirror.host}"\n')
    assert isinstance(lab.ask(reference), Entry)
    assert not lab.warnings


def test_a_check_asks_the_registry_where_the_mirror_has_lost_it(lab):
    registry, reference = honest(lab)
    entry = lab.ask(reference)
    mirror = lab.registry("inside.test", public=False)
    conf(lab, f'[[registry]]\nlocation = "{registry.host}"\n[[registry.mirror]]\nlocation = "{mirror.host}"\n')
    assert lab.check(entry).state is RemoteState.CURRENT


def test_when_every_place_fails_all_are_named(lab):
    registry, reference = honest(lab)
    conf(lab, f'[[registry]]\nlocation = "{registry.host}"\n[[registry.mirror]]\nlocation = "dead.test"\n')
    lab.names["dead.test"] = ["10.66.66.66"]
    answer = lab.ask(reference + "0")
    assert "dead.test" in answer.message
    assert "no tag" in answer.message
    assert not isinstance(answer, NotFound)  # the mirror might have it


def test_a_different_download_host_is_warned_about_with_both_names(lab):
    registry, _ = honest(lab)
    conf(lab, f'[[registry]]\nprefix = "quay.io"\nlocation = "{registry.host}"\n')
    entry = lab.ask(f"docker://quay.io/{REPOSITORY}:1")
    assert isinstance(entry, Entry)
    (warning,) = lab.warnings
    assert registry.host in warning
    assert "quay.io" in warning
    assert lab.check(entry).detail == warning


def test_a_blocked_registry_is_not_asked(lab):
    registry, reference = honest(lab)
    conf(lab, f'[[registry]]\nlocation = "{registry.host}"\nblocked = true\n')
    assert isinstance(lab.ask(reference), PolicyRefused)
    assert not registry.requests


def test_oras_does_not_read_registries_conf(lab):
    registry, _ = honest(lab)
    registry.publish(REPOSITORY, "sif", sif_manifest())
    conf(lab, f'[[registry]]\nlocation = "{registry.host}"\nblocked = true\n')
    assert isinstance(lab.ask(f"oras://{registry.host}/{REPOSITORY}:sif"), Entry)
