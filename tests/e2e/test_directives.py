"""Every kind of container directive runs the pinned image, in the main process and in the process of its job."""

import pytest


@pytest.fixture
def tool(repository):
    found = repository()
    found.digest = found.push("original")
    return found


def runs_pinned(workspace, tool, output="message.txt", *arguments):
    """Run the workflow, and see that `output` was made by the pinned image of `tool`."""
    workspace.snakemake(*arguments, flag="lock")
    assert workspace.metadata(output)["container_img_url"] == tool.pinned(tool.digest)
    assert workspace.read(output) == "original\n"
    assert tool.reference in workspace.lock().entries


def test_a_rule(tool, workspace):
    workspace.write(
        "Snakefile",
        f"""
        rule read:
            output: "message.txt"
            container: "{tool.reference}"
            shell: "cat /message > {{output}}"
        """,
    )
    runs_pinned(workspace, tool)


def test_a_global_container_and_a_rule_that_wants_none(tool, workspace):
    workspace.write(
        "Snakefile",
        f"""
        container: "{tool.reference}"

        rule all:
            input: "message.txt", "bare.txt"

        rule read:
            output: "message.txt"
            shell: "cat /message > {{output}}"

        rule bare:
            output: "bare.txt"
            container: None
            shell: "if [ -e /message ]; then echo inside; else echo outside; fi > {{output}}"
        """,
    )
    runs_pinned(workspace, tool)
    assert workspace.read("bare.txt") == "outside\n"
    assert not workspace.metadata("bare.txt")["container_img_url"]


def test_containerized(tool, workspace):
    workspace.write(
        "Snakefile",
        f"""
        containerized: "{tool.reference}"

        rule read:
            output: "message.txt"
            shell: "cat /message > {{output}}"
        """,
    )
    runs_pinned(workspace, tool)


def test_an_included_file_and_a_module(tool, repository, workspace):
    other = repository("other")
    other.digest = other.push("original")
    workspace.write(
        "included.smk",
        f"""
        rule read:
            output: "message.txt"
            container: "{tool.reference}"
            shell: "cat /message > {{output}}"
        """,
    )
    workspace.write(
        "module/Snakefile",
        f"""
        rule read:
            output: "module.txt"
            container: "{other.reference}"
            shell: "cat /message > {{output}}"
        """,
    )
    workspace.write(
        "Snakefile",
        """
        rule all:
            input: "message.txt", "other/module.txt"

        include: "included.smk"

        module other:
            snakefile: "module/Snakefile"
            prefix: "other"

        use rule * from other as other_*
        """,
    )
    runs_pinned(workspace, tool)
    runs_pinned(workspace, other, "other/module.txt")


def test_a_rule_that_inherits_from_another(tool, workspace):
    workspace.write(
        "Snakefile",
        f"""
        rule all:
            input: "message.txt"

        rule base:
            output: "base.txt"
            container: "{tool.reference}"
            shell: "cat /message > {{output}}"

        use rule base as derived with:
            output: "message.txt"
        """,
    )
    runs_pinned(workspace, tool)


def test_a_text_with_wildcards(tool, workspace):
    workspace.write(
        "Snakefile",
        f"""
        rule all:
            input: "1.0/message.txt"

        rule read:
            output: "{{tag}}/message.txt"
            container: "docker://{tool.registry.host}/{tool.name}:{{tag}}"
            shell: "cat /message > {{output}}"
        """,
    )
    runs_pinned(workspace, tool, "1.0/message.txt")


def test_a_function_of_wildcards(tool, workspace):
    workspace.write(
        "Snakefile",
        f"""
        def image(wildcards):
            return "docker://{tool.registry.host}/{tool.name}:" + wildcards.tag

        rule all:
            input: "1.0/message.txt"

        rule read:
            output: "{{tag}}/message.txt"
            container: image
            shell: "cat /message > {{output}}"
        """,
    )
    runs_pinned(workspace, tool, "1.0/message.txt")


def test_a_function_that_names_no_container_for_some_jobs(tool, workspace):
    workspace.write(
        "Snakefile",
        f"""
        rule all:
            input: "in/message.txt", "out/message.txt"

        rule read:
            output: "{{where}}/message.txt"
            container: lambda wildcards: "{tool.reference}" if wildcards.where == "in" else None
            shell: "(cat /message || echo outside) > {{output}} 2> /dev/null"
        """,
    )
    runs_pinned(workspace, tool, "in/message.txt")
    assert workspace.read("out/message.txt") == "outside\n"


