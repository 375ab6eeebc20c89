from pathlib import Path

import pytest

from snakemake_apptainer_freshness.errors import InvalidRegistriesConf, PolicyRefused
from snakemake_apptainer_freshness.registry import containers_conf
from snakemake_apptainer_freshness.registry.containers_conf import RegistriesConf


def conf(text, **options):
    return RegistriesConf(registries=containers_conf.parse(text, "a file"), **options)


def places(text, name="quay.io/team/tool", *, by_digest=False):
    host, _, repository = name.partition("/")
    return [(str(place), place.insecure) for place in conf(text).places(host, repository, by_digest=by_digest)]


def test_without_an_entry_it_is_asked_for_where_it_says():
    assert places("") == [("quay.io/team/tool", False)]


def test_docker_hub_is_reached_at_its_own_host():
    (place,) = conf("").places("docker.io", "library/alpine", by_digest=False)
    assert place.api_host == "registry-1.docker.io"


def test_a_remap_replaces_the_prefix():
    text = '[[registry]]\nprefix = "quay.io/team"\nlocation = "local.test:5000/mirror"\ninsecure = true\n'
    assert places(text) == [("local.test:5000/mirror/tool", True)]
    assert places(text, "quay.io/other/tool") == [("quay.io/other/tool", False)]


def test_mirrors_come_first_in_their_order():
    text = """
        [[registry]]
        location = "quay.io"
        [[registry.mirror]]
        location = "one.test/q"
        [[registry.mirror]]
        location = "two.test"
        insecure = true
    """
    assert places(text) == [("one.test/q/team/tool", False), ("two.test/team/tool", True), ("quay.io/team/tool", False)]


def test_the_longest_prefix_counts_and_ends_at_a_boundary():
    text = """
        [[registry]]
        location = "quay.io"
        [[registry]]
        prefix = "quay.io/team"
        location = "team.test"
        [[registry]]
        prefix = "quay.io/team/to"
        location = "wrong.test"
    """
    assert places(text) == [("team.test/tool", False)]


def test_a_wildcard_stands_for_all_hosts_below():
    text = '[[registry]]\nprefix = "*.example"\nlocation = "mirror.test/x"\n'
    assert places(text, "a.example/t/u") == [("mirror.test/x/t/u", False)]
    assert places(text, "example/t/u") == [("example/t/u", False)]


def test_a_wildcard_without_a_location_keeps_the_host():
    assert places('[[registry]]\nprefix = "*.example"\ninsecure = true\n', "a.example/t") == [("a.example/t", True)]


@pytest.mark.parametrize(
    ("setting", "by_digest", "asked"),
    [
        ('pull-from-mirror = "digest-only"', False, False),
        ('pull-from-mirror = "digest-only"', True, True),
        ('pull-from-mirror = "tag-only"', False, True),
        ('pull-from-mirror = "tag-only"', True, False),
        ('pull-from-mirror = "all"', True, True),
    ],
)
def test_mirrors_may_be_for_tags_or_digests_alone(setting, by_digest, asked):
    text = f'[[registry]]\nlocation = "quay.io"\n[[registry.mirror]]\nlocation = "m.test"\n{setting}\n'
    assert len(places(text, by_digest=by_digest)) == 1 + asked


def test_mirror_by_digest_only_is_the_older_word_for_it():
    text = (
        '[[registry]]\nlocation = "quay.io"\nmirror-by-digest-only = true\n[[registry.mirror]]\nlocation = "m.test"\n'
    )
    assert len(places(text)) == 1
    assert len(places(text, by_digest=True)) == 2


def test_a_blocked_registry_is_refused():
    with pytest.raises(PolicyRefused, match="blocked"):
        places('[[registry]]\nlocation = "quay.io"\nblocked = true\n')


def test_the_download_goes_to_the_first_mirror_of_the_host_and_nowhere_else():
    host_level = '[[registry]]\nlocation = "quay.io"\n[[registry.mirror]]\nlocation = "m.test/q"\n'
    assert str(conf(host_level).download_place("quay.io", "team/tool")) == "m.test/q/team/tool"
    remap = '[[registry]]\nprefix = "quay.io"\nlocation = "other.test"\n'
    assert str(conf(remap).download_place("quay.io", "team/tool")) == "quay.io/team/tool"
    deeper = (
        '[[registry]]\nprefix = "quay.io/team"\nlocation = "quay.io/team"\n[[registry.mirror]]\nlocation = "m.test"\n'
    )
    assert str(conf(deeper).download_place("quay.io", "team/tool")) == "quay.io/team/tool"


