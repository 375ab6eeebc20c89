"""What a changed container makes Snakemake run again, asked of the persistence that it has, of both kinds."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake.deployment.conda import Env
from snakemake.deployment.env_modules import EnvModules
from snakemake.io import IOFile
from snakemake.persistence import RECORD_FORMAT_VERSION, MetadataRecord
from snakemake.persistence.db import DbPersistence
from snakemake.persistence.file import FilePersistence
from snakemake.settings.types import DeploymentMethod, RerunTrigger
from snakemake_interface_common.exceptions import WorkflowError

from snakemake_apptainer_freshness.engine import rerun
from snakemake_apptainer_freshness.engine.handover import leave_reruns_to_main
from snakemake_apptainer_freshness.engine.rerun import Reruns
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.settings import Options, PinKind, Rerun
from snakemake_apptainer_freshness.store import facts, history, state
from tests.support import pins
from tests.support.pins import lock_entry

TAG = f"docker://{pins.REPOSITORY}:1.0"
PINNED = f"docker://{pins.REPOSITORY}@{pins.DIGEST}"
BY_PLATFORM = f"docker://{pins.REPOSITORY}@{pins.MANIFEST}"
OTHER = f"docker://{pins.REPOSITORY}@{pins.OTHER}"
UNPROVEN = (
    f"  unproven: {TAG} (rule read): its image is no longer in {{prefix}}; it runs again; "
    "prove what can be proven with: apptainer-freshness adopt"
)


class Lab:
    """A workflow of one job, as Snakemake's persistence sees it."""

    def __init__(self, folder, backend):
        self.workflow = SimpleNamespace(
            dag_settings=SimpleNamespace(max_checksum_file_size=0),
            execution_settings=SimpleNamespace(latency_wait=3),
            deployment_settings=SimpleNamespace(
                deployment_method={DeploymentMethod.APPTAINER, DeploymentMethod.CONDA}, apptainer_args=""
            ),
            rerun_triggers=RerunTrigger.all(),
            dryrun=False,
            runtime_paths=[],
        )
        self.workflow.persistence = self.persistence = backend(
            path=folder / ".snakemake", dag=SimpleNamespace(workflow=self.workflow)
        )
        self.job = SimpleNamespace(
            output=[IOFile("a.txt"), IOFile("b.txt")],
            rule=SimpleNamespace(name="read"),
            container_img_url=PINNED,
            conda_env=None,
            env_modules=None,
        )

    def made(self, *, url, **changes):
        """Record that the job was run with the container `url`; `changes` are what else was different then."""
        now = {"container_img_url": url} | changes
        before = SimpleNamespace(**vars(self.job) | now)
        for file in self.job.output:
            record = MetadataRecord(
                container_img_url=url,
                software_stack_hash=self.persistence._software_stack_hash(before),
                record_format_version=RECORD_FORMAT_VERSION,
                starttime=1_700_000_000.0,
            )
            self.persistence._write_record(str(file), record)

    def reruns(self, option=Rerun.CONTENT, *, kind=PinKind.INDEX):
        entry = lock_entry(
            reference=TAG,
            digest=str(pins.DIGEST),
            media_type="x",
            platforms={"linux/amd64": str(pins.MANIFEST)},
        )
        facts.learn([entry])
        known = SimpleNamespace(entries={TAG: entry}, platform=Platform.parse("linux/amd64"))
        made = Reruns(self.workflow, known, Options(rerun=option, pin=kind), runs_jobs=True)
        made.attach()
        return made

    def changed(self):
        """The outputs that Snakemake runs again because of their software."""
        return list(self.persistence.software_stack_changed(self.job))

    def conda_env(self, image_url):
        """A conda environment inside a container, as Snakemake makes it; its file needs no conda to be read."""
        image = SimpleNamespace(url=image_url, is_containerized=False)
        env = Env(self.workflow, env_file="env.yaml", container_img=image)
        env._content, env._content_pin, env._content_deploy = b"dependencies: []", b"pins", b"deploy"
        return env


