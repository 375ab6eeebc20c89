"""``apptainer-freshness doctor``."""

import base64
import json
import os
from dataclasses import fields
from pathlib import Path

import pytest

from snakemake_apptainer_freshness.actions.doctor import Diagnosis
from snakemake_apptainer_freshness.store import sites
from snakemake_apptainer_freshness.store.prefix import image_path
from tests.support import pins, sifs
from tests.support.pins import old

SECRET = "hunter2-is-no-password"


def kinds(answer, weight):
    return {one["kind"] for one in answer.json["findings"] if one["weight"] == weight}


@pytest.mark.parametrize(
    ("version", "reproducible", "said"),
    [
        ("1.4.5", False, "Apptainer from 1.5 on can write the same one"),
        ("1.5.3", True, "can be compared between machines"),
    ],
)
def test_whether_image_files_are_the_same_on_every_machine_is_said_and_no_problem(place, version, reproducible, said):
    place.fake._version = f"apptainer version {version}"
    place.fake.behave("true")
    [found] = [one for one in place.run("doctor", "--json").json["versions"] if one["name"] == "apptainer"]
    assert found["reproducible"] is reproducible
    answer = place.run("doctor")
    assert (answer.status, said in answer.out) == (0, True)


def test_a_healthy_place_has_no_problem(good):
    answer = good.run("doctor", "--json")

    assert answer.status == 0
    assert answer.json["findings"] == []
    assert answer.json["folders"][0]["images"] == 1
    assert set(answer.json) == {
        "version",
        "lockfile",
        "versions",
        "folders",
        "environment",
        "logins",
        "registries_conf",
        "findings",
    }
    assert len(fields(Diagnosis)) == len(answer.json) - 2


def test_for_a_person_each_part_has_a_heading(good):
    out = good.run("doctor").out

    for heading in ("Programs", "Folders", "Environment", "Logins", "registries.conf", "Findings"):
        assert heading in out.splitlines()
    assert out.endswith("Findings\nnone\n")


def recorded(place):
    return image_path(place.prefix, pins.pin().url)


@pytest.mark.parametrize(
    ("make", "weight", "kind"),
    [
        (lambda p: old(p.cache / "oci-tmp/tmp_1"), "space", "leftover"),
        (lambda p: old(p.prefix / f"{'a' * 32}.simg.partial-host-1-00000000"), "space", "leftover"),
        (lambda p: old(p.prefix / f".{'a' * 32}.simg.lock"), "space", "stale lock"),
        (lambda p: old(p.prefix / f"{'a' * 32}.simg.quarantine-1"), "space", "quarantined"),
        (lambda p: old(p.cache / f"oci-tmp/{'a' * 64}.quarantine-1"), "space", "quarantined"),
        (lambda p: old(p.prefix / f"{'a' * 32}.simg.freshness.json"), "space", "orphan record"),
        (lambda p: old(p.prefix / f"{'a' * 32}.simg", sifs.pulled("a/b:1")), "space", "unreferenced"),
        (lambda p: old(p.cache / f"oci-tmp/{'a' * 64}", recorded(p).read_bytes()), "space", "duplicate"),
        (lambda p: old(p.prefix / f"{'a' * 32}.simg", b""), "problem", "empty"),
        (lambda p: old(p.cache / f"oci-tmp/{'a' * 64}", b""), "problem", "empty"),
        (lambda p: (p.prefix / f"{'a' * 32}.simg").mkdir(), "problem", "not a file"),
        (lambda p: recorded(p).chmod(0o666), "problem", "permissions"),
        (lambda p: p.prefix.chmod(0o777), "problem", "permissions"),
        (lambda p: old(p.folder / "containers.lock", b"["), "problem", "lock"),
        (lambda p: old(p.home / ".config/containers/registries.conf", b"["), "problem", "registries.conf"),
        (lambda p: old(p.home / ".apptainer/docker-config.json", b"["), "problem", "login"),
        (lambda p: old(p.home / ".apptainer/docker-config.json", b'{"credsStore": "gone"}'), "problem", "login"),
    ],
)  # fmt: skip
def test_each_trouble_is_named_with_what_to_do(good, make, weight, kind):
    make(good)
    answer = good.run("doctor", "--json")

    assert kind in kinds(answer, weight)
    assert all(one["hint"] for one in answer.json["findings"])
    assert "delete" not in "".join(one["hint"] for one in answer.json["findings"] if one["weight"] == "space")
    assert answer.status == int(bool(kinds(answer, "problem")))


@pytest.mark.parametrize("kind", ["unreferenced", "duplicate"])
def test_what_may_prove_old_outputs_is_freed_only_after_they_are_adopted(good, kind):
    old(good.prefix / f"{'a' * 32}.simg", sifs.pulled("a/b:1"))
    old(good.cache / f"oci-tmp/{'a' * 64}", recorded(good).read_bytes())
    [finding] = [one for one in good.run("doctor", "--json").json["findings"] if one["kind"] == kind]

    assert "apptainer-freshness adopt" in finding["hint"]


def test_what_is_under_way_is_no_leftover(good):
    good.prefix.joinpath(f"{'a' * 32}.simg.partial-host-1-00000000").touch()
    good.prefix.joinpath(f".{'a' * 32}.simg.lock").touch()

    assert good.run("doctor", "--json").json["findings"] == []


def test_a_file_with_two_names_is_no_duplicate(good):
    image = image_path(good.prefix, pins.pin().url)
    (good.cache / "oci-tmp").mkdir(parents=True)
    (good.cache / "oci-tmp" / ("a" * 64)).hardlink_to(image)

    assert "duplicate" not in kinds(good.run("doctor", "--json"), "space")


