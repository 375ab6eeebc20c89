"""``verify``, ``inspect``, ``doctor`` and ``pull`` on images that the real Apptainer made, from a real registry."""

import base64
import json
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from snakemake_apptainer_freshness.apptainer.cache import CacheFolder, keys
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.lockfile import Lock, dumps
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.store.prefix import image_path
from tests.support.pins import flip_seven_bytes, lock_entry, part
from tests.support.repositories import Repository
from tests.support.workflow import Workspace

WORDS = ("verified", "bound", "unbound", "stale", "altered", "corrupt", "absent")
PROGRAM = [sys.executable, "-c", "from snakemake_apptainer_freshness.cli import main; main()"]


def entry(repository, digest):
    return lock_entry(
        reference=repository.reference,
        digest=digest,
        media_type="application/vnd.oci.image.manifest.v1+json",
        platforms={str(Platform.here()): digest},
    )


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A workspace with a lock and an image folder; `pins` are those of the lock by the word they stand for."""

    workspace: Workspace
    pins: dict[str, Pin]

    @property
    def prefix(self):
        return self.workspace.folder / ".snakemake" / "singularity"

    @property
    def cache(self):
        return CacheFolder.of(self.workspace.environment)

    def image(self, word):
        return image_path(self.prefix, self.pins[word].url)

    def program(self, *arguments, status=0, **environment):
        result = self.workspace.run(*PROGRAM, *arguments, fails=bool(status), environment=environment)
        assert result.status == status, result.output
        assert "Traceback" not in result.output
        return result

    def json(self, *arguments, status=0):
        return json.loads(self.program(*arguments, "--json", status=status).stdout)

    def copy(self, folder):
        """The same, in another folder: what is done to it is not done to this one."""
        for mine in (self.workspace.folder, self.workspace.home):
            shutil.copytree(mine, folder / mine.name)
        workspace = Workspace(folder / self.workspace.folder.name, folder / self.workspace.home.name)
        return Scene(workspace=workspace, pins=self.pins)


def scene_of(workspace, digests):
    """`digests` maps a word to a repository and what its pin names."""
    entries = {word: entry(repository, digest) for word, (repository, digest) in digests.items()}
    workspace.write("containers.lock", dumps(Lock.of(entries.values())))
    return Scene(workspace=workspace, pins={word: Pin.of(one) for word, one in entries.items()})


@pytest.fixture(scope="module")
def every_word(shared_registry, tmp_path_factory):
    """One image of each word of the design's table."""
    folder = tmp_path_factory.mktemp("scene")
    repositories = {word: Repository(shared_registry, f"words/{word}") for word in WORDS}
    digests = {word: repository.push(word) for word, repository in repositories.items()}
    scene = scene_of(Workspace(folder / "workflow", folder / "home"), {w: (repositories[w], digests[w]) for w in WORDS})
    other = repositories["stale"].push("something else", tag="other")
    scene.program("pull", *(scene.pins[word].reference.text for word in ("verified", "altered", "corrupt")))
    for word, url in {
        "bound": scene.pins["bound"].url,
        "unbound": repositories["unbound"].reference,
        "stale": repositories["stale"].pinned(other),
    }.items():
        scene.workspace.run("apptainer", "pull", scene.image(word), url)
    flip_seven_bytes(part(scene.image("altered")))
    part(scene.image("corrupt")).write_bytes(scene.image("corrupt").read_bytes()[:-4096])
    return scene


def test_verify_gives_each_image_its_word_the_worst_first(every_word):
    lines = every_word.program("verify", status=1).stdout.splitlines()
    locked = [line.split("\t") for line in lines if "\tlock\t" in line]

    assert [line[0] for line in locked] == ["corrupt", "altered", "stale", "unbound", "absent", "bound", "verified"]
    for word, reference, _, path, proof in locked:
        assert reference == every_word.pins[word].reference.text
        assert path == str(every_word.image(word))
        assert proof


def test_verify_as_json_has_the_keys_of_the_lock(every_word):
    document = every_word.json("verify", status=1)
    locked = {one["state"]: one for one in document["image"] if one["place"] == "lock"}

    assert document["version"] == 1
    assert set(locked) == set(WORDS)
    for word, one in locked.items():
        pin = every_word.pins[word]
        assert (one["reference"], one["pinned"], one["digest"]) == (pin.reference.text, pin.url, str(pin.digest))
        assert one["finding"] is (word != "verified")


def test_what_apptainer_would_reuse_for_a_pin_is_looked_at_too(every_word):
    document = every_word.json("verify", status=1)

    assert {
        one["reference"] for one in document["image"] if one["place"] == "cache" and one["state"] == "verified"
    } >= {every_word.pins[word].reference.text for word in ("verified", "altered", "corrupt")}


def test_repair_mends_all_that_the_lock_names(every_word, tmp_path):
    scene = every_word.copy(tmp_path)
    result = scene.program("verify", "--repair")
    states = [one["state"] for one in scene.json("verify")["image"] if one["place"] == "lock"]

    assert states == ["verified"] * len(WORDS)
    assert result.stderr.count("fetched ") == len({"absent", "stale", "altered", "corrupt"})
    assert result.stderr.count("it is sound now, and stays") == len({"bound", "unbound"})
    assert len(list(scene.prefix.glob("*.quarantine-*"))) == len({"stale", "altered", "corrupt"})
    assert scene.workspace.run("apptainer", "exec", scene.image("altered"), "cat", "/message").stdout == "altered\n"


