"""A run with the flag on leaves a record of what it ran, also where jobs run elsewhere, fail, or it is killed."""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema

import snakemake_apptainer_freshness
from snakemake_apptainer_freshness.record.journal import folder_of, read_all
from snakemake_apptainer_freshness.record.pruning import chain
from snakemake_apptainer_freshness.record.run import Ending, JobResult
from tests.support.clusters import make_cluster

SCHEMA = Path(snakemake_apptainer_freshness.__file__).parent / "schemas" / "run-record.schema.json"


def record(workspace):
    """The workspace's newest run, whose record is held to its schema."""
    run = read_all(workspace.folder)[-1]
    jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text())).validate(json.loads(Path(run.file).read_bytes()))
    return run


def jobs_of(run):
    return {(job.rule, job.attempt): job for job in run.jobs}


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_run_leaves_a_record_of_all_that_it_ran_and_no_secret(repository, workspace):
    tool = repository()
    digest = tool.push("original")
    workspace.write(
        "Snakefile",
        f"""
        rule all:
            input: "few.txt", "big.bin", "python.txt"

        rule plain:
            output: temp("plain.txt")
            shell: "echo plain > {{output}}"

        checkpoint many:
            input: "plain.txt"
            output: directory("parts")
            container: "{tool.reference}"
            shell: "mkdir -p {{output}}; cp /message {{output}}/a; cp /message {{output}}/b"

        rule part:
            output: "part.{{name}}.txt"
            container: lambda wildcards: "{tool.reference}"
            shell: "cat /message > {{output}}"

        def parts(wildcards):
            folder = checkpoints.many.get().output[0]
            return [f"part.{{name}}.txt" for name in sorted(os.listdir(folder)) if len(name) == 1]

        rule few:
            input: parts
            output: "few.txt"
            shell: "cat {{input}} > {{output}}"

        rule big:
            output: "big.bin"
            shell: "head -c 2000000 /dev/zero > {{output}}"

        rule python:
            output: "python.txt"
            container: "{tool.reference}"
            run:
                shell("cat /message > {{output}}")
        """,
    )
    workspace.write(".gitignore", "*\n!.gitignore\n!Snakefile\n!containers.lock\n")
    for command in (("init", "-q"), ("add", "."), ("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a")):
        workspace.run("git", *command)
    workspace.snakemake(
        "--config", "apptainer_freshness=lock", "database={password: CANARY1}", "url=https://me:CANARY2@host/x",
        environment={"MY_TOKEN": "CANARY3", "NORMAL": "CANARY4"},
    )  # fmt: skip
    run = record(workspace)

    assert (run.problem, run.ending, run.previous) == ("", Ending.FINISHED, "")
    assert (run.workdir, run.host, run.mode) == (str(workspace.folder), os.uname().nodename, "lock")
    assert all((run.user, run.versions.snakemake, run.versions.freshness, run.versions.apptainer, run.config_sha256))
    assert run.lock.sha256 == sha256(workspace.folder / "containers.lock")
    assert (len(run.source.commit), run.source.dirty, run.lock.committed) == (40, False, False)
    assert b"CANARY" not in Path(run.file).read_bytes()
    assert "database={password: [redacted]" in run.command

    (image,) = run.images
    assert (image.reference, image.pinned, image.digest) == (tool.reference, tool.pinned(digest), digest)
    assert (image.remote, image.points_at, image.disk) == ("current", digest, "verified")
    assert (image.sha256, image.size) == (sha256(Path(image.path)), Path(image.path).stat().st_size)
    assert all((image.asked_at, image.proof, image.platform))

    jobs = {(job.rule, *job.wildcards.values()): job for job in run.jobs}
    assert set(jobs) == {
        ("all",), ("plain",), ("many",), ("part", "a"), ("part", "b"), ("few",), ("big",), ("python",)
    }  # fmt: skip
    assert {(job.result, job.host, job.attempt) for job in run.jobs} == {(JobResult.FINISHED, run.host, 1)}
    for job in run.jobs:
        boxed = job.rule in ("many", "part", "python")
        expected = (tool.reference, image.pinned, "verified") if boxed else ("", "", "")
        assert (job.reference, job.image, job.disk) == expected, job
        assert run.started <= job.started <= job.ended <= run.ended
    (few,) = jobs["few",].outputs
    assert (few.path, few.sha256) == ("few.txt", sha256(workspace.folder / "few.txt"))
    assert (few.size, few.mtime_ns) == (18, (workspace.folder / "few.txt").stat().st_mtime_ns)
    assert [(output.sha256, output.size) for output in jobs["big",].outputs] == [("", 2000000)]
    assert jobs["plain",].outputs[0].temporary
    assert jobs["plain",].outputs[0].sha256 == hashlib.sha256(b"plain\n").hexdigest()


