"""The schema of what the verbs print with ``--json``: every verb stands in it, and what each prints fits it."""

import hashlib
import json
from dataclasses import replace
from importlib import resources
from pathlib import Path

import click
import jsonschema
import pytest

from snakemake_apptainer_freshness import cli, schemas
from snakemake_apptainer_freshness.actions import adopt, doctor, fetch, gc, survey
from snakemake_apptainer_freshness.actions.lock import EntryChange, PlatformChange
from snakemake_apptainer_freshness.actions.workflow import Unseen
from snakemake_apptainer_freshness.cli import output
from snakemake_apptainer_freshness.cli.lock_report import document_of
from snakemake_apptainer_freshness.freshness import DiskState, RemoteState
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.lockfile import HINTS, Lock, dumps
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.policy import Rule
from snakemake_apptainer_freshness.policy.schema import Level
from snakemake_apptainer_freshness.store import claims
from snakemake_apptainer_freshness.store.prefix import image_path
from tests.support import archives, pins, sifs
from tests.support.attacks import REPOSITORY
from tests.support.digests import sha256
from tests.support.images import Image
from tests.support.lab import manifest
from tests.support.lock_plans import RULE, SAID, TOOL, everything, workflow
from tests.support.pins import entry_of, lock_entry
from tests.support.proofs import file, layer
from tests.support.replies import Reply
from tests.support.simulator import Simulator

SCHEMA = json.loads(resources.files(schemas).joinpath("output.schema.json").read_text())
VERBS = [one["$ref"].rpartition("/")[2] for one in SCHEMA["anyOf"]]
OPTIONS = {"outdated", "audit-replay"}
"""Options of lock and of audit that answer another question, in a document of its own."""
ELSEWHERE = {"audit"}
"""Its document has a schema of its own."""


def takes(verb, document):
    return validator(verb).is_valid(document)


def validator(verb):
    return jsonschema.Draft202012Validator({"$ref": f"#/$defs/{verb}", "$defs": SCHEMA["$defs"]})


def fits(verb, document):
    """`document` is taken, and neither with a key too few nor with one too many in it or in an item of its lists."""
    validator(verb).validate(document)
    for key, value in document.items():
        assert not takes(verb, {name: document[name] for name in document if name != key}), key
        for item in value if isinstance(value, list) else ():
            if isinstance(item, dict):
                assert not takes(verb, {**document, key: [{**item, "other": 1}]}), key
                assert not takes(verb, {**document, key: [dict(list(item.items())[1:])]}), key
    return document


def printed(place, *arguments):
    """What a verb prints; the name of its definition is that of the verb."""
    words = [str(one) for one in arguments]
    verb = "-".join(words[:2]) if words[0] == "bundle" else words[0]
    return fits(verb, place.run(words[0], *words[1:], "--json").json)


@pytest.fixture
def registry(place, monkeypatch):
    """A registry with one tag."""
    monkeypatch.setenv("APPTAINER_NOHTTPS", "1")
    with Simulator() as simulator:
        simulator.publish(REPOSITORY, "1", manifest())
        yield simulator


def locked(registry, body, tag="1"):
    """An entry for a tag of `registry`, pinned to `body`."""
    name, digest = f"docker://{registry.host}/{REPOSITORY}", sha256(body)
    media_type = "application/vnd.oci.image.manifest.v1+json"
    return lock_entry(reference=f"{name}:{tag}", digest=digest, media_type=media_type)


# --- The schema ---------------------------------------------------------------------------------------------------


def test_it_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$defs"]["version"]["const"] == output.VERSION


def verbs_with_json():
    for name in cli.COMMANDS:
        command = cli.program.get_command(click.Context(cli.program), name)
        under = command.commands if isinstance(command, click.Group) else {"": command}
        for word, one in under.items():
            if any("--json" in option.opts for option in one.params):
                yield f"{name}-{word}" if word else name


def test_every_verb_with_json_has_a_definition():
    assert sorted([*verbs_with_json(), *OPTIONS]) == sorted([*VERBS, *ELSEWHERE])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("remote_state", RemoteState),
        ("disk_state", DiskState),
        ("place", survey.ImageLocation),
        ("fetch_action", fetch.FetchOutcome),
        ("standing", adopt.Standing),
        ("presence", claims.Presence),
        ("waste_kind", gc.WasteKind),
        ("weight", doctor.Weight),
        ("entry_change", EntryChange),
        ("fate", PlatformChange),
        ("policy_rule", Rule),
        ("policy_level", Level),
    ],
)
def test_it_knows_every_word(name, words):
    assert SCHEMA["$defs"][name]["enum"] == [word.value for word in words]


def test_its_entries_are_those_of_the_lock():
    lock = json.loads(resources.files(schemas).joinpath("lock.schema.json").read_text())
    theirs, ours = lock["properties"]["image"]["items"], SCHEMA["$defs"]["entry_keys"]

    assert set(ours["properties"]) == set(theirs["properties"])
    assert ours["required"] == theirs["required"]
    assert set(ours["properties"]["hints"]["properties"]) == HINTS
    assert SCHEMA["$defs"]["digest"]["pattern"] == theirs["properties"]["digest"]["pattern"]


