"""`sangam serve`: run the aggregator until it is told to stop."""

import asyncio
import logging
import signal
from pathlib import Path
from typing import Annotated, Final

import typer

from aggregator.command.logged import logging_to_stderr
from aggregator.command.traced import tracing_as_told
from aggregator.config import LogFormat, ServerConfig

_LOG = logging.getLogger(__name__)

CKKS_WARNING: Final = (
    "CKKS sums are offered. Whoever sees a decrypted CKKS result beside its ciphertexts can solve for "
    "the secret key (Li and Micciancio 2021), so results must stay with those who hold it; whoever holds that key "
    "reads every vector sent here, sums are approximate, and a client may send the negated sum of the others: "
    "see docs/ckks.md."
)


def serve(
    config: Annotated[
        Path | None, typer.Option(help="TOML file of settings; SANGAM_... and options overrule it. SANGAM_CONFIG.")
    ] = None,
    identity: Annotated[
        Path | None, typer.Option(help="Directory with the aggregator's key.pem and identity.pem.")
    ] = None,
    roster: Annotated[Path | None, typer.Option(help="The consortium's signed roster.json.")] = None,
    *,
    listen: Annotated[str | None, typer.Option(help="host:port; port 0 lets the system choose.")] = None,
    staging_mib: Annotated[
        int | None, typer.Option(help="Memory for half-arrived uploads, MiB; beyond it they go to files in --state.")
    ] = None,
    spool_mib: Annotated[
        int | None, typer.Option(help="Room on disk for them, MiB; uploads beyond both are told to come back.")
    ] = None,
    staging_directory: Annotated[
        Path | None, typer.Option(help="Where they go without a state, and CKKS vectors: unlinked files.")
    ] = None,
    state: Annotated[
        Path | None, typer.Option(help="Directory for all that must outlive the server. Default: state, in --identity.")
    ] = None,
    ephemeral: Annotated[
        bool | None, typer.Option("--ephemeral/--durable", help="Keep all in memory: what ran is lost with the server.")
    ] = None,
    fsync: Annotated[
        bool | None,
        typer.Option(
            "--fsync/--no-fsync", help="Force to the disk what is acknowledged, so that it outlives a power cut."
        ),
    ] = None,
    drain_s: Annotated[
        float | None, typer.Option(help="Seconds that a stopping server waits for what is on its way.")
    ] = None,
    revoked: Annotated[Path | None, typer.Option(help="File of revoked serial numbers, one per line.")] = None,
    reload_s: Annotated[
        float | None, typer.Option(help="Seconds between looks at changed files; 0: on SIGHUP only.")
    ] = None,
    keepalive_s: Annotated[float | None, typer.Option(help="Seconds of silence before a line is pinged.")] = None,
    task_creator: Annotated[
        list[str] | None, typer.Option(help="An operator that may create tasks, by name; repeatable. Default: all.")
    ] = None,
    tasks_max: Annotated[int | None, typer.Option(help="Most tasks of one operator at once.")] = None,
    rounds_max: Annotated[int | None, typer.Option(help="Most rounds of one operator's tasks at once.")] = None,
    ckks: Annotated[
        bool | None,
        typer.Option("--ckks/--no-ckks", help="Sum vectors of TenSEAL's CKKS, too; read docs/ckks.md first."),
    ] = None,
    ckks_mib: Annotated[int | None, typer.Option(help="Memory for such sums, MiB; a value takes 64 bytes.")] = None,
    metrics: Annotated[
        str | None, typer.Option(help="host:port for Prometheus' metrics, over mutual TLS to operators. Default: none.")
    ] = None,
    insecure_loopback: Annotated[
        bool | None,
        typer.Option("--insecure-loopback", help="Metrics over plain HTTP; only on a loopback address."),
    ] = None,
    log_format: Annotated[LogFormat | None, typer.Option(help="Of the lines on stderr.")] = None,
) -> None:
    """Run the aggregator. It answers to certificates of its own consortium only; Ctrl-C or SIGTERM stops it,
    once more at once.

    Identity, roster and revoked serials are read again when they change, and at once on SIGHUP.

    Example: [bold]sangam serve --identity hub --roster consortium/roster.json --listen localhost:7443[/bold]

    From a file: [bold]sangam serve --config hub.toml[/bold], after [bold]sangam config check hub.toml[/bold]
    """
    from aggregator.settings import read_settings

    options = {
        "identity": identity,
        "roster": roster,
        "listen": listen,
        "staging_mib": staging_mib,
        "spool_mib": spool_mib,
        "staging_directory": staging_directory,
        "state": state,
        "ephemeral": ephemeral,
        "fsync": fsync,
        "drain_s": drain_s,
        "revoked": revoked,
        "reload_s": reload_s,
        "keepalive_s": keepalive_s,
        "task_creators": task_creator or None,
        "tasks_max": tasks_max,
        "rounds_max": rounds_max,
        "ckks": ckks,
        "ckks_mib": ckks_mib,
        "metrics": metrics,
        "insecure_loopback": insecure_loopback,
        "log_format": log_format,
    }
    asyncio.run(_serve(read_settings(config, options).config))


async def _serve(config: ServerConfig) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to read again
    from aggregator.service import app as service

    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    with logging_to_stderr(config.log_format), tracing_as_told("sangam-aggregator"):
        async with service.serve(config) as running:
            loop.add_signal_handler(signal.SIGHUP, running.reload_soon)
            host = config.address.rpartition(":")[0]
            if config.state is None:
                _LOG.warning("ephemeral: tasks, rounds and results end with this server")
            if config.ckks:
                _LOG.warning(CKKS_WARNING)
            if config.metrics:
                scheme = "http" if config.insecure_loopback else "https"
                shown = f"{scheme}://{config.metrics.rpartition(':')[0]}:{running.metrics_port}/metrics"
                _LOG.info("metrics on %s", shown)
            _LOG.info("listening on %s:%d", host, running.port)
            await stopped.wait()
            _LOG.info("stopping")
            stopped.clear()
            draining = asyncio.create_task(running.drain(config.drain_s))
            await asyncio.wait({draining, asyncio.create_task(stopped.wait())}, return_when=asyncio.FIRST_COMPLETED)