@pytest.fixture(params=[FilePersistence, DbPersistence], ids=["files", "database"])
def lab(tmp_path, request):
    return Lab(tmp_path, request.param)


@pytest.fixture
def told(monkeypatch):
    lines = []
    monkeypatch.setattr(rerun, "log_line", lines.append)
    return lines


def texts(lines):
    return [line.text for line in lines]


def test_snakemake_alone_would_run_it_again(lab):
    lab.made(url=BY_PLATFORM)

    assert lab.changed() == ["a.txt", "b.txt"]


def test_what_the_same_image_made_stays(lab, told):
    lab.made(url=BY_PLATFORM)
    reruns = lab.reruns()

    assert lab.changed() == []
    assert lab.persistence.software_stack_changed(lab.job, file=lab.job.output[0]) is False
    reruns.log_decisions()
    assert texts(told) == ["  same image: 2 outputs stay although the image has another name now"]
    assert not told[0].problem


def test_what_was_made_under_the_same_name_is_not_even_looked_at(lab, told):
    lab.made(url=PINNED)
    reruns = lab.reruns()

    assert lab.changed() == []
    reruns.log_decisions()
    assert told == []


def test_what_cannot_be_proven_runs_again_and_is_told_once(lab, told):
    lab.made(url=TAG)
    reruns = lab.reruns()

    assert lab.changed() == lab.changed() == ["a.txt", "b.txt"]
    reruns.log_decisions()
    reruns.log_decisions()
    assert texts(told) == [UNPROVEN.format(prefix=lab.persistence.container_img_path)]
    assert told[0].problem


def test_what_another_image_made_runs_again_without_a_word(lab, told):
    lab.made(url="docker://quay.io/team/other:1.0")
    reruns = lab.reruns()

    assert lab.changed() == ["a.txt", "b.txt"]
    reruns.log_decisions()
    assert told == []


def test_always_runs_it_again_and_says_so(lab, told):
    lab.made(url=BY_PLATFORM)
    reruns = lab.reruns(Rerun.ALWAYS)

    assert lab.changed() == ["a.txt", "b.txt"]
    reruns.log_decisions()
    assert texts(told) == [
        f"  run again, since rerun is always: rule read: made with {BY_PLATFORM}, the rule runs {PINNED}"
    ]
    assert told[0].problem


@pytest.mark.parametrize("url", [OTHER, TAG, None], ids=["digest", "tag", "no container"])
def test_never_keeps_it_and_says_so(lab, told, url):
    lab.made(url=url)
    reruns = lab.reruns(Rerun.NEVER)

    assert lab.changed() == []
    reruns.log_decisions()
    assert texts(told) == [
        f"  NOT run again, since rerun is never: rule read: made with {url or 'no container'}, the rule runs {PINNED}"
    ]
    assert told[0].problem


@pytest.mark.parametrize("option", list(Rerun))
def test_environment_modules_that_changed_count_whatever_the_container_is(lab, told, option):
    lab.job.env_modules = EnvModules("tool/2")
    lab.made(url=BY_PLATFORM, env_modules=EnvModules("tool/1"))
    reruns = lab.reruns(option)

    assert lab.changed() == ["a.txt", "b.txt"]
    reruns.log_decisions()
    assert told == []


@pytest.mark.parametrize("option", list(Rerun))
def test_a_conda_environment_that_changed_counts_whatever_the_container_is(lab, told, option):
    lab.job.conda_env = lab.conda_env(PINNED)
    before = lab.conda_env(BY_PLATFORM)
    before._content = b"dependencies: [other]"
    lab.made(url=BY_PLATFORM, conda_env=before)
    reruns = lab.reruns(option)

    assert lab.changed() == ["a.txt", "b.txt"]
    reruns.log_decisions()
    assert told == []


