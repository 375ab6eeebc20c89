"""What a workflow says of containers, asked of Snakemake itself in this process."""

import base64
import json
import os
import textwrap
from pathlib import Path

import pytest

from snakemake_apptainer_freshness.actions.workflow import ExistingOutput, RuleUse, Unseen
from snakemake_apptainer_freshness.engine.query import read
from snakemake_apptainer_freshness.errors import InvalidSettings, UsageError
from snakemake_apptainer_freshness.settings import Mode, PinKind

A, B, C = (f"docker://quay.io/team/{name}:1" for name in "abc")
DYNAMIC = f"""
    rule all:
        input: "b.1.txt"
    rule a:
        output: "a.txt"
        container: "{A}"
        shell: "touch {{output}}"
    rule b:
        output: "b.{{n}}.txt"
        container: "docker://quay.io/team/b:{{n}}"
        shell: "touch {{output}}"
    rule c:
        output: "c.{{n}}.txt"
        container: lambda wildcards: "docker://quay.io/team/c:" + wildcards.n
        shell: "touch {{output}}"
    """
CHECKPOINT = f"""
    rule all:
        input: lambda wildcards: [f"c.{{n}}.txt" for n in open(checkpoints.split.get().output[0]).read().split()]
    checkpoint split:
        output: "split.txt"
        container: "{A}"
        shell: "echo 1 > {{output}}"
    rule c:
        output: "c.{{n}}.txt"
        container: "docker://quay.io/team/c:{{n}}"
        shell: "touch {{output}}"
    """