def test_jobs_of_a_cluster_are_in_the_record_with_the_host_that_they_ran_on(repository, workspace):
    tool = repository()
    tool.push("original")
    workspace.write(
        "Snakefile",
        f"""
        rule all:
            input: "a.txt"
            localrule: True

        rule flaky:
            output: "a.txt"
            container: "{tool.reference}"
            shell: "[ -e tried ] && cat /message > {{output}} || {{{{ touch tried; exit 1; }}}}"
        """,
    )
    workspace.snakemake("--dry-run", flag="lock")
    assert not folder_of(workspace.folder).exists()
    workspace.snakemake(*make_cluster(workspace), "--retries", "1", flag="lock")
    run = record(workspace)
    workspace.snakemake(flag="lock")
    assert record(workspace) == run  # a run with nothing to do leaves none

    jobs = jobs_of(run)
    assert [(key, job.result) for key, job in jobs.items()] == [
        (("flaky", 1), JobResult.FAILED), (("flaky", 2), JobResult.FINISHED), (("all", 1), JobResult.FINISHED)
    ]  # fmt: skip
    assert {(job.host, job.disk) for job in run.jobs if job.rule == "flaky"} == {(run.host, "verified")}
    assert not Path(run.file).with_suffix(".jobs").exists()


def wait_for(path):
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.02)


@contextlib.contextmanager
def in_background(workspace):
    """Snakemake in a session of its own, whose second job waits until it is killed; gone at the end of the block.

    A shell without a trap goes on where an interrupt comes just as its ``sleep`` has ended by itself.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "snakemake", *workspace.snakemake_arguments(), "--config", "apptainer_freshness=lock"],
        cwd=workspace.folder, env=workspace.environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:  # whatever interrupts the test: an interrupt of the terminal does not reach another session
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_runs_that_are_killed_stopped_or_fail_leave_records_that_say_so_and_make_a_chain(repository, workspace):
    tool = repository()
    tool.push("original")
    workspace.write(
        "Snakefile",
        f"""
        rule second:
            input: "first.txt"
            output: "second.txt"
            shell:
                "trap 'exit 1' INT; touch waiting;"
                " for i in $(seq 900); do [ ! -e fail ] || exit 1; sleep 0.1; done; exit 1"

        rule first:
            output: "first.txt"
            container: "{tool.reference}"
            shell: "cat /message > {{output}}"
        """,
    )
    for number, (how, while_running) in enumerate([(signal.SIGKILL, Ending.RUNNING), (signal.SIGINT, Ending.RUNNING)]):
        with in_background(workspace) as process:
            wait_for(workspace.folder / "waiting")
            assert read_all(workspace.folder)[number].ending is while_running
            os.killpg(process.pid, how)
            process.wait(60)
        (workspace.folder / "waiting").unlink()
        workspace.snakemake("--unlock")
    (workspace.folder / "fail").touch()
    workspace.snakemake(flag="lock", fails=True)
    runs = read_all(workspace.folder)

    assert [run.ending for run in runs] == [Ending.UNKNOWN, Ending.INTERRUPTED, Ending.FAILED]
    assert [[(job.rule, job.result) for job in run.jobs] for run in runs] == [
        [("first", JobResult.FINISHED), ("second", JobResult.RUNNING)],
        [("second", JobResult.RUNNING)],
        [("second", JobResult.FAILED)],
    ]
    assert [run.previous for run in runs] == ["", runs[0].sha256, runs[1].sha256]
    assert chain(runs) == []

    Path(runs[0].file).write_bytes(Path(runs[0].file).read_bytes().replace(b"first", b"fir5t"))
    (broken,) = chain(read_all(workspace.folder))
    assert broken.run == runs[1].id
