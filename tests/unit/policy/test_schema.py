"""What stands in a policy's tables is of its kind, or the error names the place and what may stand there."""

import pytest

from snakemake_apptainer_freshness.errors import InvalidPolicy
from snakemake_apptainer_freshness.policy.schema import Level, level_of, nearest, table_of, text_of, texts_of

KEYS = ("allow", "level")


def test_a_rule_is_an_error_unless_it_says_otherwise():
    assert level_of({}, "tags", "site") is Level.ERROR
    assert level_of({"level": "warn"}, "tags", "site") is Level.WARN


@pytest.mark.parametrize("level", ["WARN", "fatal", 1, None, ["warn"]])
def test_a_level_that_is_none_is_refused(level):
    with pytest.raises(InvalidPolicy, match=r"site: policy\.tags\.level cannot be") as raised:
        level_of({"level": level}, "tags", "site")
    assert raised.value.hint == "level is one of warn, error"


def test_a_table_has_known_keys_alone():
    assert table_of({"allow": 1}, "policy.tags", "site", allowed=KEYS) == {"allow": 1}
    with pytest.raises(InvalidPolicy, match=r"no key 'alow' \(did you mean 'allow'\?\)") as raised:
        table_of({"alow": 1}, "policy.tags", "site", allowed=KEYS)
    assert raised.value.hint == "its keys are allow, level"
    with pytest.raises(InvalidPolicy, match="has no key '7'"):
        table_of({7: 1}, "policy.tags", "site", allowed=KEYS)
    with pytest.raises(InvalidPolicy, match=r"policy\.tags must be a table, not list"):
        table_of([], "policy.tags", "site", allowed=KEYS)


def test_a_list_has_one_text_or_more():
    assert texts_of(["a", "b"], "allow", "site") == ("a", "b")
    for value in ([], "a", None, {"a": 1}, 3):
        with pytest.raises(InvalidPolicy, match="site: allow must be a list of one text or more"):
            texts_of(value, "allow", "site")
    with pytest.raises(InvalidPolicy, match="allow has 3"):
        texts_of(["a", 3], "allow", "site")


def test_a_text_is_short_and_can_be_printed():
    assert text_of("ä" * 300, "allow", "site") == "ä" * 300
    for value in ("", "ä" * 301, "two\nlines", "\x1b[31mred", "right\u202eleft", b"bytes", True):
        with pytest.raises(InvalidPolicy, match="no short printable text"):
            text_of(value, "allow", "site")


def test_only_what_is_near_is_asked_for():
    assert nearest("registry", ("registries", "tags")) == " (did you mean 'registries'?)"
    assert nearest("zzz", ("registries", "tags")) == ""
