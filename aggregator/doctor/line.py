"""The way to the aggregator: its name, a proxy, and TCP."""

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from aggregator.doctor.case import Case
from aggregator.doctor.finding import Finding, fault, good, skipped, warning
from aggregator.doctor.proxy import Proxy, Refused, Route, choose_route, open_tunnel

Dial: TypeAlias = Callable[[], socket.socket]


@dataclass(frozen=True, slots=True)
class Way:
    """What was found on the way, and how to open a line; `dial` blocks, raises OSError, and is None without a line."""

    findings: list[Finding]
    dial: Dial | None = None


async def look_at_way(case: Case) -> Way:
    """Resolve, choose a proxy or none, and connect as gRPC would."""
    route = choose_route(case.environment, case.host, case.proxy)
    addresses, name = await _look_at_name(case, route)
    if route.proxy is not None:
        return await _through(case, route.proxy, name)
    proxy = _look_at_no_proxy(route)
    if not addresses:
        return Way([name, proxy, *skipped(("TCP",), [name])])
    address, reached = await _look_at_line(case, addresses)
    dial = partial(socket.create_connection, (address, case.port), case.patience_s)
    return Way([name, proxy, reached], dial if address else None)


async def _look_at_name(case: Case, route: Route) -> tuple[list[str], Finding]:
    try:
        async with asyncio.timeout(case.patience_s):
            addresses = await case.resolve(case.host, case.port)
    except OSError as error:
        why = error.strerror if isinstance(error, socket.gaierror) else _why(error, case)
        says = f"the name {case.host} does not resolve: {why}"
        if route.proxy is not None:
            return [], warning("DNS", says, "none is needed: the proxy resolves the name")
        remedy = "compare the spelling with what the consortium gave out, and ask the network team about this name"
        return [], fault("DNS", says, remedy)
    return addresses, good("DNS", f"{case.host} resolves to {', '.join(addresses)}")


def _look_at_no_proxy(route: Route) -> Finding:
    if route.ignored:
        remedy = "set grpc_proxy=http://host:port if this line must go through the proxy"
        return warning("proxy", route.reason, remedy)
    return good("proxy", route.reason)


async def _through(case: Case, proxy: Proxy, name: Finding) -> Way:
    dial = partial(open_tunnel, proxy, case.address, case.patience_s)
    carried = good("TCP", f"the line to {case.address} is the proxy's affair")
    try:
        (await asyncio.to_thread(dial)).close()
    except Refused as error:
        says = f"the proxy {proxy} refuses CONNECT {case.address}: it says {error}"
        remedy = (
            f"have the proxy allow CONNECT to {case.address}; if a direct line is allowed, no_grpc_proxy={case.host}"
        )
        found = fault("proxy", says, remedy)
    except OSError as error:
        says = f"the proxy {proxy} cannot be reached: {_why(error, case)}"
        found = fault("proxy", says, f"correct {proxy.variable}, or exempt the aggregator by no_grpc_proxy={case.host}")
    else:
        return Way([name, good("proxy", f"the proxy {proxy} opens a line to {case.address}"), carried], dial)
    return Way([name, found, *skipped(("TCP",), [found])])


async def _look_at_line(case: Case, addresses: list[str]) -> tuple[str, Finding]:
    """The first address that answers, empty for none."""
    failed: list[str] = []
    for address in addresses:
        try:
            line = await asyncio.to_thread(socket.create_connection, (address, case.port), case.patience_s)
        except OSError as error:
            failed.append(f"{address} {_why(error, case)}")
            continue
        line.close()
        if failed:
            says = f"{address} answers on port {case.port}, but not every address of the name: {'; '.join(failed)}"
            return address, warning("TCP", says, "tell the consortium: connections are slow while one is tried in vain")
        return address, good("TCP", f"{address} answers on port {case.port}")
    says = f"no answer on port {case.port}: {'; '.join(failed)}"
    remedy = f"is the aggregator up? If it is, have the firewall let TCP out to {case.address}"
    return "", fault("TCP", says, remedy)


def _why(error: OSError, case: Case) -> str:
    if isinstance(error, TimeoutError):
        return f"is silent for {case.patience_s:g} s"
    return error.strerror or str(error)
