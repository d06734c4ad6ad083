"""Network addresses as text, `HOST:PORT`, IPv6 in brackets. Invariant: one address has one text. Resolves nothing."""

from __future__ import annotations

import ipaddress
import re

from meshsync.errors import MalformedMessage

HOST_CHARS_MAX = 253
_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*", re.ASCII)
_PORT = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)


def parse_address(text: str) -> tuple[str, int]:
    """Return (host, port) of `HOST:PORT`; the host in lower case, IPv6 in its shortest form without brackets.

    Raises MalformedMessage for anything else, a port outside 1 to 65535, or an IPv6 zone.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not _PORT.fullmatch(port) or int(port) > 65535:
        raise MalformedMessage("an address is HOST:PORT with a port from 1 to 65535")
    if host.startswith("[") and host.endswith("]"):
        return _ipv6(host[1:-1]), int(port)
    return check_host(host), int(port)


def format_address(host: str, port: int) -> str:
    """Return the text of an address that `parse_address` could have returned."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def check_host(host: str) -> str:
    """Return a host name or IPv4 address in lower case. Raises MalformedMessage if it is neither."""
    name = host.lower()
    if len(name) > HOST_CHARS_MAX or not _NAME.fullmatch(name):
        raise MalformedMessage("an address begins with a host name, an IPv4 address, or an IPv6 address in brackets")
    if name.rpartition(".")[2].isdigit():
        try:
            return str(ipaddress.IPv4Address(name))
        except ValueError as error:
            raise MalformedMessage("not an IPv4 address") from error
    return name


def _ipv6(host: str) -> str:
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError as error:
        raise MalformedMessage("not an IPv6 address") from error
    if address.scope_id is not None:
        raise MalformedMessage("an IPv6 address with a zone holds on one machine only")
    return str(address)
