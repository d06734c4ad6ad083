"""Examines the machine and the agent, and says what to do about what is wrong."""

from __future__ import annotations

from meshsync.agent import api_schema as api
from meshsync.agent import status_report, watch_health
from meshsync.agent.daemon import Agent


async def examine(agent: Agent) -> api.DoctorReport:
    """Return every check."""
    checks = [api.Check(what=f"listening on UDP port {agent.endpoint.port}", ok=True)]
    why = agent.dialer.unavailable
    checks.append(
        api.Check(
            what="finding devices on this network",
            ok=not why,
            why=why,
            next="Check the network interfaces; devices can still meet through a relay." if why else "",
        )
    )
    for client in agent.relays.values():
        checks.append(
            api.Check(
                what=f"relay {client.address.address}",
                ok=client.link is not None,
                why=client.problem,
                next="Check that the relay runs and UDP reaches it." if client.link is None else "",
            )
        )
    for folder in agent.folders.values():
        damage = await agent.runtime.in_thread(folder.database.check)
        checks.append(api.Check(what=f"index of {folder.name}", ok=not damage, why="; ".join(damage)))
        missing = folder.loop.root_missing if folder.loop is not None else None
        present = folder.loop is not None and missing is None
        checks.append(
            api.Check(
                what=f"directory {folder.root_path}",
                ok=present,
                why=missing.state.value if missing is not None else "",
                next="" if present else "Mount its disk, or: meshsync leave " + folder.name,
            )
        )
        for relay, problem in folder.problems.items():
            checks.append(api.Check(what=f"{folder.name} at relay {relay[:5].hex()}", ok=False, why=problem))
        for told in watch_health.items(agent, folder, status_report.time_text):
            checks.append(api.Check(what=told.what, ok=False, why=told.why, next=told.next))
    return api.DoctorReport(checks=checks)