def test_a_look_up_in_the_configuration(tool, workspace):
    workspace.write("config.yaml", f"images: {{read: '{tool.reference}'}}\n")
    workspace.write(
        "Snakefile",
        """
        configfile: "config.yaml"

        rule read:
            output: "message.txt"
            container: config["images"]["read"]
            shell: "cat /message > {output}"
        """,
    )
    runs_pinned(workspace, tool)


@pytest.mark.parametrize("directive", ["run", "script", "group"])
def test_a_job_that_runs_in_a_process_of_its_own(tool, workspace, directive):
    tool.digest = tool.push("original", bash=True)  # Snakemake runs scripts of the shell in that one alone
    workspace.write("read.sh", "cat /message > ${snakemake_output[0]}\n")
    body = {
        "run": 'run:\n                shell("cat /message > {output}")',
        "script": 'script: "read.sh"',
        "group": 'group: "one"\n            shell: "cat /message > {output}"',
    }[directive]
    workspace.write(
        "Snakefile",
        f"""
        rule read:
            output: "message.txt"
            container: "{tool.reference}"
            {body}
        """,
    )
    runs_pinned(workspace, tool)


def test_rules_that_come_to_life_after_a_checkpoint(tool, repository, workspace):
    late = repository("late")
    late.digest = late.push("original", tag="found-later")
    workspace.write(
        "Snakefile",
        f"""
        def made(wildcards):
            folder = checkpoints.choose.get().output[0]
            return expand("{{tag}}/message.txt", tag=glob_wildcards(folder + "/{{tag}}.x").tag)

        rule all:
            input: made

        checkpoint choose:
            output: directory("chosen")
            container: "{tool.reference}"
            shell: "mkdir {{output}} && touch {{output}}/found-later.x"

        rule read:
            output: "{{tag}}/message.txt"
            container: "docker://{late.registry.host}/{late.name}:{{tag}}"
            shell: "cat /message > {{output}}"
        """,
    )
    result = workspace.snakemake(flag="lock")

    assert workspace.metadata("found-later/message.txt")["container_img_url"] == late.pinned(late.digest)
    assert set(workspace.lock().entries) == {tool.reference, late.tagged("found-later")}
    assert f"added: {late.tagged('found-later')} → {late.digest[:19]}" in result.ours


def test_an_image_met_after_a_checkpoint_that_a_locked_lock_lacks_does_not_run(tool, workspace):
    workspace.write(
        "Snakefile",
        f"""
        def made(wildcards):
            checkpoints.choose.get()
            return "1.0/message.txt"

        rule all:
            input: made

        checkpoint choose:
            output: "chosen.txt"
            shell: "touch {{output}}"

        rule read:
            output: "{{tag}}/message.txt"
            container: "docker://{tool.registry.host}/{tool.name}:{{tag}}"
            shell: "cat /message > {{output}}"
        """,
    )
    result = workspace.snakemake(flag="locked", fails=True)

    assert "not in containers.lock" in result.output
    assert not workspace.exists("1.0/message.txt")


def test_many_rules_with_one_reference_make_one_request(tool, workspace):
    rules = "\n".join(
        f'rule r{n}:\n    output: "{n}.txt"\n    container: "{tool.reference}"\n    shell: "touch {{output}}"'
        for n in range(50)
    )
    workspace.write("Snakefile", f"rule all:\n    input: [f'{{n}}.txt' for n in range(50)]\n{rules}\n")
    workspace.snakemake("--dry-run", flag="lock")
    resolving = len(tool.our_requests())
    workspace.snakemake("r0", flag="lock")
    tool.registry.clear()
    workspace.snakemake("--dry-run", flag="lock")

    assert resolving == 1  # the manifest that the tag points at, hashed
    assert [method for method, _, _ in tool.our_requests()] == ["HEAD"]


def test_a_reference_that_carries_a_tag_and_a_digest_runs_the_digest(tool, workspace):
    tool.push("updated")
    workspace.write(
        "Snakefile",
        f"""
        rule read:
            output: "message.txt"
            container: "docker://{tool.registry.host}/{tool.name}:1.0@{tool.digest}"
            shell: "cat /message > {{output}}"
        """,
    )
    workspace.snakemake(flag="lock")

    assert workspace.read("message.txt") == "original\n"
