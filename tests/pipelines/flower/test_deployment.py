"""Flower's deployment runtime: a SuperLink, three SuperNodes, every train and evaluate in a process of its own."""

import ast
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

from flwr.serverapp.strategy import FedAvg

from tests.pipelines.flower.app import EXAMPLE, bound, plain_room, training
from tests.pipelines.flower.stage import stage

NODES, WITHIN_S = 3, 240
ROOT, PROGRAMS = Path(__file__).parents[3], Path(sys.executable).parent
FOUND = re.compile(r"Aggregated MetricRecord: (\{.*\})")


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


@contextmanager
def running(log, environment, *command):
    """A process, and all that it starts, until the end of the block; its output goes to a file."""
    with log.open("w") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out, start_new_session=True)
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_deployment(tmp_path):
    port = free_port()
    home = tmp_path / "flower"
    home.mkdir()
    link = f'[superlink]\ndefault = "here"\n[superlink.here]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
    (home / "config.toml").write_text(link)
    environment = {
        **os.environ,
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "PYTHONPATH": str(ROOT),
        "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
    }

    def start(name, *command):
        return running(tmp_path / f"{name}.log", environment, *map(str, command))

    with stage(tmp_path / "consortium", NODES) as hub, ExitStack() as stack:
        superlink = (PROGRAMS / "flower-superlink", "--insecure", "--port", port)
        stack.enter_context(start("superlink", *superlink, "--disable-runtime-dependency-installation"))
        for part in range(NODES):
            own = f'sangam-address="{hub.address}" sangam-identity="{hub.consortium.site(part)}"'
            config = f"partition-id={part} num-partitions={NODES} {own}"
            supernode = (PROGRAMS / "flower-supernode", "--insecure", "--superlink", f"127.0.0.1:{port}")
            where = ("--port", free_port(), "--node-config", config)
            stack.enter_context(start(f"supernode-{part}", *supernode, *where))
        config = f'nodes={NODES} rounds=1 address="{hub.address}" operator="{hub.consortium.operator}"'
        command = [PROGRAMS / "flwr", "run", EXAMPLE, "--stream", "--run-config", config]
        said = started_run(command, environment)
    plain = FedAvg().start(plain_room(NODES), training.initial(), num_rounds=1)
    train, evaluate = map(ast.literal_eval, FOUND.findall(said))
    trained, evaluated = (sum(len(training.data(part, NODES)[at]) for part in range(NODES)) for at in (1, 3))
    assert abs(train["train_loss"] - plain.train_metrics_clientapp[1]["train_loss"]) <= bound("loss", NODES, trained)
    theirs = plain.evaluate_metrics_clientapp[1]
    assert abs(evaluate["auc"] - theirs["auc"]) <= 0.005
    assert abs(evaluate["loss"] - theirs["loss"]) <= 0.005 * theirs["loss"] + bound("loss", NODES, evaluated)


def started_run(command, environment):
    """What `flwr run` says until the run is over; it is called again until the SuperLink answers."""
    for _ in range(100):
        done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=WITHIN_S)
        if FOUND.search(done.stdout):
            return done.stdout
        assert "onnect" in done.stdout + done.stderr, done.stdout[-3000:] + done.stderr[-3000:]
    raise AssertionError("the SuperLink never answered")
