"""What both QUIC engines must do, whatever the shell around them."""

from __future__ import annotations

import asyncio

import pytest
from link_worlds import CLIENT, OPEN_DOOR, SERVER, WORLDS, open_world

from meshsync.errors import ConfigError, LinkClosed, PeerIdentityMismatch
from meshsync.runtime import SystemRuntime
from meshsync.transport.base import Priority
from meshsync.transport.certificate import Certificate, make_certificate
from meshsync.transport.engines.choice import engine_factory
from meshsync.transport.quic import QuicEndpoint

PAIRS = [pair.split() for pair in WORLDS if pair != "memory"]


@pytest.mark.parametrize(("client", "server"), PAIRS)
async def test_a_server_that_shows_a_certificate_without_its_key_is_refused(client: str, server: str) -> None:
    runtime = SystemRuntime()
    far = await QuicEndpoint.open(runtime, SERVER, "127.0.0.1:0", server, OPEN_DOOR)
    shown, other = make_certificate(), make_certificate()
    far._certificate = Certificate(shown.certificate_pem, other.key_pem, shown.hash)
    near = await QuicEndpoint.open(runtime, CLIENT, "127.0.0.1:0", client)
    with pytest.raises(PeerIdentityMismatch):
        await near.dial(f"127.0.0.1:{far.port}", expect=SERVER.device, discovery_key=None, timeout_s=5)
    await near.close()
    await far.close()
    runtime.close()


@pytest.mark.parametrize(("client", "server"), PAIRS)
async def test_the_client_sees_the_certificate_that_the_server_names_in_its_proofs(client: str, server: str) -> None:
    async with open_world(f"{client} {server}") as world:
        near, _ = await world.connect()
        certificate = near.engine.peer_certificate()  # type: ignore[attr-defined]
        assert certificate == _der(world.server._certificate)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("client", "server"), PAIRS)
async def test_no_ticket_is_given_and_no_early_data_taken(client: str, server: str) -> None:
    async with open_world(f"{client} {server}") as world:
        near, far = await world.connect()
        stream = await near.open_stream(Priority.BULK)
        await stream.send(b"x")
        await (await far.accept_stream()).receive()
        for link in (near, far):
            tls = link.engine._quic.tls  # type: ignore[attr-defined]
            assert tls.new_session_ticket_cb is None and tls.get_session_ticket_cb is None
            assert not tls.early_data_accepted and not tls.session_resumed


@pytest.mark.parametrize(("client", "server"), PAIRS)
async def test_a_ping_on_a_connection_that_the_peer_ended_is_no_error(client: str, server: str) -> None:
    """The end of a connection is told by its event, which may come after the next ping is due."""
    async with open_world(f"{client} {server}") as world:
        near, far = await world.connect()
        engine = near.engine  # type: ignore[attr-defined]
        far.engine.close(0, "over")  # type: ignore[attr-defined]
        world.server.flush_all()  # type: ignore[attr-defined]
        with pytest.raises(LinkClosed):
            await near.accept_stream()
        engine.ping(1)


@pytest.mark.parametrize("kind", WORLDS[1:])
async def test_ipv6_works_alike(kind: str) -> None:
    async with open_world(kind, host="[::1]") as world:
        near, far = await world.connect()
        assert near.address == f"[::1]:{world.server.port}"
        assert far.address == f"[::1]:{world.client.port}"


@pytest.mark.parametrize("engine", ["qh3", "aioquic"])
async def test_one_socket_takes_ipv6_and_ipv4(engine: str) -> None:
    runtime = SystemRuntime()
    far = await QuicEndpoint.open(runtime, SERVER, "[::]:0", engine, OPEN_DOOR)
    near = await QuicEndpoint.open(runtime, CLIENT, "127.0.0.1:0", engine)
    key = next(iter(OPEN_DOOR.discovery_keys()))
    link = await near.dial(f"127.0.0.1:{far.port}", expect=SERVER.device, discovery_key=key, timeout_s=5)
    assert (await far.accept()).address == f"127.0.0.1:{near.port}"
    back, _ = await asyncio.gather(
        QuicEndpoint.open(runtime, CLIENT, "[::]:0", engine), asyncio.sleep(0)
    )  # and a dual socket dials IPv4
    again = await back.dial(f"127.0.0.1:{far.port}", expect=SERVER.device, discovery_key=key, timeout_s=5)
    assert link.peer == again.peer == SERVER.device
    for endpoint in (near, back, far):
        await endpoint.close()
    runtime.close()


@pytest.mark.parametrize("kind", WORLDS[1:])
async def test_plain_datagrams_carry_a_link_where_the_kernel_has_no_offload(kind: str) -> None:
    client, server = kind.split()
    runtime = SystemRuntime()
    far = await QuicEndpoint.open(runtime, SERVER, "127.0.0.1:0", server, OPEN_DOOR, offload=False)
    near = await QuicEndpoint.open(runtime, CLIENT, "127.0.0.1:0", client, offload=False)
    key = next(iter(OPEN_DOOR.discovery_keys()))
    link = await near.dial(f"127.0.0.1:{far.port}", expect=SERVER.device, discovery_key=key, timeout_s=5)
    stream = await link.open_stream(Priority.BULK)
    await stream.send(bytes(200_000))
    await stream.finish()
    theirs = await (await far.accept()).accept_stream()
    count = 0
    while piece := await theirs.receive():
        count += len(piece)
    assert count == 200_000
    await near.close()
    await far.close()
    runtime.close()


def test_an_engine_that_does_not_exist_is_the_users_mistake() -> None:
    with pytest.raises(ConfigError):
        engine_factory("quiche")


def _der(certificate: Certificate) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    return x509.load_pem_x509_certificate(certificate.certificate_pem).public_bytes(Encoding.DER)
