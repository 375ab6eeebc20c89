import subprocess
import sys

import pytest

from snakemake_apptainer_freshness.errors import ConnectionFailed, DamagedAnswer, TLSFailed
from snakemake_apptainer_freshness.registry import tls, urls
from snakemake_apptainer_freshness.registry.tls import Trust, Trusts
from snakemake_apptainer_freshness.registry.transport import HttpRequest, Transport
from tests.support.certificates import authority
from tests.support.lab import QUICK
from tests.support.replies import Reply
from tests.support.simulator import Simulator


@pytest.fixture
def server():
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def transport():
    with Transport(limits=QUICK, environ={}, trust=Trusts({}).of) as transport:
        yield transport


def ask(server, path="/x", **options):
    return HttpRequest(**{"method": "GET", "url": urls.parse(server.url + path), "limit": 1000} | options)


def test_an_answer_has_status_headers_and_body(server, transport):
    server.serve("/x", b"hello", ("X-Thing", "1"), ("WWW-Authenticate", "a"), ("WWW-Authenticate", "b"))
    answer = transport.send(ask(server))
    assert (answer.status, answer.body, answer.headers["x-thing"]) == (200, b"hello", "1")
    assert answer.challenges == ("a", "b")


def test_a_connection_is_used_again(server, transport):
    for method in ("GET", "HEAD", "GET"):
        transport.send(ask(server, method=method))
    assert server.connections == 1


def test_nothing_is_sent_that_was_not_asked_for(server, transport):
    server.serve("/x", b"", ("Set-Cookie", "a=b"))
    for _ in range(2):
        transport.send(ask(server))
    assert set(server.requests[1].headers) == {"host", "user-agent", "accept-encoding"}
    assert server.requests[1].headers["accept-encoding"] == "identity"


def test_redirects_are_handed_back(server, transport):
    server.answer("/x", Reply(status=307, headers=[("Location", "/y")]))
    assert transport.send(ask(server)).status == 307
    assert len(server.requests) == 1


def test_a_body_at_the_limit_is_read_and_one_beyond_is_not(server, transport):
    server.serve("/x", b"x" * 1000)
    server.serve("/y", b"x" * 1001)
    assert len(transport.send(ask(server)).body) == 1000
    with pytest.raises(DamagedAnswer):
        transport.send(ask(server, "/y"))


def test_a_head_may_announce_more_than_the_limit(server, transport):
    server.serve("/x", b"x" * 5000)
    assert transport.send(ask(server, method="HEAD")).status == 200


def test_a_form_is_posted(server, transport):
    transport.send(ask(server, method="POST", content=b"a=b"))
    assert server.requests[0].body == b"a=b"


def test_a_host_name_with_an_underscore_or_a_final_dot_is_passed_on(server, transport, monkeypatch):
    monkeypatch.setattr("socket.getaddrinfo", lambda _, port, *__, **___: [(2, 1, 6, "", ("127.0.0.1", port or 0))])
    for host in ("my_host.test", "registry.test."):
        transport.send(HttpRequest(method="GET", url=urls.parse(f"http://{host}:{server.port}/x"), limit=100))
    assert [request.headers["host"] for request in server.requests] == [
        f"my_host.test:{server.port}",
        f"registry.test.:{server.port}",
    ]


def test_a_name_is_looked_up_once(server, transport, monkeypatch):
    names = []

    def look_up(host, port, *_, **__):
        names.append(host)
        return [(2, 1, 6, "", ("127.0.0.1", port or 0))]

    monkeypatch.setattr("socket.getaddrinfo", look_up)
    server.answer("/x", Reply(reset=True))  # each request needs a connection of its own
    for _ in range(3):
        with pytest.raises(ConnectionFailed):
            transport.send(
                HttpRequest(method="GET", url=urls.parse(f"http://registry.test:{server.port}/x"), limit=100)
            )
    assert names.count("registry.test") == 1


