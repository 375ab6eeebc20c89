"""Where the flag may stand, and who wins."""

import pytest

from tests.support.workflow import READS_MESSAGE


@pytest.fixture
def tool(repository, workspace):
    found = repository()
    found.push("original")
    workspace.write("Snakefile", READS_MESSAGE.format(image=found.reference))
    return found


def with_configfile(workspace, text):
    workspace.write("config.yaml", text)
    workspace.write("Snakefile", 'configfile: "config.yaml"\n' + workspace.read("Snakefile"))


def test_a_config_file_that_the_workflow_names(tool, workspace):
    with_configfile(workspace, "apptainer_freshness: true\n")
    workspace.snakemake()

    assert tool.reference in workspace.lock().entries


def test_a_config_file_on_the_command_line(tool, workspace):
    workspace.write("more.yaml", "apptainer_freshness: {lockfile: images.lock}\n")
    workspace.snakemake("--configfile", "more.yaml")

    assert tool.reference in workspace.lock("images.lock").entries


def test_a_profile(tool, workspace):
    workspace.write("profile/config.yaml", "config:\n  - apptainer_freshness=lock\n")
    workspace.snakemake("--profile", "profile")

    assert tool.reference in workspace.lock().entries


def test_the_environment(tool, workspace):
    workspace.snakemake(environment={"SNAKEMAKE_APPTAINER_FRESHNESS": "lock"})

    assert tool.reference in workspace.lock().entries


def test_the_environment_changes_the_mode_and_keeps_the_rest_of_the_mapping(tool, workspace):
    with_configfile(workspace, "apptainer_freshness: {mode: frozen, lockfile: images.lock}\n")
    workspace.snakemake(environment={"SNAKEMAKE_APPTAINER_FRESHNESS": "lock"})

    assert tool.reference in workspace.lock("images.lock").entries


def test_the_command_line_changes_the_mode_and_keeps_the_rest_of_the_mapping(tool, workspace):
    with_configfile(workspace, "apptainer_freshness: {mode: frozen, lockfile: images.lock}\n")
    workspace.snakemake(flag="lock", environment={"SNAKEMAKE_APPTAINER_FRESHNESS": "off"})

    assert tool.reference in workspace.lock("images.lock").entries


def test_the_command_line_can_turn_it_off(tool, workspace):
    with_configfile(workspace, "apptainer_freshness: true\n")
    workspace.snakemake(flag="off")

    assert not workspace.exists("containers.lock")


def test_a_workflow_with_a_closed_schema_can_be_run_with_the_flag(tool, workspace):
    import textwrap

    workspace.write(
        "schema.yaml",
        """\
        $schema: http://json-schema.org/draft-07/schema#
        type: object
        additionalProperties: false
        properties: {sample: {}}
        """,
    )
    workspace.write(
        "Snakefile",
        textwrap.dedent("""
        from snakemake.utils import validate
        validate(config, "schema.yaml")

        rule all:
            input: "run.txt"

        rule run:
            input: "message.txt"
            output: "run.txt"
            run:
                open(output[0], "w").write(repr(sorted(config)))
        """)
        + workspace.read("Snakefile"),
    )
    workspace.snakemake(flag="lock")
    workspace.snakemake("--forceall", environment={"SNAKEMAKE_APPTAINER_FRESHNESS": "lock"})

    assert tool.reference in workspace.lock().entries
    assert workspace.read("run.txt") == "[]"


def test_a_closed_schema_that_refuses_the_flag_is_followed_by_how_to_give_it(tool, workspace):
    workspace.write(
        "schema.yaml",
        """\
        $schema: http://json-schema.org/draft-07/schema#
        type: object
        additionalProperties: false
        properties: {sample: {type: string}}
        """,
    )
    head = 'from snakemake.utils import validate\nvalidate(config, "schema.yaml")\n'
    workspace.write("Snakefile", 'configfile: "config.yaml"\n' + head + 'include: "rest.smk"\n')
    workspace.write("rest.smk", "")
    workspace.write("config.yaml", "apptainer_freshness: true\n")
    advice = "apptainer-freshness: take apptainer_freshness out of the configuration file, and give it where no schema"
    told = workspace.snakemake(fails=True).output
    assert "Additional properties are not allowed" in told
    assert told.count(advice) == 1
    assert told.index("Additional properties") < told.index(advice)

    workspace.write("config.yaml", "apptainer_freshness: true\nsample: 1\n")
    workspace.write("schema.yaml", workspace.read("schema.yaml").replace("false", "true"))
    other = workspace.snakemake(fails=True).output
    assert "1 is not of type" in other
    assert advice not in other


def test_without_sdm_apptainer_it_says_in_one_line_that_there_is_nothing_to_do(tool, workspace):
    workspace.write("Snakefile", 'rule read:\n    output: "x"\n    container: "docker://x/y:1"\n    shell: "touch x"\n')
    result = workspace.snakemake(flag="lock", sdm=False)

    assert result.ours == ["apptainer-freshness: nothing to do: without --sdm apptainer Snakemake ignores containers"]
    assert not workspace.exists("containers.lock")


def test_a_lock_lies_beside_the_main_snakefile_wherever_the_work_is_done(tool, workspace):
    workspace.write("workflow/Snakefile", workspace.read("Snakefile"))
    (workspace.folder / "Snakefile").unlink()
    workspace.snakemake("--snakefile", "workflow/Snakefile", "--directory", "results", flag="lock")

    assert tool.reference in workspace.lock("workflow/containers.lock").entries
    assert workspace.read("results/message.txt") == "original\n"


def test_quiet_leaves_what_changed_under_its_heading_and_quiet_all_nothing(tool, workspace):
    workspace.snakemake(flag="lock")
    tool.push("updated")

    quiet = workspace.snakemake("--forceall", "--quiet", flag="lock")
    silent = workspace.snakemake("--forceall", "--quiet", "all", flag="lock")

    assert "(mode lock): 1 moved" in quiet.output
    assert "moved: " in quiet.output
    assert "moved" not in silent.output


def test_nothing_else_changes_in_snakemakes_output(tool, workspace):
    import re

    def shape(result):
        kept = [line for line in result.output.splitlines() if line.strip() not in result.ours]
        return [
            re.sub(r"\[.*?\]|\S+:\d+/\S+|[0-9a-f-]{36}|\d+", "", line)
            for line in kept
            if "simg" not in line and "snakemake.log" not in line
        ]

    workspace.snakemake()
    plain = workspace.snakemake("--forceall")
    workspace.snakemake("--forceall", flag="lock")
    pinned = workspace.snakemake("--forceall", environment={"SNAKEMAKE_APPTAINER_FRESHNESS": "lock"})

    assert shape(pinned) == shape(plain)


def test_a_misspelt_flag_stops_the_run_and_never_runs_unprotected(tool, workspace):
    result = workspace.snakemake("--config", "apptainer-freshness=locked", fails=True)

    assert "did you mean 'apptainer_freshness'?" in result.output
    assert not workspace.exists("message.txt")

    with_configfile(workspace, "apptainer_freshnes: {mode: frozen}\n")
    result = workspace.snakemake("--dry-run", fails=True)

    assert "the configuration has a key 'apptainer_freshnes', which does nothing" in result.output
    assert "Traceback" not in result.output