def test_other_software_that_is_the_same_does_not_stand_in_the_way(lab):
    lab.job.env_modules = EnvModules("tool/1")
    lab.job.conda_env = lab.conda_env(PINNED)
    lab.made(url=BY_PLATFORM, conda_env=lab.conda_env(BY_PLATFORM))
    assert lab.changed() == ["a.txt", "b.txt"]
    lab.reruns()

    assert lab.changed() == []
    assert lab.job.conda_env._container_img.url == PINNED


def test_an_output_that_was_made_without_its_container_is_made_again(lab):
    lab.made(url=PINNED)
    for file in lab.job.output:
        record = lab.persistence.metadata(file)
        record.software_stack_hash = lab.persistence._software_stack_hash(
            SimpleNamespace(**vars(lab.job) | {"container_img_url": None})
        )
        lab.persistence._write_record(str(file), record)
    lab.persistence._clear_cache()
    lab.reruns()

    assert lab.changed() == ["a.txt", "b.txt"]


def test_a_rule_whose_image_is_not_pinned_is_snakemakes(lab):
    lab.job.container_img_url = "shub://team/tool"
    lab.made(url=TAG)
    lab.reruns()

    assert lab.changed() == ["a.txt", "b.txt"]


def test_what_was_learned_is_written_down_once_the_run_goes_on(lab, told):
    lab.made(url=BY_PLATFORM)
    reruns = lab.reruns()
    lab.changed()
    path = history.path_in(lab.persistence.path)
    assert not path.exists()
    reruns.remember()

    assert history.load(path).manifest(pins.DIGEST, Platform.parse("linux/amd64")) == pins.MANIFEST
    lab.made(url=TAG)
    lab.persistence._clear_cache()
    lab.changed()
    assert texts(told)[-1] == UNPROVEN.format(prefix=lab.persistence.container_img_path)


def test_a_dry_run_writes_nothing(lab):
    lab.workflow.dryrun = True
    lab.reruns().remember()

    assert not history.path_in(lab.persistence.path).exists()


def test_a_memory_that_cannot_be_used_is_told_and_does_not_stop_the_run(lab, told):
    path = history.path_in(lab.persistence.path)
    state.write(path, b"{}")
    lab.made(url=BY_PLATFORM)
    lab.reruns()

    assert lab.changed() == []
    assert texts(told) == [f"apptainer-freshness: not using {path}: it has no version"]


def test_without_the_trigger_nothing_is_wrapped(lab):
    lab.workflow.rerun_triggers = {RerunTrigger.MTIME}
    lab.reruns()

    assert "software_stack_changed" not in vars(lab.persistence)


def test_a_snakemake_without_the_method_is_refused_and_always_goes_without_it(lab):
    class OtherPersistence(type(lab.persistence)):
        _software_stack_hash = property()  # reading it raises AttributeError

    lab.persistence.__class__ = OtherPersistence
    lab.reruns(Rerun.ALWAYS)
    with pytest.raises(WorkflowError, match=r"Persistence\._software_stack_hash\n.*with rerun: always"):
        lab.reruns()


def test_the_process_of_a_job_makes_nothing_again_because_of_software(lab):
    lab.made(url=TAG)
    leave_reruns_to_main(lab.workflow)

    assert lab.changed() == []
    assert lab.persistence.software_stack_changed(lab.job, file=lab.job.output[0]) is False


def test_a_memory_that_was_planted_in_the_project_keeps_nothing(lab):
    """A clone that brings a memory of its own, at the place where earlier versions kept it."""
    lab.made(url=TAG)
    planted = history.TagHistory()
    planted.learn(
        history.ProvenTag(
            url=TAG,
            digest=pins.DIGEST,
            manifest=pins.MANIFEST,
            platform=Platform.parse("linux/amd64"),
            since=0.0,
            until=2_000_000_000.0,
            proven_by="named",
        )
    )
    old = Path(lab.persistence.path, "apptainer-freshness", "memory.json")
    old.parent.mkdir(exist_ok=True)
    old.write_bytes(planted.dumps())
    lab.reruns()

    assert "a.txt" in lab.changed()
