import socket
import threading

import httpcore
import pytest

from snakemake_apptainer_freshness.errors import NameNotFound, PolicyRefused, TimedOut
from snakemake_apptainer_freshness.registry.addresses import ANYWHERE, Zone
from snakemake_apptainer_freshness.registry.connections import Backend, Deadline, HostNames, look_up, vet

PUBLIC = frozenset({Zone.PUBLIC})


def answer_of(*addresses):
    return [(None, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]


def test_a_wait_is_cut_to_what_is_left_until_the_deadline(monkeypatch):
    deadline = Deadline()
    monkeypatch.setattr("time.monotonic", lambda: 100.0)
    deadline.at = 103.0
    assert deadline.clip(None) == 3.0
    assert deadline.clip(2.0) == 2.0
    assert deadline.clip(60.0) == 3.0


def test_a_wait_behind_the_deadline_is_refused(monkeypatch):
    deadline = Deadline()
    monkeypatch.setattr("time.monotonic", lambda: 100.0)
    deadline.at = 100.0
    with pytest.raises(httpcore.ReadTimeout):
        deadline.clip(None)


def test_the_deadline_of_one_thread_is_not_that_of_another():
    deadline = Deadline()
    deadline.at = 1.0
    seen = []
    thread = threading.Thread(target=lambda: seen.append(deadline.at))
    thread.start()
    thread.join()
    assert seen == [float("inf")]


def test_a_host_is_looked_up_once_a_minute(monkeypatch):
    asked = []
    monkeypatch.setattr("socket.getaddrinfo", lambda host, *_, **__: asked.append(host) or answer_of("9.9.9.9"))
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    names = HostNames(1.0)
    assert names.of("registry.example") == ("9.9.9.9",)
    now[0] += 59
    assert names.of("registry.example") == ("9.9.9.9",)
    assert len(asked) == 1
    now[0] += 2
    names.of("registry.example")
    assert len(asked) == 2


def test_an_address_is_not_looked_up(monkeypatch):
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: pytest.fail("it is an address already"))
    assert HostNames(1.0).of("9.9.9.9") == ("9.9.9.9",)


def test_each_address_is_named_once_in_the_order_of_the_resolver(monkeypatch):
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: answer_of("9.9.9.2", "9.9.9.1", "9.9.9.2"))
    assert look_up("registry.example", 1.0) == ("9.9.9.2", "9.9.9.1")


def test_a_name_that_does_not_resolve_says_so(monkeypatch):
    def fail(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr("socket.getaddrinfo", fail)
    with pytest.raises(NameNotFound, match=r"registry\.example does not resolve"):
        look_up("registry.example", 1.0)


def test_a_name_server_that_does_not_answer_is_not_waited_for(monkeypatch):
    over = threading.Event()
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: over.wait(5) and answer_of("9.9.9.9"))
    with pytest.raises(TimedOut, match=r"registry\.example took more than"):
        look_up("registry.example", 0.01)
    over.set()


def test_one_forbidden_address_among_good_ones_refuses_the_host():
    vet("registry.example", ["9.9.9.9"], PUBLIC)
    with pytest.raises(PolicyRefused, match=r"169\.254\.169\.254 is link-local"):
        vet("registry.example", ["9.9.9.9", "169.254.169.254"], ANYWHERE)


def test_a_private_address_is_refused_where_only_public_ones_may_be():
    with pytest.raises(PolicyRefused, match=r"10\.0\.0\.1 is private"):
        vet("registry.example", ["10.0.0.1"], PUBLIC)
    vet("registry.example", ["10.0.0.1"], ANYWHERE)


def test_what_is_no_address_is_refused():
    with pytest.raises(PolicyRefused):
        vet("registry.example", ["not an address"], ANYWHERE)


def test_the_next_address_is_tried_where_one_refuses():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        tried = []

        def choose(host, port):
            for address in ("127.0.0.2", "127.0.0.1"):
                tried.append((host, port, address))
                yield address

        Backend(choose).connect_tcp("registry.example", port, timeout=1.0).close()
    assert tried == [("registry.example", port, "127.0.0.2"), ("registry.example", port, "127.0.0.1")]


def test_a_host_without_an_address_cannot_be_connected_to():
    with pytest.raises(httpcore.ConnectError, match="no address"):
        Backend(lambda *_: []).connect_tcp("registry.example", 443)
