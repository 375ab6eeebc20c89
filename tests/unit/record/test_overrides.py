"""What is put over an image is found in Apptainer's arguments and in its environment, however it is spelled."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snakemake_apptainer_freshness.record.overrides import is_open, kept_environment, over_programs, settings_of
from snakemake_apptainer_freshness.record.run import OverrideKind
from snakemake_apptainer_freshness.settings import RECORDS

HIDDEN = "[redacted]"


def found(arguments="", **environment):
    """Each override as its source, path and what says so."""
    settings = settings_of(arguments, environment, folder="/work dir")
    return [(override.source, override.path, override.by) for override in settings.overrides]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--bind /a:/bin/tool", ("/a", "/bin/tool")),
        ("--bind=/a:/bin/tool:ro", ("/a", "/bin/tool")),
        ("-B /a:/bin/tool", ("/a", "/bin/tool")),
        ("-B/a:/bin/tool", ("/a", "/bin/tool")),
        ("-eB /a:/bin/tool", ("/a", "/bin/tool")),
        ("--nv --bind '/a b:/bin/tool'", ("/a b", "/bin/tool")),
        ("--bind /opt", ("/opt", "/opt")),
        ("--bind data", ("data", "/work dir/data")),
        ("--bind /a:/bin/../usr//bin/tool/", ("/a", "/usr/bin/tool")),
        (r"--bind '/a\:1:/b'", ("/a:1", "/b")),
        (r"--bind '/a\,1:/b'", ("/a,1", "/b")),
        ("--bind $HERE/a:${HERE}/b", ("/here/a", "/here/b")),
        ("--bind ~/a:/b", ("/home/me/a", "/b")),
        ("--mount type=bind,source=/a,destination=/b", ("/a", "/b")),
        ("--mount type=bind,src=/a,dst=/b,ro", ("/a", "/b")),
        ("--scratch /opt", ("", "/opt")),
        ("-S /opt", ("", "/opt")),
        ("--home /a:/opt", ("/a", "/opt")),
        ("-H /a", ("/a", "/a")),
        ("--fusemount 'host:sshfs me@host:/ /opt'", ("host:sshfs me@host:/ /opt", "/opt")),
        ("--overlay /a.img", ("/a.img", "/")),
        ("-o /a.img", ("/a.img", "/")),
        ("--env PREPEND_PATH=/a,X=1", ("/a", "PREPEND_PATH")),
    ],
)
def test_an_option_is_found_however_it_is_spelled(arguments, expected):
    assert [one[:2] for one in found(arguments, HERE="/here", HOME="/home/me")] == [expected]


def test_several_binds_in_one_value_are_all_found_and_their_options_are_none():
    assert [one[:2] for one in found("--bind /a:/b:ro,id=1,image-src=/x,/c,/d:/e")] == [
        ("/a", "/b"), ("/c", "/c"), ("/d", "/e")
    ]  # fmt: skip


@pytest.mark.parametrize("arguments", ["", "--userns --nv", "-e -c", "--pwd /usr", "-W /usr", "--workdir /usr"])
def test_what_puts_nothing_over_an_image_is_no_override(arguments):
    assert found(arguments) == []


@pytest.mark.parametrize("prefix", ["APPTAINER", "SINGULARITY"])
@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("_BIND", "/a:/b", ("/a", "/b")),
        ("_BINDPATH", "/a:/b", ("/a", "/b")),
        ("_MOUNT", "type=bind,source=/a,destination=/b", ("/a", "/b")),
        ("_OVERLAY", "/a.img", ("/a.img", "/")),
        ("_OVERLAYIMAGE", "/a.img", ("/a.img", "/")),
        ("_SCRATCH", "/b", ("", "/b")),
        ("_CONTAINLIBS", "/a/libc.so", ("/a/libc.so", "/.singularity.d/libs")),
        ("ENV_PREPEND_PATH", "/a", ("/a", "PREPEND_PATH")),
        ("ENV_LD_PRELOAD", "/a.so", ("/a.so", "LD_PRELOAD")),
    ],
)
def test_a_variable_of_either_program_counts_as_its_option(prefix, name, value, expected):
    assert found(**{prefix + name: value}) == [(*expected, prefix + name)]


def test_what_only_a_shell_could_work_out_may_be_any_path():
    ((_, path, _),) = found("--bind /a:$(echo /bin/tool)")

    assert is_open(path)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("--bind /a:/usr/bin/tool", ["--bind puts /a over /usr/bin/tool of all images"]),
        ("--bind /a:/", ["--bind puts /a over / of all images"]),
        ("--bind '/a:$(x)'", ["--bind puts /a over $(x) of all images"]),
        ("--overlay /a.img", ["--overlay puts /a.img over all images"]),
        ("--bind /scratch,/data:/mnt,/etc/hosts,/userdata", []),
    ],
)
def test_what_lies_over_programs_is_told_before_any_image_is_looked_at(arguments, told):
    assert list(over_programs(settings_of(arguments, {}, folder="/x").overrides)) == told


def test_more_than_a_record_holds_may_be_over_anything():
    many = settings_of("", {"APPTAINER_BIND": ",".join(f"/a/{n}" for n in range(RECORDS.arguments + 1))}, folder="/")

    assert len(many.overrides) == RECORDS.arguments
    assert many.overrides[-1].kind is OverrideKind.OVERLAY


def test_the_environment_keeps_what_changes_a_run_and_no_secret():
    assert kept_environment(
        {
            "APPTAINER_BIND": "/a",
            "SINGULARITY_NV": "1",
            "APPTAINERENV_AWS_KEY": "CANARY",
            "APPTAINERENV_PREPEND_PATH": "/a",
            "APPTAINER_DOCKER_PASSWORD": "CANARY",
            "HOME": "/root",
        }
    ) == {
        "APPTAINER_BIND": "/a",
        "APPTAINERENV_AWS_KEY": HIDDEN,
        "APPTAINERENV_PREPEND_PATH": "/a",
        "SINGULARITY_NV": "1",
    }


def test_arguments_keep_no_secret():
    settings = settings_of("--env TOKEN=CANARY --bind /a:/b", {}, folder="/")

    assert settings.arguments == ("--env", f"TOKEN={HIDDEN}", "--bind", "/a:/b")


@given(st.text(), st.text())
def test_whatever_stands_there_is_read_without_an_error(arguments, value):
    for override in settings_of(arguments, {"APPTAINER_BIND": value, "APPTAINER_MOUNT": value}, folder="/x").overrides:
        assert override.kind in OverrideKind
