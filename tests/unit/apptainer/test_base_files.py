"""What the real Apptainer puts into an image, by the configuration of which the image is made."""

import functools
import hashlib
import json

import pytest

from snakemake_apptainer_freshness.apptainer import base_files
from snakemake_apptainer_freshness.apptainer.program import Apptainer
from snakemake_apptainer_freshness.errors import PullFailed
from snakemake_apptainer_freshness.image.tree import FileType, NotComparable
from tests.support.fake_apptainer import FakeApptainer
from tests.support.proofs import environment

ENVIRONMENT_SCRIPT = b".singularity.d/env/10-docker2singularity.sh"
RUN_SCRIPT = b".singularity.d/runscript"
OF_THE_BUILD = (b".singularity.d/labels.json", b".singularity.d/Singularity")
"""When and from which folder it was built: another one each time, and nothing that runs."""


@pytest.fixture(scope="module")
def inserted(tmp_path_factory):
    """Makes the files, by path, for a configuration."""
    program = Apptainer.find(environment(tmp_path_factory.mktemp("inserted") / "home"))

    @functools.cache
    def read(config: bytes):
        return dict(base_files.read(config, program).walk())

    return read


def differing(one, other):
    assert one.keys() == other.keys()
    return [path for path in one if one[path].sha256 != other[path].sha256 and path not in OF_THE_BUILD]


def test_its_scripts_are_there_and_nothing_of_a_layer_is(inserted):
    found = inserted(b'{"config": {}}')

    assert found[b".singularity.d/actions/exec"].kind is FileType.FILE
    assert found[b".singularity.d/actions/exec"].mode == 0o755
    assert found[b".singularity.d/actions/exec"].sha256 != hashlib.sha256().digest()
    assert found[b"environment"].target == b".singularity.d/env/90-environment.sh"
    assert b"bin/tool" not in found


@pytest.mark.parametrize(
    ("config", "path"),
    [
        ({"Env": ["TOOL=/opt/evil"]}, ENVIRONMENT_SCRIPT),
        ({"Entrypoint": ["/evil"]}, RUN_SCRIPT),
    ],
)
def test_what_the_configuration_says_is_in_the_script_that_obeys_it_and_in_no_other(inserted, config, path):
    assert differing(inserted(b'{"config": {}}'), inserted(json.dumps({"config": config}).encode())) == [path]


def test_what_starts_no_program_is_left_to_the_layers(inserted):
    other = inserted(b'{"rootfs": {"diff_ids": ["x"]}, "config": {"User": "me"}}')
    assert differing(inserted(b'{"config": {}}'), other) == []


@pytest.mark.parametrize(
    "config", [b"{}", b'{"config": null}', b'{"config": {"Env": null, "Labels": {"a": "b", "A": "c"}}}']
)
def test_a_configuration_may_say_little(inserted, config):
    assert b".singularity.d/actions/exec" in inserted(config)


@pytest.mark.parametrize(
    "config",
    [
        b"no",
        b"[]",
        b'{"config": []}',
        b'{"config": {}, "config": {}}',
        b'{"config": {"Env": [], "env": []}}',
        b'{"config": {}, "Config": {}}',
        b'{"Config": {"Env": ["A=b"]}}',
        b"[" * 100_000,
    ],
)
def test_a_configuration_that_can_be_read_in_two_ways_is_refused(inserted, config):
    with pytest.raises(NotComparable, match="configuration"):
        inserted(config)


def test_a_program_that_fails_is_quoted_without_its_secrets(tmp_path):
    fake = FakeApptainer(tmp_path / "fake")
    fake.behave("echo FATAL: first >&2; echo FATAL: no https://me:hunter2@host/ >&2; exit 255")
    with pytest.raises(PullFailed, match=r"apptainer 1\.4\.5 does not build an empty image: FATAL: no") as failed:
        base_files.read(b"{}", Apptainer.find(fake.environment))
    assert "hunter2" not in failed.value.message
    assert list(fake.temporary.iterdir()) == []


def test_a_secret_on_the_line_after_the_word_that_tells_it_is_not_quoted_either(tmp_path):
    fake = FakeApptainer(tmp_path / "fake")
    fake.behave("printf 'FATAL: sent Authorization: Bearer\\nhunter2\\n' >&2; exit 255")
    with pytest.raises(PullFailed, match=r"does not build an empty image: \[redacted\]"):
        base_files.read(b"{}", Apptainer.find(fake.environment))