def test_importing_it_leaves_httpx_s_command_line_out():
    code = (
        "import sys\n"
        "import snakemake_apptainer_freshness.registry.transport\n"
        "assert 'httpx' in sys.modules\n"
        "assert not {'httpx._main', 'click', 'rich', 'pygments'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_httpx_stays_whole_where_it_was_imported_before():
    code = (
        "import httpx\nmain = httpx.main\n"
        "import snakemake_apptainer_freshness.registry.transport\n"
        "assert httpx.main is main"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_libraries_below_log_no_headers():
    code = (
        "import logging\n"
        "logging.basicConfig(level=1)\n"
        "import snakemake_apptainer_freshness.registry.transport\n"
        "assert not logging.getLogger('httpcore.http11').isEnabledFor(logging.DEBUG)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- whom we trust -------------------------------------------------------------------------------------------------

ORIGIN = urls.parse("https://registry.example:5000/").origin


def test_authorities_of_the_environment_replace_the_system_s(tmp_path, monkeypatch):
    monkeypatch.setattr(tls, "HASHED_FOLDER", str(tmp_path / "system"))
    (tmp_path / "a.pem").write_text("x", encoding="utf-8")
    assert tls.system({"SSL_CERT_FILE": "/x.pem"}) == Trust(files=("/x.pem",))
    assert tls.system({"SSL_CERT_DIR": str(tmp_path)}) == Trust(files=(str(tmp_path / "a.pem"),))
    (tmp_path / "0123abcd.0").write_text("x", encoding="utf-8")
    assert tls.system({"SSL_CERT_DIR": str(tmp_path)}) == Trust(folders=(str(tmp_path),))


def test_a_file_of_the_environment_leaves_the_system_s_folder_trusted(tmp_path, monkeypatch):
    monkeypatch.setattr(tls, "HASHED_FOLDER", str(tmp_path))
    (tmp_path / "0123abcd.0").write_text("x", encoding="utf-8")
    assert tls.system({"SSL_CERT_FILE": "/x.pem"}) == Trust(files=("/x.pem",), folders=(str(tmp_path),))


def test_the_system_s_authorities_are_found():
    trust = tls.system({})
    assert trust.files or trust.folders
    assert trust.context().verify_mode.name == "CERT_REQUIRED"


def test_certificates_of_a_host_are_added(tmp_path):
    folder = tmp_path / ".config/containers/certs.d/registry.example:5000"
    folder.mkdir(parents=True)
    (folder / "ca.crt").write_text("x", encoding="utf-8")
    (folder / "client.cert").write_text("x", encoding="utf-8")
    (folder / "client.key").write_text("x", encoding="utf-8")
    trust = Trusts({"HOME": str(tmp_path)}, system_folders=()).of(ORIGIN)
    assert str(folder / "ca.crt") in trust.files
    assert trust.client == (str(folder / "client.cert"), str(folder / "client.key"))
    other = urls.parse("https://registry.example/").origin
    assert Trusts({"HOME": str(tmp_path)}, system_folders=()).of(other).client is None


def test_the_first_folder_that_exists_counts(tmp_path):
    for base in ("one", "two"):
        (tmp_path / base / "registry.example:5000").mkdir(parents=True)
        (tmp_path / base / "registry.example:5000/ca.crt").write_text("x", encoding="utf-8")
    trust = Trusts({}, system_folders=(tmp_path / "one", tmp_path / "two")).of(ORIGIN)
    assert [path for path in trust.files if "ca.crt" in path] == [str(tmp_path / "one/registry.example:5000/ca.crt")]


def test_a_client_certificate_without_its_key_is_named(tmp_path):
    folder = tmp_path / "registry.example:5000"
    folder.mkdir()
    (folder / "client.cert").write_text("x", encoding="utf-8")
    with pytest.raises(TLSFailed, match="its key, client"):
        Trusts({}, system_folders=(tmp_path,)).of(ORIGIN)


def test_a_certificate_file_that_cannot_be_used_is_named(tmp_path):
    path = tmp_path / "x.pem"
    path.write_text("nonsense", encoding="utf-8")
    for name in (path, tmp_path / "absent.pem"):
        with pytest.raises(TLSFailed, match=name.name):
            tls.system({"SSL_CERT_FILE": str(name)}).context()


def test_a_private_authority_in_certs_d_opens_its_host(tmp_path):
    with Simulator(tls=authority(), name="127.0.0.1") as server:
        folder = tmp_path / server.host
        folder.mkdir()
        (folder / "ca.crt").write_bytes(authority().certificate.read_bytes())
        trusts = Trusts({}, system_folders=(tmp_path,))
        with Transport(limits=QUICK, environ={}, trust=trusts.of) as transport:
            assert transport.send(ask(server)).status == 404
        stranger = Transport(limits=QUICK, environ={}, trust=Trusts({}, system_folders=()).of)
        with stranger, pytest.raises(TLSFailed):
            stranger.send(ask(server))
