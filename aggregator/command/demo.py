"""`sangam demo`: the main job, for a newcomer to watch and for a script to check."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from aggregator.errors import ParameterError

LOGISTIC = "logistic"  # the demo itself
BANNER = """[bold]Sangam[/]: secure aggregation, all on this machine.
{sites} hospitals train one model on real medical data. {rounds} rounds, hospitals
that vanish in each: {dropouts}; in one the aggregator is killed, too. It learns the sum of their
updates, and nothing else.
"""


def demo(
    sites: Annotated[int, typer.Option(help="Hospitals, each a process of its own: 2 to 100.")] = 10,
    rounds: Annotated[int, typer.Option(help="Rounds of training.")] = 20,
    dropouts: Annotated[int, typer.Option(help="Hospitals that vanish in every round, each at another step.")] = 2,
    seed: Annotated[int, typer.Option(help="Decides the split of the data and who vanishes; never a secret.")] = 1,
    mode: Annotated[
        str, typer.Option(help="How models travel: auto (which is pairwise here), pairwise, lattice or homomorphic.")
    ] = "auto",
    *,
    pipeline: Annotated[
        str, typer.Option(help="Another training instead, over other real data: mlp, xgboost, visits or survival.")
    ] = "",
    as_json: Annotated[
        bool, typer.Option("--json", help="End stdout with one JSON object; tables go to stderr.")
    ] = False,
    out: Annotated[Path, typer.Option(help="A directory for the picture.")] = Path("sangam-demo"),
) -> None:
    """Train on real data across hospitals on this machine, let some of them vanish, and check every sum.

    A throw-away consortium, a real server, one real process per hospital, mutual TLS between them. A third into the
    run the server is killed in the middle of a round, started again, and the round goes on. The data is
    scikit-learn's breast_cancer, split unevenly. Ends with 0 only if every round's sum was exact.

    With --pipeline another kind of model is trained, over secure rounds and beside that in the open and pooled; of
    the other options only --json counts then. Ends with 0 only if the secure training scores as the open one does.

    Example: [bold]sangam demo --sites 6 --rounds 5 --dropouts 1[/bold]
    """
    from aggregator.protocol.parameters import Mode

    if mode not in set(Mode):
        raise ParameterError(f"--mode {mode}: there are {', '.join(Mode)}")
    console = Console(stderr=True)
    if pipeline not in ("", LOGISTIC):
        from aggregator.demo.pipelines import named
        from aggregator.demo.pipelines.run import show

        raise typer.Exit(show(named(pipeline), console, as_json=as_json))
    console.print(BANNER.format(sites=sites, rounds=rounds, dropouts=dropouts), highlight=False)
    with console.status("kernels are compiled (which takes long the first time only), modules imported ..."):
        from aggregator.local import processes
        from aggregator.local.conduct import conduct
        from native.warmup import warm

        warm()
        processes.nursery("aggregator.demo.hospital")  # imports in the background, while this process does
        try:
            from aggregator.demo import report, run, screen
        except ModuleNotFoundError as missing:
            raise ParameterError(f"the demo needs {missing.name}: pip install 'sangam[demo]'") from None
    settings = run.Settings(sites, rounds, dropouts, seed, out, Mode(mode))
    job = run.run(settings, screen.Screen(console))
    raise typer.Exit(conduct(job, report, console, as_json=as_json))
