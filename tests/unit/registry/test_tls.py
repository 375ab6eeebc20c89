import ssl

import pytest

from snakemake_apptainer_freshness.errors import TLSFailed
from snakemake_apptainer_freshness.registry import tls
from snakemake_apptainer_freshness.registry.tls import Trust, Trusts, system
from snakemake_apptainer_freshness.registry.urls import origin_of
from tests.support.certificates import authority

ORIGIN = origin_of("https", "registry.example:5000")


@pytest.fixture
def home(tmp_path):
    return {"HOME": str(tmp_path), "SSL_CERT_FILE": str(authority().certificate)}


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / ".config/containers/certs.d/registry.example:5000"
    path.mkdir(parents=True)
    return path


def test_the_file_of_the_environment_replaces_the_systems():
    assert system({"SSL_CERT_FILE": "/mine.pem", "SSL_CERT_DIR": "/nowhere"}) == Trust(files=("/mine.pem",))


def test_a_folder_of_plain_certificates_is_read_file_by_file(tmp_path):
    for name in ("b.crt", "a.pem", "readme.txt"):
        (tmp_path / name).touch()
    assert system({"SSL_CERT_DIR": str(tmp_path)}).files == (str(tmp_path / "a.pem"), str(tmp_path / "b.crt"))


def test_a_folder_of_hashed_certificates_is_read_as_needed(tmp_path):
    (tmp_path / "0123abcd.0").touch()
    assert system({"SSL_CERT_DIR": str(tmp_path)}) == Trust(folders=(str(tmp_path),))


def test_a_system_without_a_list_gets_certifis(monkeypatch):
    monkeypatch.setattr(tls, "_FILES", ())
    [file] = system({"SSL_CERT_DIR": "/nowhere"}).files
    assert file.endswith(".pem")


def test_a_context_verifies_the_certificate_and_the_name():
    context = Trust(files=(str(authority().certificate),)).context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_a_file_that_is_no_certificate_is_named(tmp_path):
    bad = tmp_path / "bad.pem"
    bad.write_text("not a certificate")
    with pytest.raises(TLSFailed, match=r"bad\.pem"):
        Trust(files=(str(bad),)).context()


def test_an_authority_of_one_host_is_trusted_beside_the_others(home, folder):
    (folder / "site.crt").touch()
    trusts = Trusts(home, system_folders=())
    assert trusts.of(ORIGIN).files == (home["SSL_CERT_FILE"], str(folder / "site.crt"))
    assert trusts.of(origin_of("https", "other.example")).files == (home["SSL_CERT_FILE"],)


def test_the_users_folder_counts_before_the_systems(home, folder, tmp_path):
    other = tmp_path / "system"
    (other / "registry.example:5000").mkdir(parents=True)
    (other / "registry.example:5000" / "site.crt").touch()
    trusts = Trusts(home, system_folders=(other,))
    assert trusts.of(ORIGIN).files == (home["SSL_CERT_FILE"],)


def test_a_client_certificate_comes_with_its_key(home, folder):
    (folder / "me.cert").touch()
    (folder / "me.key").touch()
    assert Trusts(home, system_folders=()).of(ORIGIN).client == (str(folder / "me.cert"), str(folder / "me.key"))


def test_a_client_certificate_without_its_key_is_an_error(home, folder):
    (folder / "me.cert").touch()
    with pytest.raises(TLSFailed, match=r"without its key, me\.key"):
        Trusts(home, system_folders=()).of(ORIGIN)


def test_the_file_system_is_looked_at_once_for_each_host(home, folder):
    trusts = Trusts(home, system_folders=())
    first = trusts.of(ORIGIN)
    (folder / "late.crt").touch()
    assert trusts.of(ORIGIN) is first
