"""The accounts that tests of shared folders run as."""

from __future__ import annotations

import os
import pwd

import pytest

from tests.support import accounts


def test_the_first_of_enough_further_accounts_of_this_user_is_found(tmp_path):
    name, file = pwd.getpwuid(os.getuid()).pw_name, tmp_path / "subuid"
    file.write_text(f"another:100000:65536\n{name}:300000:10\n{name}:400000:65536\n")
    assert accounts._first_of(file) == "400000"


def test_a_user_without_further_accounts_is_told_what_to_do(tmp_path):
    for text in (None, "", "another:100000:65536\n"):
        if text is not None:
            (tmp_path / "subuid").write_text(text)
        with pytest.raises(accounts.NoAccounts, match=r"usermod --add-subuids .*, or run the tests as root"):
            accounts._first_of(tmp_path / "subuid")
