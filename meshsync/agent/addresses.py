"""The addresses at which this device can be reached on its networks."""

from __future__ import annotations

import ipaddress

import ifaddr

from meshsync.codec.address import format_address


def own_addresses(port: int, listen: str) -> tuple[str, ...]:
    """Return `host:port` of this machine's addresses, private networks first, loopback last; only that of `listen`
    if it names one host.
    """
    host = listen.rpartition(":")[0].strip("[]")
    if host and not ipaddress.ip_address(host).is_unspecified:
        return (format_address(host, port),)
    found = []
    for adapter in ifaddr.get_adapters():
        for ip in adapter.ips:
            text = ip.ip if isinstance(ip.ip, str) else ip.ip[0]
            address = ipaddress.ip_address(text.split("%")[0])
            if address.version == 4 or not address.is_link_local:
                found.append(address)
    found.sort(key=lambda address: (address.is_loopback, not address.is_private, address.version, int(address)))
    return tuple(format_address(str(address), port) for address in found if address.version == 4)