def test_an_unknown_key_or_word_or_version_is_refused(good):
    document = good.run("verify", "--json").json
    [image] = document["image"]

    assert takes("verify", document)
    assert jsonschema.Draft202012Validator(SCHEMA).is_valid(document)
    for change in ({"other": 1}, {"version": 2}, {"image": [image | {"state": "fine"}]}, {"image": [image | {"x": 1}]}):
        assert not takes("verify", document | change)
        assert not jsonschema.Draft202012Validator(SCHEMA).is_valid(document | change)


# --- What each verb prints ----------------------------------------------------------------------------------------


def test_resolve(place, registry):
    reference = locked(registry, manifest()).reference.text
    document = printed(place, "resolve", reference, f"{reference}0")

    assert (len(document["image"]), len(document["error"])) == (1, 1)


def test_lock(place, registry, monkeypatch):
    for name in ("SNAKEMAKE_PROFILE", "SNAKEMAKE_APPTAINER_FRESHNESS"):
        monkeypatch.delenv(name, raising=False)
    reference = locked(registry, manifest()).reference.text
    rule = 'rule {0}:\n    output: "{0}"\n    container: "{1}"\n    shell: "touch {{output}}"\n'
    Path("Snakefile").write_text(rule.format("a", reference) + rule.format("b", f"{reference}0"))
    document = printed(place, "lock")

    assert [one["what"] for one in document["change"]] == ["added"]
    assert [one["reference"] for one in document["error"]] == [f"{reference}0"]
    Path("Snakefile").write_text(rule.format("a", reference) + rule.format("b", "shub://a/b"))
    Path("apptainer-freshness.toml").write_text("[policy.registries]\nallow = ['quay.io']\nlevel = 'warn'\n")
    registry.publish(REPOSITORY, "1", manifest(1))
    document = printed(place, "lock", "--upgrade")
    assert [one["what"] for one in document["change"]] == ["updated"]
    assert document["unpinnable"]
    assert document["violation"]


def test_newer_versions(place, registry, monkeypatch):
    for name in ("SNAKEMAKE_PROFILE", "SNAKEMAKE_APPTAINER_FRESHNESS"):
        monkeypatch.delenv(name, raising=False)
    registry.publish(REPOSITORY, "2", manifest(2))
    reference = locked(registry, manifest()).reference.text
    document = fits("outdated", place.run("lock", "--outdated", "--json", reference, f"{reference}rc1").json)
    shown = place.run("lock", "--outdated", reference)

    assert [one["newer"] for one in document["outdated"]] == [[f"{reference[:-1]}2"], []]
    assert [one["version"] for one in document["outdated"]] == [True, False]
    assert shown.status == 0
    assert shown.rows[0][:3] == ["newer", reference, f"{reference[:-1]}2"]
    assert "1 image: 1 has a newer version; nothing was changed" in shown.err
    assert not Path("containers.lock").exists()
    registry.answer(f"/v2/{REPOSITORY}/tags/list", Reply(status=404))
    gone = place.run("lock", "--outdated", reference)
    assert gone.status == 3
    assert "no repository of this name" in gone.err
    assert "1 image: none has a newer version" in gone.err


def test_lock_with_one_of_everything(place, capsys):
    flow = workflow()
    plan = everything(flow)
    output.document(**document_of(flow, plan, SAID, written=False))
    document = fits("lock", json.loads(capsys.readouterr().out))

    assert document["change"][0]["new"]["revision"] == "abc"
    assert all(document[key] for key in ("held_back", "missing", "orphan", "unclear", "unpinnable", "unseen", "error"))


def test_status(place, registry):
    registry.publish(REPOSITORY, "2", manifest(1))
    rows = [locked(registry, manifest(1)), locked(registry, manifest(), tag="gone")]
    Path("containers.lock").write_text(dumps(Lock.of(rows)))
    Path("apptainer-freshness.toml").write_text("[policy.registries]\nallow = ['quay.io']\n")
    document = printed(place, "status")

    assert {one["remote"]["state"] for one in document["image"]} == {"moved", "untagged"}
    assert document["violation"]
    assert all(one["rules"] is None for one in document["image"])


def test_status_with_rules(place, monkeypatch):
    for name in ("SNAKEMAKE_PROFILE", "SNAKEMAKE_APPTAINER_FRESHNESS"):
        monkeypatch.delenv(name, raising=False)
    place.lock(pins.pin())
    Path("Snakefile").write_text(RULE.replace(TOOL, f"{TOOL}1"))
    missing, orphan = sorted(printed(place, "status", "--offline", "--rules")["image"], key=lambda one: one["locked"])

    assert (missing["remote"], missing["rules"][0]["rule"]) == (None, "a")
    assert (orphan["orphan"], orphan["disk"]["state"]) == (True, "absent")


