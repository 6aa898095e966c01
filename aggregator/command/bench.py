"""`sangam bench`: what secure rounds cost beside a plain sum, for engineers to measure on their own machine."""

import asyncio
import gc
from typing import Annotated

import typer
from rich.console import Console

INTERRUPTED = 130  # as a shell reports a process that Ctrl-C ended


def bench(
    mode: Annotated[str, typer.Option(help="lattice or pairwise; plain runs the plain sum alone.")] = "lattice",
    clients: Annotated[int, typer.Option(help="Clients, each with a certificate and a session: 2 to 100.")] = 32,
    entries: Annotated[int, typer.Option(help="Values of one update.")] = 1_000_000,
    bits: Annotated[int, typer.Option(help="Bits of one quantised value.")] = 16,
    dropouts: Annotated[int, typer.Option(help="Clients that vanish half-way through every upload.")] = 3,
    *,
    repeats: Annotated[int, typer.Option(help="Rounds of each kind; figures are medians.")] = 3,
    client_processes: Annotated[int, typer.Option(help="Processes that share the clients.")] = 2,
    as_json: Annotated[
        bool, typer.Option("--json", help="End stdout with one JSON object; the table goes to stderr.")
    ] = False,
) -> None:
    """Run real rounds on this machine, and in turn with them a plain float32 sum over the same streaming path.

    One server process (that of [bold]sangam serve[/bold]), processes that hold the clients, mutual TLS between them.
    Payloads are made beforehand; all clients start at one signal. Ends with 0 only if every sum was exact.
    The clients share this machine's cores with the server, and one disk (TMPDIR) for all their journals.

    Example: [bold]sangam bench --mode lattice --clients 8 --entries 100000 --dropouts 1[/bold]

    What the JSON's numbers mean (medians over the repeats; seconds; None where a plain run has none):

    [bold]plain_stream_s, secure_stream_s[/bold]: from the start signal, when the first byte leaves, until the sum is
    there in the clear; the starting process's clock. [bold]stream_ratio[/bold]: the median of each repeat's own ratio.

    [bold]setup_s[/bold]: from a round's opening until uploads are taken: the key phases, and the clients' quantisation
    in the first of them. [bold]end_of_round_s[/bold]: from the last whole upload until the round has closed;
    [bold]step_s[/bold]: its two steps.

    [bold]server_compute_s[/bold]: CPU seconds, all threads, of our server code behind the key phases: check and stage
    chunks, add, check shares and signatures, reconstruct, unmask, decode; neither gRPC nor message parsing.
    [bold]server_compute_parts_s[/bold]: by step and verb, key phases included; "spread" is work on the vector in the
    end. [bold]plain_compute_s[/bold]: the same of the plain sum.

    [bold]client_compute_s[/bold]: wall time of one client's quantise and blind with nobody else running, on all cores,
    without key agreement; the best of a few. [bold]bytes_per_value[/bold]: all messages of the client that sent most,
    over its values; float32 has 4.

    [bold]server_peak_rss_bytes[/bold]: the most memory that the server process held in a round (Linux's VmHWM, begun
    anew before each round where the system allows it) beyond [bold]server_idle_rss_bytes[/bold], which it held when it
    began to listen. It includes what is staged, and up to three earlier results that a server keeps: ask for one
    repeat to see a single round. [bold]plain_peak_rss_bytes[/bold]: the same of the plain rounds.
    """
    console = Console(stderr=True)
    with console.status("kernels are compiled (which takes long the first time only), modules imported ..."):
        from aggregator.bench import report, run
        from aggregator.bench.settings import Settings
        from aggregator.local import processes
        from aggregator.local.screen import Screen
        from native.warmup import warm

        settings = Settings(mode, clients, entries, bits, dropouts, repeats, client_processes)
        warm()
        processes.nursery(*run.PRELOADED)  # imports in the background, while this process measures
    gc.freeze()  # looking through all that was imported once more, at exit, would take a second
    processes.end_gently()
    try:
        outcome = asyncio.run(run.run(settings, Screen(console)))
    except KeyboardInterrupt:
        console.print("Interrupted: all processes have ended, all files are gone.")
        raise typer.Exit(INTERRUPTED) from None
    report.show(console if as_json else Console(), outcome)
    if as_json:
        typer.echo(report.line(outcome))
    raise typer.Exit(0 if outcome.exact else 1)