def test_without_apptainer_that_is_the_problem(good, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    answer = good.run("doctor", "--json")

    assert "program" in kinds(answer, "problem")
    assert {one["name"]: one["version"] for one in answer.json["versions"]}["apptainer"] is None


def test_a_cache_that_is_turned_off_says_so(good, monkeypatch):
    monkeypatch.setenv("APPTAINER_DISABLE_CACHE", "1")

    assert "turned off by APPTAINER_DISABLE_CACHE" in good.run("doctor").out


def test_logins_are_named_by_host_and_place_and_those_that_apptainer_ignores_too(good):
    login = {"auth": base64.b64encode(f"me:{SECRET}".encode()).decode()}
    used, ignored = good.home / ".apptainer/docker-config.json", good.home / ".config/containers/auth.json"
    old(used, json.dumps({"auths": {"https://used.example/v1/": login}, "credHelpers": {"h.example": "x"}}).encode())
    old(ignored, json.dumps({"auths": {"ignored.example": login}}).encode())
    found = {(one["host"], one["used"]) for one in good.run("doctor", "--json").json["logins"]}

    assert found == {("used.example/v1", True), ("h.example", True), ("ignored.example", False)}


def test_no_secret_is_ever_shown(good, monkeypatch):
    """The canary stands wherever a secret may stand."""
    login = {"auth": base64.b64encode(f"me:{SECRET}".encode()).decode(), "identitytoken": SECRET}
    auths = {"auths": {f"https://me:{SECRET}@host.example/": login, f"me:{SECRET}@plain.example": login}}
    for place in (".apptainer/docker-config.json", ".docker/config.json", ".config/containers/auth.json"):
        old(good.home / place, json.dumps(auths).encode())
    for name in (
        "APPTAINER_DOCKER_USERNAME", "APPTAINER_DOCKER_PASSWORD", "DOCKER_PASSWORD", "SINGULARITY_DOCKER_PASSWORD",
        "APPTAINERENV_TOKEN", "APPTAINER_ENCRYPTION_PASSPHRASE", "DOCKER_AUTH_CONFIG", "GITHUB_TOKEN",
    ):  # fmt: skip
        monkeypatch.setenv(name, SECRET)
    for name in ("HTTPS_PROXY", "https_proxy", "DOCKER_HOST"):
        monkeypatch.setenv(name, f"http://me:{SECRET}@proxy.example")
    shown = good.run("doctor").out + good.run("doctor", "--json").out

    assert "host.example" in shown
    assert "every host" in shown
    assert "APPTAINER_DOCKER_PASSWORD" in shown
    assert SECRET not in shown
    assert login["auth"] not in shown
    assert "GITHUB_TOKEN" not in shown


def test_a_damaged_login_file_is_not_quoted(good):
    old(good.home / ".apptainer/docker-config.json", f'{{"auths": {{"a.example": "{SECRET}"}}}}'.encode())
    answer = good.run("doctor")

    assert answer.status == 1
    assert SECRET not in answer.out


def test_what_registries_conf_says_is_shown(good):
    text = (
        '[[registry]]\nprefix = "quay.io"\nlocation = "quay.io"\n[[registry.mirror]]\nlocation = "mirror.example/q"\n'
    )
    old(good.home / ".config/containers/registries.conf", text.encode())

    assert "quay.io: mirror mirror.example/q" in good.run("doctor").out


@pytest.mark.parametrize("prefix", ["gone", "file"])
def test_a_prefix_that_is_not_one_is_wrong_use(good, prefix):
    Path("file").touch()
    assert good.run("doctor", "--prefix", prefix).status == 2


def test_a_switch_that_apptainer_would_refuse_is_a_problem(good, monkeypatch):
    monkeypatch.setenv("APPTAINER_NOHTTPS", "yes")

    assert "APPTAINER_NOHTTPS is 'yes', which Apptainer refuses" in good.run("doctor").out


@pytest.fixture
def named(good, monkeypatch):
    """Names a fact store and an image library of the site; the folders that doctor then lists of it, and its answer."""

    def look(store, library):
        monkeypatch.setenv(sites.STORES, str(store))
        monkeypatch.setenv(sites.OWNERS, str(os.geteuid()))
        monkeypatch.setenv(sites.IMAGES, str(library))
        answer = good.run("doctor", "--json")
        return {one["name"]: one for one in answer.json["folders"] if "of this site" in one["name"]}, answer

    return look


def test_what_the_site_names_is_listed_and_need_not_be_ours_to_write(named, tmp_path):
    (tmp_path / "images").mkdir(mode=0o555)
    folders, answer = named("/usr", tmp_path / "images")

    assert {one["path"] for one in folders.values()} == {"/usr", str(tmp_path / "images")}
    assert (answer.status, [one["note"] for one in folders.values()]) == (0, [None, None])


def test_what_the_site_names_and_is_not_there_is_told_and_no_problem(named):
    folders, answer = named("/nowhere/facts", "/nowhere/images")

    assert answer.status == 0
    assert all("not read" in one["note"] for one in folders.values())


def test_a_fact_store_that_others_may_write_is_a_problem(named, tmp_path):
    (tmp_path / "facts").mkdir()
    (tmp_path / "facts").chmod(0o777)
    _, answer = named(tmp_path / "facts", tmp_path)

    assert (answer.status, kinds(answer, "problem")) == (1, {"site"})
    assert "cannot be believed" in answer.out


def test_a_site_that_cannot_be_understood_is_a_problem(named):
    assert kinds(named("relative", "/nowhere")[1], "problem") == {"site"}
