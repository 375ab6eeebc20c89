"""No secret of a command line gets into a record."""

import pytest

from snakemake_apptainer_freshness.record.command import kept

HIDDEN = "[redacted]"


def keep(*arguments, **environment):
    return list(kept(arguments, environment, ours="apptainer_freshness_pins"))


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("password=CANARY", f"password={HIDDEN}"),
        ("db_password=CANARY with spaces", f"db_password={HIDDEN}"),
        ("database={user: me, password: CANARY, host: x}", f"database={{user: me, password: {HIDDEN}"),
        ('database={"token": "CANARY"}', f'database={{"token": {HIDDEN}'),
        ("apiKey=CANARY", f"apiKey={HIDDEN}"),
        ("aws.access_key=CANARY", f"aws.access_key={HIDDEN}"),
        ("--storage-ftp-password=CANARY", f"--storage-ftp-password={HIDDEN}"),
        ("--docker-password CANARY", f"--docker-password {HIDDEN}"),
        ("qsub -v MY_TOKEN=CANARY,X=1 -q long", f"qsub -v MY_TOKEN={HIDDEN}"),
        ("--env DB_PASSWORD=CANARY\n--nv", f"--env DB_PASSWORD={HIDDEN}"),
        ("https://me:CANARY@host/x", "https://host/x"),
        ("https://host/x?token=CANARY", f"https://host/x?token={HIDDEN}"),
        ("Authorization: Bearer CANARY", f"Authorization: {HIDDEN}"),
    ],
)
def test_what_is_named_like_a_secret_is_taken_out(argument, expected):
    assert keep("snakemake", argument) == ["snakemake", expected]


def test_all_values_of_an_option_that_is_named_like_a_secret_are_taken_out():
    assert keep("--storage-s3-secret-key", "CANARY", "CANARY", "--cores", "2") == [
        "--storage-s3-secret-key", HIDDEN, HIDDEN, "--cores", "2"
    ]  # fmt: skip


def test_what_the_environment_holds_as_a_secret_is_taken_out_wherever_it_stands():
    assert keep("sample=xCANARY1y", "b=true", MY_TOKEN="CANARY1", SECRET_MODE="true") == [
        f"sample=x{HIDDEN}y",
        "b=true",
    ]


def test_the_folder_of_the_shell_is_no_secret():
    assert keep("/home/me/bin/snakemake", PWD="/home/me", OLDPWD="/home/me/bin") == ["/home/me/bin/snakemake"]


@pytest.mark.parametrize(
    "argument",
    ["--cores", "all", "author=me", "compass=north", "passes=3", "results/keyboard.txt", "--configfile", "x"],
)
def test_the_rest_stays(argument):
    assert keep(argument) == [argument]


def test_our_own_entry_is_left_out_and_nothing_is_without_bounds():
    found = keep("a=1", "apptainer_freshness_pins=v1.xyz", "x" * 100_000, *["y"] * 5000)

    assert found[0] == "a=1"
    assert (len(found), len(found[1])) == (2000, 4097)
