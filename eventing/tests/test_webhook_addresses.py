"""A webhook goes to the public internet, to the address that was checked, and nowhere else."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from http.server import ThreadingHTTPServer
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pytest_django import Settings

from eventing.tests.receiver import Receiver, Reply, receiving
from eventing.webhooks import addresses, sending
from eventing.webhooks.addresses import Refused
from eventing.webhooks.sending import Answer
from tests.waiting import eventually

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

Names = Callable[..., None]


@pytest.fixture
def receiver(settings: Settings) -> Iterator[Receiver]:
    """One on this machine, which settings allow."""
    settings.EVENTING = {
        **settings.EVENTING,
        "WEBHOOK_INSECURE": True,
        "WEBHOOK_ALLOWED_NETWORKS": [ip_network("127.0.0.0/8")],
    }
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """Lets every name resolve to these addresses, one list a question; the last list stays."""

    def resolve(*answers: list[str]) -> None:
        left, really = list(answers), socket.getaddrinfo

        def getaddrinfo(host: str, *asked: Any, **options: Any) -> list[Any]:
            if host.replace(".", "").isdigit():  # an address, which somebody connects to
                return list(really(host, *asked, **options))
            found = left.pop(0) if len(left) > 1 else left[0]
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in found]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    return resolve


def resolved(url: str) -> list[str]:
    return addresses.resolved(addresses.parsed(url), seconds=10)


def sent_to(url: str) -> Answer:
    return sending.send(url, id="a message", body=b"{}", secrets=[SECRET])


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.8.8.8", "0.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1"),
        *("169.254.169.254", "100.64.0.1", "100.127.255.255", "192.0.0.1", "192.0.2.1", "198.18.0.1", "203.0.113.9"),
        *("192.88.99.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
        *("::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:169.254.169.254", "fe80::1"),
        *("fe80::1%eth0", "fec0::1", "fc00::1", "fd12:3456::1", "ff02::1", "64:ff9b::7f00:1", "64:ff9b:1::1"),
        *("2002:7f00:1::1", "2001::1", "2001:db8::1", "3fff::1", "100::1", "fd00:ec2::254"),
    ],
)
def test_no_webhook_goes_to_an_address_that_isnt_a_public_host(address: str) -> None:
    assert not addresses.is_permitted(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.215.14", "172.32.0.1", "2606:4700::1111", "2a00:1450:4009::1"])
def test_public_hosts_can_be_sent_to(address: str) -> None:
    assert addresses.is_permitted(address)


def test_networks_that_settings_allow_can_be_sent_to_and_nothing_beside_them(settings: Settings) -> None:
    settings.EVENTING = {**settings.EVENTING, "WEBHOOK_ALLOWED_NETWORKS": [ip_network("10.1.0.0/16")]}
    assert addresses.is_permitted("10.1.2.3")
    assert not addresses.is_permitted("10.2.0.1")
    assert not addresses.is_permitted("::ffff:10.1.2.3")


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("http://example.com/", "https://"),
        ("javascript:alert(1)", "https://"),
        ("file:///etc/passwd", "https://"),
        ("//example.com/hook", "https://"),
        ("/hook", "https://"),
        ("https:///hook", "name a host"),
        ("https://ann:secret@example.com/", "password"),
        ("https://example.com/#here", "fragment"),
        ("https://example.com:22/", "Port 22"),
        ("https://example.com:6553600/", "Port 6553600"),
        ("https://example.com:x/", "URL"),
        (f"https://example.com/{'x' * 5_000}", "2,000 characters"),
    ],
)
def test_a_url_says_what_is_wrong_with_it(url: str, complaint: str) -> None:
    with pytest.raises(Refused, match=complaint):
        addresses.parsed(url)


@pytest.mark.parametrize("host", ["localhost", "2130706433", "0x7f.1", "127.1", "0177.0.0.1", "[::ffff:7f00:1]"])
def test_a_host_can_be_written_in_no_way_that_leads_inside(host: str) -> None:
    with pytest.raises(Refused):
        resolved(f"https://{host}/")


def test_of_a_hosts_addresses_those_inside_are_left_out(names: Names) -> None:
    names(["10.0.0.1", "8.8.8.8"])
    assert resolved("https://example.com/") == ["8.8.8.8"]
    names(["10.0.0.1", "169.254.169.254"])
    with pytest.raises(Refused, match=r"example\.com has no address on the public internet"):
        resolved("https://example.com/")


def test_what_is_sent_goes_to_the_address_that_was_checked_though_the_name_has_another_by_now(
    receiver: Receiver, names: Names
) -> None:
    names(["127.0.0.1"], ["127.0.0.2"], ["10.0.0.1"])
    receiver.host = "rebinding.example"
    assert sent_to(receiver.url).status == 204
    assert receiver.heard[0].headers["host"] == f"rebinding.example:{receiver.port}"


def test_a_name_that_leads_inside_by_now_isnt_connected_to(
    receiver: Receiver, names: Names, settings: Settings
) -> None:
    settings.EVENTING = {**settings.EVENTING, "WEBHOOK_ALLOWED_NETWORKS": []}
    names(["127.0.0.1"])
    receiver.host = "rebinding.example"
    answer = sent_to(receiver.url)
    assert (answer.status, receiver.heard) == (None, [])
    assert "no address on the public internet" in answer.error


def test_of_several_addresses_the_first_that_takes_a_connection_is_sent_to(receiver: Receiver, names: Names) -> None:
    names(["127.0.0.9", "127.0.0.1"])
    receiver.host = "two.example"
    assert sent_to(receiver.url).is_success


def test_an_address_that_swallows_everything_keeps_a_message_from_no_other(
    receiver: Receiver, names: Names, settings: Settings
) -> None:
    settings.EVENTING = {**settings.EVENTING, "WEBHOOK_SECONDS": 4}
    receiver.host = "two.example"
    names(["127.0.0.2", "127.0.0.1"])
    with ExitStack() as waiting:
        full = waiting.enter_context(socket.create_server(("127.0.0.2", receiver.port), backlog=0))
        assert eventually(lambda: not takes_one_more(full, waiting))
        assert sent_to(receiver.url).is_success


def takes_one_more(server: socket.socket, waiting: ExitStack) -> bool:
    """Whether somebody who connects to a server that accepts nobody is queued."""
    try:
        waiting.enter_context(socket.create_connection(server.getsockname(), timeout=0.2))
    except TimeoutError:
        return False
    return True


def test_a_name_server_that_never_answers_is_waited_for_no_longer_than_a_receiver(
    receiver: Receiver, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.EVENTING = {**settings.EVENTING, "WEBHOOK_SECONDS": 0.3}
    monkeypatch.setattr(addresses, "_lookups", threading.BoundedSemaphore(2))
    receiver.host = "slow.example"
    answering, asked = threading.Event(), list[str]()
    really = socket.getaddrinfo

    def getaddrinfo(host: str, *about: Any, **options: Any) -> list[Any]:
        asked.append(host)
        answering.wait(60)
        return list(really("127.0.0.1", *about, **options))

    with monkeypatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", getaddrinfo)
        for _ in range(3):
            answer = sent_to(receiver.url)
            assert answer.error == "Not sent: slow.example wasn't found within 0.3 seconds."
            assert answer.milliseconds < 3_000
        assert asked == ["slow.example"] * 2  # and nobody asks a third time before one of them has ended
        answering.set()
        settings.EVENTING = {**settings.EVENTING, "WEBHOOK_SECONDS": 30}
        assert sent_to(receiver.url).is_success


def test_a_redirect_leads_nowhere(receiver: Receiver) -> None:
    with receiving() as inside:
        receiver.answer = lambda message: Reply(302, (("Location", inside.url),))
        answer = sent_to(receiver.url)
        assert (answer.status, answer.is_success) == (302, False)
        assert "not followed" in answer.error
        assert inside.heard == []


def test_proxies_of_the_environment_are_passed_by(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert sent_to(receiver.url).is_success


def test_a_receiver_has_so_long_and_no_longer_however_it_drips(receiver: Receiver, settings: Settings) -> None:
    settings.EVENTING = {**settings.EVENTING, "WEBHOOK_SECONDS": 0.3}
    listening = socket.create_server(("127.0.0.1", 0))
    receiver.port = listening.getsockname()[1]  # takes the connection, and says nothing
    answer = sent_to(receiver.url)
    listening.close()
    assert answer.error == "No answer within 0.3 seconds."
    assert 250 <= answer.milliseconds < 3_000


def test_a_receiver_that_sends_a_byte_now_and_then_is_left(settings: Settings) -> None:
    settings.EVENTING = {
        **settings.EVENTING,
        "WEBHOOK_INSECURE": True,
        "WEBHOOK_SECONDS": 0.5,
        "WEBHOOK_ALLOWED_NETWORKS": [ip_network("127.0.0.0/8")],
    }

    class Dripping(ThreadingHTTPServer):
        def finish_request(self, request: Any, client_address: Any) -> None:
            request.recv(65_536)
            try:
                request.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                request.settimeout(0.05)
                while True:
                    request.sendall(b".")
                    try:
                        if not request.recv(1):
                            return
                    except TimeoutError:
                        continue
            except OSError:
                return

    server = Dripping(("127.0.0.1", 0), None)  # type: ignore[arg-type]
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    answer = sent_to(f"http://127.0.0.1:{server.server_port}/")
    server.shutdown()
    server.server_close()
    assert answer.error == "No answer within 0.5 seconds."
    assert answer.milliseconds < 3_000


def test_of_a_huge_answer_only_the_beginning_is_read(receiver: Receiver) -> None:
    receiver.answer = lambda message: Reply(500, (), b"No! \0" * 20_000_000)
    answer = sent_to(receiver.url)
    assert answer.excerpt.startswith(r"No! \x00")
    assert len(answer.excerpt) < 1_000
    assert answer.milliseconds < 5_000


@pytest.mark.parametrize(
    ("asked", "wait"),
    [("7", 7), ("999999999", 86_400), ("soon", 0), ("-5", 0), ("", 0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0)],
)
def test_how_long_a_receiver_can_put_us_off(receiver: Receiver, asked: str, wait: float) -> None:
    receiver.answer = lambda message: Reply(429, (("Retry-After", asked),))
    assert sent_to(receiver.url).wait == wait


def test_a_receiver_can_put_us_off_to_a_date(receiver: Receiver) -> None:
    later = datetime.now(UTC) + timedelta(minutes=10)
    receiver.answer = lambda message: Reply(503, (("Retry-After", later.strftime("%a, %d %b %Y %H:%M:%S GMT")),))
    assert sent_to(receiver.url).wait == pytest.approx(600, abs=5)


def test_nobody_there_is_an_error_in_words(receiver: Receiver) -> None:
    receiver.port = 65_001
    answer = sent_to(receiver.url)
    assert answer.status is None
    assert answer.error.startswith("ConnectError")


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server's side of TLS, as hooks.example, whose certificate those who send accept."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hooks.example")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("hooks.example")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "hooks.pem"
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    accepting = ssl.create_default_context(cafile=file)
    monkeypatch.setattr(sending, "_tls", lambda: accepting)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(file)
    return serving


def test_the_certificate_has_to_be_the_names_though_the_address_was_chosen_by_us(
    authority: ssl.SSLContext, names: Names, receiver: Receiver
) -> None:
    asked_for: list[str | None] = []
    authority.sni_callback = lambda connection, name, context: asked_for.append(name)

    def with_tls(server: ThreadingHTTPServer) -> None:
        server.socket = authority.wrap_socket(server.socket, server_side=True)

    names(["127.0.0.1"])
    with receiving(with_tls) as secure:
        secure.scheme, secure.host = "https", "hooks.example"
        assert sent_to(secure.url).status == 204
        secure.host = "other.example"
        answer = sent_to(secure.url)
    assert (answer.status, "CERTIFICATE_VERIFY_FAILED" in answer.error) == (None, True)
    assert asked_for == ["hooks.example", "other.example"]
