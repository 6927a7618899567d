"""Where webhooks may go: to addresses of the public internet, and to no other, whatever a name resolves to."""

from __future__ import annotations

import socket
import time
from concurrent.futures import Future
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from threading import BoundedSemaphore, Thread

import httpx2
from django.conf import settings

LONGEST_URL = 2_000
PORTS = {"https": 443, "http": 80}
FIRST_FREE_PORT = 1024  # below it are mail, databases' shells and the like, and 443
LOOKUPS = 64  # of names that may be under way: one that hangs keeps a thread until the resolver gives up

# Python counts these as global, or has done so: 6to4's relays, and what IPv6 is unicast for but never a host's own.
NO_HOSTS_V4 = [IPv4Network("192.0.0.0/24"), IPv4Network("192.88.99.0/24"), IPv4Network("198.18.0.0/15")]
NO_HOSTS_V6 = [IPv6Network(each) for each in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")]
GLOBAL_UNICAST = IPv6Network("2000::/3")  # outside are loopback, link-local, ULA, multicast, mapped IPv4 and NAT64

_lookups = BoundedSemaphore(LOOKUPS)


class Refused(ValueError):
    """No webhook may go there. The message is for the person who asked."""


def parsed(url: str) -> httpx2.URL:
    """The parts of a URL, as the client that sends will read them. Raises Refused for one that can't be sent to."""
    if len(url) > LONGEST_URL:
        raise Refused(f"This has more than {LONGEST_URL:,} characters.")
    try:
        parts = httpx2.URL(url)
    except httpx2.InvalidURL:
        raise Refused("This is not a URL.") from None
    schemes = ("https", "http") if settings.EVENTING["WEBHOOK_INSECURE"] else ("https",)
    if parts.scheme not in schemes or not parts.host:
        raise Refused(f"This has to begin with {' or '.join(f'{scheme}://' for scheme in schemes)}, and name a host.")
    if parts.userinfo:
        raise Refused("This has a user name or a password in it. Verify the signature instead.")
    if parts.fragment:
        raise Refused("This has a fragment, which is never sent.")
    port = parts.port or PORTS[parts.scheme]
    if port not in PORTS.values() and not FIRST_FREE_PORT <= port < 2**16:
        raise Refused(f"Port {port} is none that webhooks go to: use 443, or one from {FIRST_FREE_PORT:,} on.")
    return parts


def check_written(url: httpx2.URL) -> None:
    """Raises Refused for a host that is written as an address that no webhook may go to, or can't be a name. Nobody is
    asked what a name resolves to, so this takes no time."""
    try:
        _permitted(url, _found(url, socket.AI_NUMERICHOST))
    except socket.gaierror:  # no address, so it's a name
        return


def resolved(url: httpx2.URL, *, seconds: float) -> list[str]:
    """The addresses of a URL's host that a webhook may go to, at least one, in so many seconds. Raises Refused."""
    late = Refused(f"{url.host} wasn't found within {seconds:.2g} seconds.")
    until = time.monotonic() + seconds
    if not _lookups.acquire(timeout=max(seconds, 0)):
        raise late
    answer = Future[list[str]]()
    # The system's resolver takes no time limit. A daemon, for the process has to be able to end while a server hangs.
    Thread(target=_look_up, args=(url, answer), name="webhooks-lookup", daemon=True).start()
    try:
        return _permitted(url, answer.result(max(until - time.monotonic(), 0)))
    except TimeoutError:
        raise late from None
    except OSError:
        raise Refused(f"{url.host} has no address.") from None


def _look_up(url: httpx2.URL, answer: Future[list[str]]) -> None:
    try:
        answer.set_result(_found(url))
    except Exception as error:
        answer.set_exception(error)
    finally:
        _lookups.release()


def _found(url: httpx2.URL, flags: int = 0) -> list[str]:
    try:
        found = socket.getaddrinfo(url.raw_host.decode(), None, type=socket.SOCK_STREAM, flags=flags)
    except UnicodeError:
        raise Refused(f"{url.host} has no address.") from None
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _permitted(url: httpx2.URL, addresses: list[str]) -> list[str]:
    permitted = [address for address in addresses if is_permitted(address)]
    if not permitted:
        raise Refused(f"{url.host} has no address on the public internet.")
    return permitted


def is_permitted(address: str) -> bool:
    """Whether a webhook may go to this address: one of a host on the internet, or of a network that settings allow."""
    ip = ip_address(address)
    return _is_public(ip) or any(ip in network for network in settings.EVENTING["WEBHOOK_ALLOWED_NETWORKS"])


def _is_public(ip: IPv4Address | IPv6Address) -> bool:
    if isinstance(ip, IPv6Address):
        return ip in GLOBAL_UNICAST and not any(ip in network for network in NO_HOSTS_V6)
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or any(ip in network for network in NO_HOSTS_V4))
