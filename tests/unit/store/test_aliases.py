import os

import pytest

from snakemake_apptainer_freshness.store.aliases import Aliases
from snakemake_apptainer_freshness.store.prefix import ItemKind, alias_target, image_path, survey
from tests.support.pins import pin, put

TAG, URL = pin().reference.text, pin().url


@pytest.fixture
def folder(tmp_path):
    put(tmp_path, pin())
    return tmp_path


@pytest.fixture
def name(folder):
    return image_path(folder, TAG)


def test_the_name_of_a_tag_leads_to_the_image_of_its_pin_until_it_is_taken_back(folder, name):
    aliases = Aliases(folder)
    aliases.make({TAG: URL})
    assert name.samefile(image_path(folder, URL))
    assert {item.kind for item in survey(folder) if item.path == name} == {ItemKind.ALIAS}

    aliases.take_back()
    assert not os.path.lexists(name)
    assert image_path(folder, URL).exists()


def test_what_plain_snakemake_pulled_under_that_name_stays(folder, name):
    name.write_text("pulled by its tag")
    aliases = Aliases(folder)
    aliases.make({TAG: URL})
    aliases.take_back()

    assert name.read_text() == "pulled by its tag"


def test_a_link_of_somebody_else_stays(folder, name):
    name.symlink_to("/somewhere/else.sif")
    aliases = Aliases(folder)
    aliases.make({TAG: URL})
    aliases.take_back()

    assert name.readlink().name == "else.sif"


def test_the_last_of_several_runs_takes_the_link_back(folder, name):
    first, second = Aliases(folder), Aliases(folder)
    first.make({TAG: URL})
    second.make({TAG: URL})
    first.take_back()
    assert alias_target(name) == image_path(folder, URL).name

    second.take_back()
    assert not os.path.lexists(name)


def test_what_a_killed_run_left_leads_to_the_new_pin_and_is_taken_back(folder, name):
    name.symlink_to(f"{'0' * 32}.simg")
    aliases = Aliases(folder)
    aliases.make({TAG: URL})
    assert name.samefile(image_path(folder, URL))

    aliases.take_back()
    assert not os.path.lexists(name)


@pytest.mark.parametrize("urls", [{URL: URL}, {TAG: "docker://not/there:1"}])
def test_no_link_is_made_of_an_image_to_itself_or_to_nothing(folder, urls):
    before = set(folder.iterdir())
    Aliases(folder).make(urls)

    assert set(folder.iterdir()) == before


def test_a_folder_that_cannot_be_written_gets_no_link(folder, name, monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(os, "symlink", refuse)
    Aliases(folder).make({TAG: URL})

    assert not os.path.lexists(name)