def test_the_older_format_lists_insecure_and_blocked_registries():
    text = """
        [registries.search]
        registries = ["docker.io"]
        [registries.insecure]
        registries = ["local.test:5000"]
        [registries.block]
        registries = ["bad.test"]
    """
    assert places(text, "local.test:5000/x") == [("local.test:5000/x", True)]
    with pytest.raises(PolicyRefused):
        places(text, "bad.test/x")


@pytest.mark.parametrize(
    "text",
    [
        "[[registry]",
        "[[registry]]\n",
        '[[registry]]\nlocation = "https://quay.io"\n',
        '[[registry]]\nprefix = "quay.io"\n',
        "[[registry]]\nlocation = 5\n",
        '[[registry]]\nlocation = "a"\ninsecure = "yes"\n',
        'registry = "quay.io"\n',
        '[[registry]]\nlocation = "a"\n[[registry.mirror]]\n',
        '[[registry]]\nlocation = "a"\n[[registry.mirror]]\nlocation = "m"\npull-from-mirror = "sometimes"\n',
        (
            '[[registry]]\nlocation = "a"\nmirror-by-digest-only = true\n'
            '[[registry.mirror]]\nlocation = "m"\npull-from-mirror = "all"\n'
        ),
        '[[registry]]\nlocation = "a"\ninsecure = true\n[[registry]]\nprefix = "b"\nlocation = "a"\n',
        'unqualified-search-registries = ["a"]\n[registries.insecure]\nregistries = ["a"]\n',
        "[registries.insecure]\nregistries = 5\n",
    ],
)
def test_what_breaks_a_rule_is_refused_and_the_file_is_named(text):
    with pytest.raises(InvalidRegistriesConf, match="a file"):
        containers_conf.parse(text, "a file")


def test_an_entry_that_leads_to_no_repository_is_refused():
    with pytest.raises(InvalidRegistriesConf):
        places('[[registry]]\nprefix = "quay.io/team/tool"\nlocation = "other.test"\n')


def write(folder, name, location):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'[[registry]]\nprefix = "quay.io"\nlocation = "{location}"\n', encoding="utf-8")


@pytest.fixture
def folders(tmp_path):
    system, home = tmp_path / "etc", tmp_path / "home"
    return system, home, home / containers_conf.USER_FOLDER


def location(system, home):
    loaded = containers_conf.load({"HOME": str(home)}, system_folder=system)
    registry = loaded.find("quay.io/x")
    return registry and registry.location


def test_drop_ins_are_laid_over_the_system_s_file_in_order(folders):
    system, home, user = folders
    assert location(system, home) is None
    write(system, "registries.conf", "system")
    assert location(system, home) == "system"
    write(system, "registries.conf.d/20.conf", "twenty")
    write(system, "registries.conf.d/10.conf", "ten")
    assert location(system, home) == "twenty"
    write(user, "registries.conf.d/00.conf", "user")
    assert location(system, home) == "user"


def test_the_user_s_file_replaces_the_system_s_and_its_drop_ins(folders):
    system, home, user = folders
    write(system, "registries.conf", "system")
    write(system, "registries.conf.d/99.conf", "drop-in")
    write(user, "registries.conf", "user")
    assert location(system, home) == "user"
    write(user, "registries.conf.d/00.conf", "user-drop-in")
    assert location(system, home) == "user-drop-in"


def test_a_file_that_is_too_large_or_not_text_is_refused(folders):
    system, home, _ = folders
    system.mkdir()
    for content in (b"#" * (containers_conf.MAX_SIZE + 1), b"\xff\xfe"):
        (system / "registries.conf").write_bytes(content)
        with pytest.raises(InvalidRegistriesConf):
            location(system, home)


@pytest.mark.parametrize(
    ("environ", "insecure"),
    [
        ({"APPTAINER_NOHTTPS": "1"}, True),
        ({"APPTAINER_NOHTTPS": "true"}, True),
        ({"SINGULARITY_NOHTTPS": "T"}, True),
        ({"APPTAINER_NOHTTPS": "0"}, False),
        ({"APPTAINER_NOHTTPS": "yes"}, False),
        ({}, False),
    ],
)
def test_plain_http_is_switched_on_as_for_apptainer(environ, insecure, tmp_path):
    loaded = containers_conf.load(environ, system_folder=Path(tmp_path))
    assert loaded.everything_insecure is insecure


@pytest.mark.parametrize(
    ("host", "local"),
    [("localhost:5000", True), ("127.0.0.1:5000", True), ("[::1]:5000", True), ("10.1.2.3", True), ("quay.io", False)],
)
def test_oras_takes_plain_http_for_granted_on_local_hosts(host, local):
    assert containers_conf.is_local(host) is local