def test_a_deep_look_proves_what_was_pulled_by_a_tag(every_word, tmp_path):
    pytest.importorskip("snakemake_apptainer_freshness.actions.prove")
    scene = every_word.copy(tmp_path)
    found = {
        one["reference"]: one for one in scene.json("verify", "--deep", status=1)["image"] if one["place"] == "lock"
    }

    assert found[scene.pins["unbound"].reference.text]["state"] == "verified"
    assert found[scene.pins["bound"].reference.text]["state"] == "verified"


@pytest.mark.parametrize("word", [word for word in WORDS if word != "absent"])
def test_inspect_says_of_each_image_what_is_proven(every_word, word):
    status = int(word != "verified")
    document = every_word.json("inspect", str(every_word.image(word)), status=status)
    text = every_word.program("inspect", str(every_word.image(word)), status=status).stdout

    assert document["state"] == word
    assert document["locked"] == every_word.pins[word].reference.text
    assert document["proven"]
    assert bool(document["unproven"]) is (word != "verified")
    assert f"disk          {word}: " in text
    if word != "corrupt":
        assert document["builder"].startswith("apptainer ")
        assert document["platform"] == str(Platform.here())


def test_inspect_of_an_image_that_is_not_there_is_wrong_use(every_word):
    assert "does not exist" in every_word.program("inspect", str(every_word.image("absent")), status=2).stderr


def test_pull_fetches_once_and_then_keeps(repository, workspace):
    tools = {name: repository(name) for name in ("first", "second")}
    scene = scene_of(workspace, {name: (tool, tool.push(name)) for name, tool in tools.items()})
    cold = scene.program("pull").stdout.splitlines()
    for tool in tools.values():
        tool.registry.clear()
    warm = scene.json("pull")

    assert sorted(line.split("\t")[:2] for line in cold) == sorted(
        ["pulled", tool.reference] for tool in tools.values()
    )
    assert [one["action"] for one in warm["image"]] == ["kept", "kept"]
    assert not any(tool.requests() for tool in tools.values())


def test_an_image_that_cannot_be_had_stops_no_other(repository, workspace):
    good, bad = repository("good"), repository("bad")
    scene = scene_of(workspace, {"good": (good, good.push("good")), "bad": (bad, "sha256:" + "0" * 64)})
    result = scene.program("pull", status=3)

    assert sorted(line.split("\t")[0] for line in result.stdout.splitlines()) == ["failed", "pulled"]
    assert "error: cannot pull" in result.stderr
    assert scene.image("good").exists()
    assert not list(scene.prefix.glob("*.partial-*"))


def test_a_poisoned_entry_of_apptainers_cache_is_found_and_moved_aside(repository, workspace):
    tool = repository()
    scene = scene_of(workspace, {"tool": (tool, tool.push("agreed"))})
    scene.program("pull")
    scene.workspace.run("apptainer", "pull", "other.sif", tool.pinned(tool.push("poison", tag="other")))
    [entry_there] = [scene.cache.root / key for key in keys(scene.pins["tool"]) if (scene.cache.root / key).exists()]
    shutil.copyfile(workspace.folder / "other.sif", part(entry_there))
    found = [one for one in scene.json("verify", status=1)["image"] if one["path"] == str(entry_there)]
    scene.program("verify", "--repair")

    assert [(one["state"], one["place"]) for one in found] == [("altered", "cache")]
    assert not entry_there.exists()
    assert list(entry_there.parent.glob("*.quarantine-*"))


def test_doctor_names_what_is_wrong_and_shows_no_secret(every_word, tmp_path):
    scene = every_word.copy(tmp_path)
    secret = "correct-horse-battery"
    old = time.time() - 7 * 24 * 3600
    entries = scene.cache.root / "oci-tmp"
    for path, content in {
        entries / "tmp_123": b"half",
        entries / ("0" * 64): b"",
        scene.prefix / f"{'a' * 32}.simg": b"not named by any lock",
        scene.prefix / f"{'b' * 32}.simg.partial-elsewhere-1-00000000": b"half",
        scene.prefix / f".{'c' * 32}.simg.lock": b"",
    }.items():
        path.write_bytes(content)
        os.utime(path, (old, old))
    scene.image("bound").chmod(0o777)
    login = base64.b64encode(f"someone:{secret}".encode()).decode()
    for place, host in {
        ".apptainer/docker-config.json": "used.example",
        ".config/containers/auth.json": "ignored.example",
    }.items():
        path = scene.workspace.home / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"auths": {host: {"auth": login}}}))
    environment = {
        "APPTAINER_UNSQUASH": "1",
        "APPTAINER_DOCKER_PASSWORD": secret,
        "APPTAINERENV_TOKEN": secret,
        "HTTPS_PROXY": f"http://me:{secret}@proxy.example:1",
    }
    text = scene.program("doctor", status=1, **environment).output
    document = json.loads(scene.program("doctor", "--json", status=1, **environment).stdout)
    kinds = {one["kind"] for one in document["findings"]}

    assert kinds >= {"leftover", "empty", "permissions", "duplicate", "unreferenced", "stale lock", "login"}
    assert {(one["host"], one["used"]) for one in document["logins"]} == {
        ("used.example", True),
        ("ignored.example", False),
    }
    assert next(one for one in document["findings"] if one["kind"] == "duplicate")["size"] > 0
    assert "apptainer" in {one["name"] for one in document["versions"] if one["version"]}
    for shown in (text, json.dumps(document)):
        assert secret not in shown
        assert login not in shown


def test_a_folder_without_any_problem_is_healthy(repository, workspace):
    tool = repository()
    scene = scene_of(workspace, {"tool": (tool, tool.push("tool"))})
    scene.program("pull")

    assert Path(scene.image("tool")).exists()
    assert scene.json("doctor")["folders"][0]["images"] == 1