NOT_IN_THE_DAG = "its container depends on a job, and no job of it is in the DAG"
NO_DAG = "its container depends on a job, and the DAG cannot be built"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "home").mkdir()
    (tmp_path / "workflow").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("APPTAINER_CACHEDIR", "SNAKEMAKE_PROFILE", "SNAKEMAKE_APPTAINER_FRESHNESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path / "workflow")
    return tmp_path / "workflow"


def write(path, text):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(textwrap.dedent(text))


def open_descriptors():
    return len([*Path("/proc/self/fd").iterdir()])


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_static_references_are_those_of_all_rules_and_dynamic_ones_those_of_the_jobs(folder):
    write("Snakefile", DYNAMIC)
    found = read([])

    snakefile = str(folder / "Snakefile")
    assert found.uses == {
        A: (RuleUse(rule="a", snakefile=snakefile, line=4),),
        B: (RuleUse(rule="b", snakefile=snakefile, line=8),),
    }
    assert found.unseen == (Unseen(rule="c", why=NOT_IN_THE_DAG),)
    assert (found.snakefile, found.workdir) == (folder / "Snakefile", folder)
    assert (found.lockfile, found.prefix) == (folder / "containers.lock", folder / ".snakemake" / "singularity")


def test_targets_bring_their_jobs_into_view(folder):
    write("Snakefile", DYNAMIC)
    found = read(["c.1.txt", "c.2.txt", "b.1.txt"])

    assert list(found.uses) == [A, B, C, C.replace(":1", ":2")]
    assert found.unseen == ()


NEEDS_INPUT = DYNAMIC + "rule needs_input:\n        input: 'missing.txt'\n        output: 'x.txt'\n"


def test_a_target_that_nothing_makes_is_an_error_and_no_dag_that_lacks_input(folder):
    write("Snakefile", NEEDS_INPUT)
    with pytest.raises(UsageError, match="cannot make a target: No rule to produce nothing_makes_this"):
        read(["nothing_makes_this"])


def test_values_of_wildcards_show_what_no_job_and_no_input_shows(folder):
    write("Snakefile", NEEDS_INPUT)
    found = read(["needs_input"], wildcards={"n": ["1", "2"]})

    assert list(found.uses) == [A, B, B.replace(":1", ":2"), C, C.replace(":1", ":2")]
    assert [one.rule for one in found.unseen] == [""]


def test_a_rule_is_unseen_while_one_of_its_wildcards_has_no_value(folder):
    two = 'rule d:\n        output: "{m}/{n}"\n        container: lambda w: f"docker://q/{w.m}:{w.n}"\n'
    write("Snakefile", DYNAMIC + two)
    some = read(["a"], wildcards={"n": ["1"]})
    both = read(["a"], wildcards={"n": ["1"], "m": ["x", "y"]})

    assert [one.rule for one in some.unseen] == ["d"]
    assert both.unseen == ()
    assert [text for text in both.uses if "/q/" in text] == ["docker://q/x:1", "docker://q/y:1"]


def test_a_wildcard_that_no_container_depends_on_is_an_error_that_names_the_others(folder):
    write("Snakefile", DYNAMIC)
    with pytest.raises(UsageError, match="depends on a wildcard version") as caught:
        read([], wildcards={"version": ["1"]})

    assert caught.value.hint == "those that some depend on: n"


def test_a_container_function_that_fails_on_a_value_is_told_in_snakemakes_words(folder):
    failing = 'rule d:\n        output: "{n}"\n        container: lambda w: {"1": "docker://q/x:1"}[w.n]\n'
    write("Snakefile", failing)
    with pytest.raises(UsageError, match="KeyError: '2'"):
        read(["1"], wildcards={"n": ["2"]})


def test_a_dag_that_cannot_be_built_leaves_the_static_references(folder):
    write("Snakefile", NEEDS_INPUT)
    found = read(["needs_input"])

    assert list(found.uses) == [A]
    problem, *rules = found.unseen
    assert problem.rule == ""
    assert problem.why.startswith("the DAG cannot be built: Missing")
    assert rules == [Unseen(rule="b", why=NO_DAG), Unseen(rule="c", why=NO_DAG)]


def test_what_is_behind_a_checkpoint_is_named_until_it_has_run(folder):
    write("Snakefile", CHECKPOINT)
    before = read([])
    (folder / "split.txt").write_text("1 2\n")
    after = read([])

    assert list(before.uses) == [A]
    assert [one.rule for one in before.unseen] == ["c"]
    assert "checkpoint split may bring more jobs" in before.unseen[0].why
    assert list(after.uses) == [A, C, C.replace(":1", ":2")]
    assert after.unseen == ()


def test_modules_config_files_profiles_and_the_directory_mean_what_they_mean_in_a_run(folder):
    write(
        "Snakefile",
        """
        module other:
            snakefile: "other/Snakefile"
            config: config
        use rule * from other as other_*
        """,
    )
    write("other/Snakefile", 'rule a:\n    output: "a.txt"\n    container: config["image"]\n    shell: "true"\n')
    write("profiles/default/config.yaml", f"configfile: [full.yaml]\ndirectory: {folder / 'elsewhere'}\n")
    write("full.yaml", f"image: {A}\napptainer_freshness: {{pin: platform, lockfile: ../shared.lock}}\n")
    found = read(["--apptainer-prefix", "images"])

    assert found.uses == {A: (RuleUse(rule="other_a", snakefile=str(folder / "other" / "Snakefile"), line=1),)}
    assert found.options.pin is PinKind.PLATFORM
    assert found.lockfile == folder / ".." / "shared.lock"
    assert found.workdir == folder / "elsewhere"
    assert found.prefix == folder / "elsewhere" / "images"
    assert Path.cwd() == folder


@pytest.mark.parametrize("text", ['workdir: "deeper"', 'import os; os.mkdir("deeper"); os.chdir("deeper")'])
def test_it_comes_back_from_the_folder_that_a_workflow_goes_to(folder, text):
    write("Snakefile", f"{text}\n{textwrap.dedent(DYNAMIC)}")
    found = read([])

    assert found.workdir == folder / "deeper"
    assert found.prefix == folder / "deeper" / ".snakemake" / "singularity"
    assert Path.cwd() == folder


@pytest.mark.parametrize("flag", ["off", "frozen", "lock"])
def test_it_does_not_matter_whether_the_flag_is_on(folder, flag):
    write("Snakefile", DYNAMIC)
    found = read(["--config", f"apptainer_freshness={flag}"])

    assert list(found.uses) == [A, B]
    assert found.options.mode is (Mode.LOCK if flag == "off" else Mode(flag))


def test_with_the_flag_on_the_dag_is_that_of_a_run_and_the_references_are_the_workflows(folder):
    write("Snakefile", DYNAMIC)
    digest = "sha256:" + "d" * 64
    pinned = f"docker://quay.io/team/b@{digest}"
    write(
        "containers.lock",
        f"""
        version = 1
        [[image]]
        reference = "{B}"
        pinned = "{pinned}"
        digest = "{digest}"
        media_type = "application/vnd.oci.image.manifest.v1+json"
        """,
    )
    (folder / "b.1.txt").touch()
    record = folder / ".snakemake" / "metadata" / base64.urlsafe_b64encode(b"b.1.txt").decode()
    write(record, json.dumps({"record_format_version": 6, "rule": "b", "container_img_url": pinned}))
    found = read(["--config", "apptainer_freshness=true"], with_outputs=True)

    assert B in found.uses
    assert found.outputs == (ExistingOutput(path="b.1.txt", rule="b", reference=B, recorded_url=pinned),)


@pytest.mark.parametrize("backend", ["file", "db"])
def test_outputs_are_those_that_are_there_whatever_keeps_the_records(folder, backend):
    write("Snakefile", DYNAMIC)
    arguments = ["--persistence-backend", backend, "b.1.txt", "b.2.txt"]
    (folder / "b.2.txt").touch()

    expected = ExistingOutput(path="b.2.txt", rule="b", reference=B.replace(":1", ":2"), recorded_url="")
    assert read(arguments, with_outputs=True).outputs == (expected,)
    assert read(arguments).outputs == ()


@pytest.mark.parametrize("flag", ["off", "true"])
def test_nothing_is_written_but_the_folders_that_every_dry_run_makes(folder, flag):
    write("Snakefile", DYNAMIC)
    write(".snakemake/iocache/latest.pkl", "of a dry run")
    write(".snakemake/locks/0.input.lock", "of a run\n")
    before = files(folder)
    others = ["--forceall", "--unlock", "--touch", "--delete-all-output", "--container-cleanup-images"]
    read([*others, "--config", f"apptainer_freshness={flag}"])

    assert files(folder) == before


def test_what_a_snakefile_prints_is_heard_by_nobody(folder, capfd):
    write("Snakefile", "import os, sys\nprint('loud')\nprint('loud', file=sys.stderr)\nos.system('echo loud')\n")
    read([])

    assert capfd.readouterr() == ("", "")


def test_it_reads_without_apptainer_and_past_other_commands(folder, monkeypatch):
    write("Snakefile", DYNAMIC)
    monkeypatch.setenv("PATH", os.defpath)

    assert list(read(["--lint", "--list-rules", "--report", "report.html"]).uses) == [A, B]


def refusal(*arguments):
    with pytest.raises(UsageError) as caught:
        read(arguments)
    assert "Traceback" not in str(caught.value)
    return caught.value


def test_no_snakefile_here(folder):
    error = refusal()

    assert error.message.startswith("there is no Snakefile here")
    assert "--snakefile" in error.hint
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('rule a:\n    output: "x"\n    shel: "true"\n', 'SyntaxError in file "{file}", line 2'),
        ('x = config["absent"]\n', 'KeyError in file "{file}", line 1'),
        ("rule a:\n    input: 1/0\n", 'ZeroDivisionError in file "{file}"'),
        ('import sys\nsys.exit("not today")\n', "not today"),
    ],
    ids=["syntax", "config", "division", "exit"],
)
def test_a_snakefile_that_fails_is_told_in_snakemakes_words(folder, text, message):
    write("Snakefile", text)
    error = refusal()

    assert message.format(file=folder / "Snakefile") in error.message
    assert error.exit_status == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--no-such-option"], "unrecognized arguments: --no-such-option"),
        (["--snakefile", "absent"], 'absent" not found'),
        (["--configfile", "absent.yaml"], "No such file or directory: 'absent.yaml'"),
        (["--help"], "ended before it read a workflow"),
    ],
    ids=["option", "snakefile", "configfile", "help"],
)
def test_arguments_that_snakemake_refuses(folder, arguments, message):
    write("Snakefile", DYNAMIC)

    assert message in refusal(*arguments).message


def test_a_wrong_option_of_ours_is_our_error(folder):
    write("Snakefile", DYNAMIC)
    with pytest.raises(InvalidSettings, match="cannot be 'lokc'"):
        read(["--config", "apptainer_freshness=lokc"])


def test_a_process_that_reads_a_workflow_can_read_another(folder):
    write("Snakefile", DYNAMIC)
    write("other/Snakefile", f'rule only:\n    output: "x"\n    container: "{C}"\n    shell: "true"\n')
    first = read([])
    second = read(["--snakefile", "other/Snakefile"])

    assert (list(first.uses), list(second.uses), list(read([]).uses)) == ([A, B], [C], [A, B])


def test_no_temporary_folder_and_no_descriptor_is_left(folder):
    write("Snakefile", DYNAMIC)
    read([])
    before = open_descriptors()
    read([])

    assert open_descriptors() <= before
    assert list((folder.parent / "home").rglob("snakemake-runtime-cache/*")) == []
