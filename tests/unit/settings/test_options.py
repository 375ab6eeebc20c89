"""What a user may write under ``apptainer_freshness``, and what he is told where he may not."""

import pytest

from snakemake_apptainer_freshness.errors import InvalidSettings
from snakemake_apptainer_freshness.settings import Mode, Options, PinKind, Reaction, Rerun, parse_options

OFF = Options(mode=Mode.OFF)


@pytest.mark.parametrize(
    ("value", "mode"),
    [
        (None, Mode.OFF),
        (False, Mode.OFF),
        ("false", Mode.OFF),
        ("off", Mode.OFF),
        (True, Mode.LOCK),
        ("true", Mode.LOCK),
        ("lock", Mode.LOCK),
        ("update", Mode.UPDATE),
        ("locked", Mode.LOCKED),
        ("Frozen ", Mode.FROZEN),
        ({}, Mode.LOCK),
        ({"mode": False}, Mode.OFF),  # YAML 1.1 reads a bare off as false
        ({"mode": "locked"}, Mode.LOCKED),
    ],
)
def test_a_truth_value_a_mode_or_a_mapping_sets_the_mode(value, mode):
    assert parse_options(value, source="config", base=OFF).mode is mode


def test_a_mapping_sets_what_it_names_and_keeps_the_defaults_for_the_rest():
    options = parse_options(
        {"lockfile": "envs/containers.lock", "on_moved": "error", "pin": "platform", "rerun": "never"},
        source="config",
        base=OFF,
    )

    assert options == Options(
        mode=Mode.LOCK,
        lockfile="envs/containers.lock",
        on_moved=Reaction.ERROR,
        pin=PinKind.PLATFORM,
        rerun=Rerun.NEVER,
    )


def test_a_mode_laid_over_a_mapping_keeps_the_mappings_other_keys():
    mapping = parse_options({"lockfile": "x.lock", "mode": "locked"}, source="config", base=OFF)

    assert parse_options("update", source="--config", base=mapping) == Options(mode=Mode.UPDATE, lockfile="x.lock")


def test_true_laid_over_a_mode_keeps_the_mode():
    locked = parse_options("locked", source="config", base=OFF)

    assert parse_options(True, source="--config", base=locked).mode is Mode.LOCKED


@pytest.mark.parametrize(
    ("value", "named", "suggested"),
    [
        ({"on_movd": "warn"}, "'on_movd'", "'on_moved'"),
        ({"on-moved": "warn"}, "'on-moved'", "'on_moved'"),
        ({"mode": "lokced"}, "'lokced'", "'locked'"),
        ({"on_moved": "eror"}, "'eror'", "'error'"),
        ({"rerun": "contents"}, "'contents'", "'content'"),
        ("updat", "'updat'", "'update'"),
        ("tru", "'tru'", "'true'"),
    ],
)
def test_a_misspelt_key_or_value_is_named_and_the_nearest_suggested(value, named, suggested):
    with pytest.raises(InvalidSettings) as caught:
        parse_options(value, source="--config", base=OFF)

    assert named in caught.value.message
    assert f"did you mean {suggested}" in caught.value.message
    assert "--config" in caught.value.message


@pytest.mark.parametrize(
    "value",
    [
        *({"lockfile": path} for path in ("", 3, "3", "-1.5", "true", "No", "null", "~", "a\0b")),
        {"on_moved": True},
        3,
        ["lock"],
    ],
)
def test_a_value_of_the_wrong_kind_is_refused(value):
    with pytest.raises(InvalidSettings):
        parse_options(value, source="config", base=OFF)


@pytest.mark.parametrize("path", ["./3", "3.lock", "true.lock", "~/containers.lock", "off/containers.lock"])
def test_a_path_that_only_begins_like_a_number_is_one(path):
    assert parse_options({"lockfile": path}, source="config", base=OFF).lockfile == path


def test_the_hint_lists_what_is_allowed():
    with pytest.raises(InvalidSettings) as caught:
        parse_options({"on_moved": "x"}, source="config", base=OFF)

    assert caught.value.hint == "on_moved is one of ignore, warn, error"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(0, 0.0), ("0", 0.0), (90, 90.0), ("90s", 90.0), ("1.5 m", 90.0), ("15m", 900.0), ("24h", 86400.0)],
)
def test_for_how_long_answers_are_remembered_is_a_time(value, seconds):
    assert parse_options({"check_every": value}, source="config", base=OFF).check_every == seconds


@pytest.mark.parametrize(
    "value", [True, None, -1, "", "-1m", "1d", "15 minutes", "25h", "1e3", "nan", "inf", "٣m", ["5m"]]
)
def test_what_is_no_time_or_longer_than_a_day_is_refused(value):
    with pytest.raises(InvalidSettings, match="check_every cannot be") as caught:
        parse_options({"check_every": value}, source="config", base=OFF)
    assert "15m" in caught.value.hint