def test_verify(good):
    entry = good.cache / "oci-tmp" / ("1" * 64)
    entry.parent.mkdir(parents=True)
    entry.write_bytes(sifs.pulled("quay.io/some/thing:1"))
    (good.prefix / f"{'a' * 32}.simg").write_bytes(b"")
    document = printed(good, "verify")

    assert sorted(one["state"] for one in document["image"]) == ["corrupt", "verified"]
    assert document["unattributed"] == 1
    image_path(good.prefix, pins.pin().url).write_bytes(b"")
    good.fake.serve(pins.pin())
    assert {one["fetched"] for one in printed(good, "verify", "--repair")["repair"]} == {True, False}
    assert printed(good, "verify", entry)["prefix"] is None


def test_pull(place):
    other = "docker://quay.io/team/other"
    second = replace(
        pins.pin(),
        reference=parse(f"{other}:2"),
        pinned=parse(f"{other}@{pins.OTHER}"),
        digest=pins.OTHER,
        manifest=None,
    )
    place.lock(pins.pin(), second)
    pins.put(place.prefix, pins.pin(), b"")
    place.fake.serve(pins.pin())
    place.fake.behave('case "$url" in *other*) echo unauthorized; exit 1;; esac; cp "$image" "$destination"')
    document = printed(place, "pull")

    assert sorted(one["action"] for one in document["image"]) == ["failed", "pulled"]
    assert any(one["quarantined"] for one in document["image"])
    assert document["error"]


def test_inspect(good):
    image = image_path(good.prefix, pins.pin().url)
    assert printed(good, "inspect", image)["record"]
    image.write_bytes(b"")
    assert printed(good, "inspect", image)["state"] == "corrupt"


def test_the_replay_of_an_archive(place, tmp_path):
    content = Image(layers=(layer(file("data")),))
    archive = archives.archived(tmp_path / "archived", content)
    document = fits("audit-replay", place.run("audit", "--replay", archive, "--json").json)

    assert {one["possible"] for one in document["output"]} == {True}
    assert document["note"]


def test_adopt(project):
    tag = pins.pin().reference.text
    made = [f"docker://{pins.REPOSITORY}@{pins.MANIFEST}", tag, ""]
    place = project(*made, unseen=(Unseen(rule="align", why="no job of it is in the DAG"),))
    document = printed(place, "adopt", "--no-deep")

    assert [one["standing"] for one in document["output"]] == ["proven", "unproven", "other"]
    assert document["unseen"]


def test_gc(good):
    unneeded = pins.pin(pins.OTHER)
    pins.record(pins.put(good.prefix, unneeded), unneeded)
    (good.prefix / f"{'0' * 32}.simg").write_bytes(b"x")
    there = good.folder / "other.lock"
    lock = Lock.of([entry_of(pins.pin())])
    there.write_text(dumps(lock))
    claims.register(good.prefix, there, lock)
    there.unlink()
    document = printed(good, "gc")

    assert [len(document[key]) for key in ("waste", "foreign", "locks")] == [1, 1, 1]
    assert document["locks"][0]["until"].endswith("Z")
    assert printed(good, "gc", "--yes")["freed"] > 0


def test_bundle(place):
    content, local = sifs.pulled("", labels={}), sifs.pulled()
    Path("mine.sif").write_bytes(local)
    url = f"library://team/tool:sha256.{hashlib.sha256(content).hexdigest()}"
    entries = [
        lock_entry(text, f"sha256:{hashlib.sha256(sif).hexdigest()}", media_type="application/vnd.sylabs.sif")
        for text, sif in ((url, content), ("mine.sif", local))
    ]
    Path("containers.lock").write_text(dumps(Lock.of(entries)))
    image = pins.put(place.prefix, replace(pins.pin(), pinned=Pin.of(entries[0]).pinned), content)
    document = printed(place, "bundle", "save", "all.tar")

    assert (len(document["image"]), len(document["left"])) == (1, 1)
    assert printed(place, "bundle", "load", "all.tar")["image"][0]["action"] == "kept"
    image.write_bytes(b"")
    assert printed(place, "bundle", "load", "all.tar")["image"][0]["quarantined"]


def test_doctor(good, monkeypatch):
    monkeypatch.setenv("APPTAINER_DOCKER_PASSWORD", "secret")
    logins = good.home / ".apptainer" / "docker-config.json"
    logins.parent.mkdir()
    logins.write_text('{"auths": {"used.example": {"auth": "bWU6c2VjcmV0"}}}')
    mirrors = good.home / ".config" / "containers" / "registries.conf"
    mirrors.parent.mkdir(parents=True)
    mirrors.write_text('[[registry]]\nprefix = "quay.io"\nlocation = "mirror.example"\n')
    (good.prefix / f"{'a' * 32}.simg").write_bytes(b"")
    document = printed(good, "doctor")

    assert all(document[key] for key in ("versions", "folders", "environment", "logins", "registries_conf"))
    assert {one["weight"] for one in document["findings"]} >= {"problem"}
