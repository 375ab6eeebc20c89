import subprocess
import sys

import pytest

from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.image.scheme import Scheme, Source
from snakemake_apptainer_freshness.lockfile import Entry
from snakemake_apptainer_freshness.registry import login_places
from snakemake_apptainer_freshness.registry.local import FileSource
from snakemake_apptainer_freshness.registry.network import FACTORIES, Network, asked_with
from tests.support.attacks import honest
from tests.support.fake_apptainer import FakeApptainer
from tests.support.lab import QUICK

CONF = """
[[registry]]
location = "registry.example:{port}"
[[registry.mirror]]
location = "service.example:{other}"
pull-from-mirror = "tag-only"
"""


@pytest.fixture
def network(lab):
    made = Network(environ=lab.environ, limits=QUICK)
    yield made
    made.close()


def test_each_source_has_one_that_answers_for_it():
    assert set(FACTORIES) == set(Source)


def test_one_source_answers_for_all_references_of_its_kind(lab, network):
    honest(lab)
    first = network.registry(parse("docker://registry.example/team/tool:1"))
    assert network.registry(parse("docker://registry.example/team/other:2")) is first
    assert network.registry(parse("oras://registry.example/team/other:2")) is first


def test_a_file_is_answered_for_without_a_network_library(tmp_path):
    image = tmp_path / "tool.sif"
    image.write_bytes(b"")
    code = (
        "import os, sys\n"
        "from snakemake_apptainer_freshness.image.reference import parse\n"
        "from snakemake_apptainer_freshness.registry.network import Network\n"
        "from snakemake_apptainer_freshness.settings import Limits\n"
        "network = Network(environ=os.environ, limits=Limits())\n"
        f"network.resolve(parse({str(image)!r}))\n"
        "assert not {'httpx', 'tenacity', 'ssl'} & set(sys.modules), sorted(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_path_is_answered_for_by_the_local_source(network, tmp_path):
    reference = parse(str(tmp_path / "tool.sif"))
    assert reference.scheme is Scheme.FILE
    assert isinstance(network._source(reference), FileSource)


def test_a_mirror_that_failed_is_told_although_the_registry_answered(lab, tmp_path):
    registry, reference = honest(lab)
    mirror = lab.registry("service.example")
    mirror.publish("team/tool", "1", b"{}")
    folder = tmp_path / ".config/containers"
    folder.mkdir(parents=True)
    (folder / "registries.conf").write_text(CONF.format(port=registry.port, other=mirror.port))
    assert isinstance(lab.ask(reference), Entry)
    [warning] = lab.warnings
    assert warning.startswith(f"{reference} was asked at {registry.host}/team/tool, because a mirror failed")


@pytest.mark.parametrize(
    "change",
    [
        {"DOCKER_AUTH_CONFIG": '{"auths": {}}'},
        {"SINGULARITY_DOCKER_PASSWORD": "x"},
        {"APPTAINER_AUTH_FILE": "{folder}/logins.json"},
        {"SINGULARITY_AUTHFILE": "{folder}/logins.json"},
        {"APPTAINER_CONFIGDIR": "{folder}/config"},
        {"SINGULARITY_CONFIGDIR": "{folder}/config"},
        {"PATH": "{folder}/singularity/bin"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whoever_asks_with_other_logins_or_another_program_is_another_asker(tmp_path, monkeypatch, change):
    """Of whatever program the login is, so that none has to be started for it."""
    monkeypatch.setattr(login_places, "account_home", lambda: str(tmp_path / "account"))
    FakeApptainer(tmp_path / "singularity", name="singularity")
    (tmp_path / "config").mkdir()
    for path in (tmp_path / "logins.json", tmp_path / "config" / "docker-config.json"):
        path.write_text("{}")
    before = {"HOME": str(tmp_path / "home"), "PATH": "/nowhere"}
    after = before | {
        name: value.format(folder=tmp_path) if "{folder}" in value else value for name, value in change.items()
    }
    assert asked_with(before) == asked_with(before)
    assert asked_with(before) != asked_with(after)
