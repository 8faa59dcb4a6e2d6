"""The Python peers of the orchestrator benchmark: the same task graphs run by Dagster, Prefect or Airflow.

Every workload is a graph of very small Python tasks, so that what is timed is the orchestrator and not the work. Each
peer keeps its state in SQLite in a temporary home folder that is removed afterwards, sends no telemetry and listens on
loopback at most. A graph is defined before the clock starts; the clock covers one complete run of it, which must have
succeeded with all its tasks. A run to warm up comes first and is not counted.

airflow-standalone is Airflow as `airflow standalone` starts it, with scheduler and LocalExecutor, where airflow runs a DAG
within one process. It starts several processes for each task: each workload is measured once, after a DAG of one task, and
given up after five minutes.

usage: .venv-bench-PEER/bin/python scripts/bench/orchestrators.py PEER [--repeats 5] [--only NAME]

PEER is dagster, prefect, airflow or airflow-standalone; NAME is one workload, or cold_start. Prints one JSON object on stdout; logs go to
stderr. scripts/setup-orchestrators makes the environments; airflow-standalone runs in that of airflow.
"""

import argparse
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

SLOW_SECONDS = 120.0  # a workload that takes longer than this is measured once
SERVER_START_SECONDS = 120.0
GIVE_UP_SECONDS = 300.0  # for a run of airflow-standalone
DISTRIBUTIONS = {
    "dagster": "dagster",
    "prefect": "prefect",
    "airflow": "apache-airflow",
    "airflow-standalone": "apache-airflow",
}

# The tasks of a graph in an order in which they can run: the name of each with the names of those it needs.
Graph = dict[str, list[str]]


def no_op() -> None:
    """The task that does nothing."""


def fibonacci(n: int) -> int:
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


def fibonacci_10() -> None:
    """The task that computes a little."""
    if fibonacci(10) != 55:
        raise ValueError("fibonacci(10) is not 55")


def chain(length: int) -> Graph:
    return {f"task_{i}": [f"task_{i - 1}"] if i else [] for i in range(length)}


def fan_out(width: int) -> Graph:
    middle = [f"task_{i}" for i in range(width)]
    return {"root": []} | {name: ["root"] for name in middle} | {"join": middle}


def layers(depth: int, width: int) -> Graph:
    graph: Graph = {}
    before: list[str] = []
    for layer in range(depth):
        names = [f"task_{layer}_{i}" for i in range(width)]
        graph |= {name: before for name in names}
        before = names
    return graph


@dataclass(frozen=True)
class Workload:
    graph: Graph
    work: Callable[[], None]


WORKLOADS = {
    "chain_40": Workload(chain(40), no_op),
    "fan_out_200": Workload(fan_out(200), no_op),
    "diamond_10x10": Workload(layers(10, 10), no_op),
    "fib_40": Workload(chain(40), fibonacci_10),
}


@dataclass
class Peer:
    """A peer that is ready to run."""

    # Defines a workload and returns what runs it once; that fails unless every task has succeeded.
    define: Callable[[str], Callable[[], None]]
    # What `python -c` runs for a cold start, and its environment variables; nothing: none is measured.
    cold_start: str | None
    cold_start_environment: dict[str, str]
    notes: list[str]
    # Other processes that belong to the peer: their peak memory is told in a note.
    processes: dict[str, int] = field(default_factory=dict)
    # Waits, after the clock, until what the last run has left behind is stored.
    settle: Callable[[], None] = lambda: None
    # What it runs.
    workloads: tuple[str, ...] = tuple(WORKLOADS)
    # Whether each workload is run once, and has been warmed up for.
    once: bool = False


def expect(name: str, succeeded: bool, tasks: int) -> None:
    wanted = len(WORKLOADS[name].graph)
    if not succeeded or tasks != wanted:
        raise RuntimeError(f"{name}: {tasks} of {wanted} tasks succeeded")


# Dagster


def dagster_job(name: str) -> Any:
    from dagster import In, Nothing, Out, job, op

    workload = WORKLOADS[name]

    @op(out=Out(Nothing))
    def first() -> None:
        workload.work()

    @op(ins={"needed": In(Nothing)}, out=Out(Nothing))
    def later() -> None:
        workload.work()

    @job(name=name)
    def graph() -> None:
        outputs: dict[str, Any] = {}
        for task, needs in workload.graph.items():
            if needs:
                outputs[task] = later.alias(task)(needed=[outputs[need] for need in needs])
            else:
                outputs[task] = first.alias(task)()

    return graph


DAGSTER_COLD_START = """
from dagster import DagsterInstance, job, op

@op
def nothing():
    pass

@job
def cold_start():
    nothing()

with DagsterInstance.get() as instance:
    config = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}
    assert cold_start.execute_in_process(run_config=config, instance=instance).success
"""


@contextmanager
def dagster_peer(home: Path) -> Iterator[Peer]:
    os.environ["DAGSTER_HOME"] = str(home)
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    from dagster import DagsterInstance

    config = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}
    with DagsterInstance.get() as instance:

        def define(name: str) -> Callable[[], None]:
            job = dagster_job(name)

            def run() -> None:
                result = job.execute_in_process(run_config=config, instance=instance)
                tasks = [event for event in result.all_events if event.is_step_success]
                expect(name, result.success, len(tasks))

            return run

        notes = [
            "job.execute_in_process against DagsterInstance.get() with its default SQLite run and event log storage; "
            "tasks run one after another in this process; dependencies are Nothing inputs; console log at ERROR"
        ]
        yield Peer(define, DAGSTER_COLD_START, dict(os.environ), notes)


# Prefect


def prefect_flow(name: str) -> Any:
    from prefect import flow, task
    from prefect.futures import wait

    workload = WORKLOADS[name]
    work = task(workload.work)

    @flow(name=name)
    def graph() -> int:
        futures: dict[str, Any] = {}
        for task_name, needs in workload.graph.items():
            futures[task_name] = work.submit(wait_for=[futures[need] for need in needs])
        wait(list(futures.values()))
        return sum(future.state.is_completed() for future in futures.values())

    return graph


PREFECT_COLD_START = """
from prefect import flow, task

@task
def nothing():
    pass

@flow
def cold_start():
    nothing.submit().wait()

cold_start()
"""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_until_healthy(url: str, server: subprocess.Popen) -> None:
    deadline = time.monotonic() + SERVER_START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError("the Prefect server did not start")


@contextmanager
def prefect_server(url: str, port: int) -> Iterator[subprocess.Popen]:
    command = [sys.executable, "-m", "prefect", "server", "start", "--no-ui"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        wait_until_healthy(url, server)
        yield server
    finally:
        server.terminate()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def stored_task_runs(database: Path) -> int:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)) as connection:
        return connection.execute("SELECT count(*) FROM task_run WHERE state_type = 'COMPLETED'").fetchone()[0]


@contextmanager
def prefect_peer(home: Path) -> Iterator[Peer]:
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    os.environ |= {
        "PREFECT_HOME": str(home),
        "PREFECT_LOGGING_LEVEL": "ERROR",
        "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    with prefect_server(url, port) as server:
        # A home of its own: the temporary server of a cold start and the local one do not share a database.
        environment = os.environ | {"PREFECT_HOME": str(home / "cold_start")}
        environment["PREFECT_SERVER_ALLOW_EPHEMERAL_MODE"] = "true"
        environment.pop("PREFECT_API_URL", None)
        os.environ["PREFECT_API_URL"] = url
        task_runs = 0

        def define(name: str) -> Callable[[], None]:
            flow = prefect_flow(name)

            def run() -> None:
                nonlocal task_runs
                completed = flow()
                expect(name, True, completed)
                task_runs += completed

            return run

        def settle() -> None:
            start = time.monotonic()
            while (stored := stored_task_runs(home / "prefect.db")) < task_runs:
                if time.monotonic() - start > SLOW_SECONDS:
                    raise RuntimeError(f"Prefect stored {stored} of {task_runs} task runs")
                time.sleep(0.1)

        notes = [
            "a flow that submits every task with wait_for to the default (thread pool) task runner, against a local "
            "`prefect server start` with its default SQLite database, started before the clock; logs at ERROR; "
            "Prefect stores the states of tasks behind the run: the clock stops when the flow returns, and the next "
            "run waits, not timed, until all of them are in the database",
            "cold_start: without a server running, so with the start of Prefect's temporary one, its database migrated",
        ]
        yield Peer(define, PREFECT_COLD_START, environment, notes, {"prefect server": server.pid}, settle)


# Airflow


def airflow_dag(name: str) -> Any:
    from airflow.sdk import DAG, task

    workload = WORKLOADS[name]
    with DAG(dag_id=name, schedule=None) as dag:
        work = task(workload.work)
        tasks: dict[str, Any] = {}
        for task_name, needs in workload.graph.items():
            tasks[task_name] = work.override(task_id=task_name)()
            for need in needs:
                tasks[need] >> tasks[task_name]
    return dag


# Airflow runs what it finds in its folder of DAG files; only the one that is measured is there.
AIRFLOW_DAG_FILE = """# An airflow DAG file.
import sys

sys.path.insert(0, {folder!r})
from orchestrators import airflow_dag

dag = airflow_dag({name!r})
"""

AIRFLOW_COLD_START_FILE = """
from airflow.sdk import dag, task

@task
def nothing():
    pass

@dag(schedule=None)
def cold_start():
    nothing()

graph = cold_start()
"""

AIRFLOW_COLD_START = """
import sys

sys.path.insert(0, {folder!r})
from cold_start import graph

assert graph.test().state == "success"
"""


def fill_dag_folder(folder: Path, file_name: str, content: str) -> None:
    folder.mkdir(exist_ok=True)
    for file in folder.glob("*.py"):
        file.unlink()
    (folder / file_name).write_text(content)


def airflow_environment(home: Path, dags: Path) -> dict[str, str]:
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "SCARF_ANALYTICS": "false",
        "DO_NOT_TRACK": "1",
    }


def airflow_dag_file(name: str) -> str:
    return AIRFLOW_DAG_FILE.format(folder=str(Path(__file__).resolve().parent), name=name)


@contextmanager
def airflow_peer(home: Path) -> Iterator[Peer]:
    dags, cold_start_dags = home / "dags", home / "cold_start_dags"
    os.environ |= airflow_environment(home, dags)
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True, stdout=subprocess.DEVNULL)
    fill_dag_folder(cold_start_dags, "cold_start.py", AIRFLOW_COLD_START_FILE)

    def define(name: str) -> Callable[[], None]:
        fill_dag_folder(dags, f"{name}.py", airflow_dag_file(name))
        dag = airflow_dag(name)

        def run() -> None:
            result = dag.test()
            tasks = [task for task in result.get_task_instances() if task.state == "success"]
            expect(name, result.state == "success", len(tasks))

        return run

    notes = [
        "dag.test() with its SQLite database, migrated before the clock: tasks run one after another in this process, "
        "without scheduler, executor and API server; every run reads the DAG file again, as dag.test() does; "
        "logs at ERROR"
    ]
    environment = os.environ | {"AIRFLOW__CORE__DAGS_FOLDER": str(cold_start_dags)}
    yield Peer(define, AIRFLOW_COLD_START.format(folder=str(cold_start_dags)), environment, notes)


# Airflow with scheduler and executor


STANDALONE_WORKLOADS = ("chain_40", "fan_out_200")


def answer(url: str, token: str | None = None, body: dict[str, Any] | None = None) -> Any:
    """What a server on loopback answers to a GET, or to a POST of `body`."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


@contextmanager
def standalone_processes(home: Path, port: int) -> Iterator[subprocess.Popen]:
    log = home / "standalone.log"
    with log.open("wb") as output:
        command = [sys.executable, "-m", "airflow", "standalone"]
        # A session of its own: all its processes end with it.
        server = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield server
    except BaseException:
        sys.stderr.write(log.read_text(errors="replace")[-4000:])
        raise
    finally:
        os.killpg(server.pid, signal.SIGINT)
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            pass
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def wait_until(what: str, seconds: float, server: subprocess.Popen, done: Callable[[], bool], pause: float) -> None:
    deadline = time.monotonic() + seconds
    while server.poll() is None:
        # A server that starts refuses connections, and answers that it does not know a DAG yet.
        with suppress(OSError, sqlite3.OperationalError):
            if done():
                return
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(pause)
    raise RuntimeError(f"{what}: airflow standalone has ended")


@contextmanager
def airflow_standalone_peer(home: Path) -> Iterator[Peer]:
    dags, port = home / "dags", free_port()
    url = f"http://127.0.0.1:{port}"
    os.environ |= airflow_environment(home, dags) | {
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        # It starts `airflow` by its name.
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "NO_PROXY": "127.0.0.1",
    }
    dags.mkdir()
    (dags / "warm_up.py").write_text(AIRFLOW_COLD_START_FILE)
    for name in STANDALONE_WORKLOADS:
        (dags / f"{name}.py").write_text(airflow_dag_file(name))
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True, stdout=subprocess.DEVNULL)
    with standalone_processes(home, port) as server, closing(
        sqlite3.connect(f"file:{home}/airflow.db?mode=ro", uri=True, timeout=30)
    ) as database:
        token = ""

        def logs_in() -> bool:
            nonlocal token
            token = answer(f"{url}/auth/token")["access_token"]
            return True

        def state_of(dag: str, run: str) -> str:
            sql = "SELECT state FROM dag_run WHERE dag_id = ? AND run_id = ?"
            return database.execute(sql, (dag, run)).fetchone()[0]

        def run_dag(dag: str) -> str:
            run = answer(f"{url}/api/v2/dags/{dag}/dagRuns", token, {"logical_date": None})["dag_run_id"]
            ended = ("success", "failed")
            wait_until(dag, GIVE_UP_SECONDS, server, lambda: state_of(dag, run) in ended, 0.05)
            if state_of(dag, run) != "success":
                raise RuntimeError(f"{dag} failed")
            return run

        wait_until("its API", SERVER_START_SECONDS, server, logs_in, 0.2)
        for dag in ("cold_start", *STANDALONE_WORKLOADS):
            known = lambda dag=dag: answer(f"{url}/api/v2/dags/{dag}", token)["is_stale"] is False  # noqa: E731
            wait_until(f"the DAG {dag}", SERVER_START_SECONDS, server, known, 0.5)
        run_dag("cold_start")

        def define(name: str) -> Callable[[], None]:
            def run() -> None:
                run_id = run_dag(name)
                sql = "SELECT count(*) FROM task_instance WHERE dag_id = ? AND run_id = ? AND state = 'success'"
                expect(name, True, database.execute(sql, (name, run_id)).fetchone()[0])

            return run

        notes = [
            "`airflow standalone` with LocalExecutor, its usual settings and its SQLite database, started before the "
            "clock: scheduler, DAG processor, API server and triggerer, and a process for each task; from the call of "
            "its REST API that makes a run until the run has ended in its database; measured once, after one run of a "
            "DAG of one task; logs at ERROR"
        ]
        yield Peer(define, None, {}, notes, workloads=STANDALONE_WORKLOADS, once=True)


PEERS = {
    "dagster": dagster_peer,
    "prefect": prefect_peer,
    "airflow": airflow_peer,
    "airflow-standalone": airflow_standalone_peer,
}


# Measuring


def timed(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def measured(name: str, peer: Peer, run: Callable[[], None], repeats: int, notes: list[str]) -> list[float]:
    if peer.once:
        try:
            return [round(timed(run), 4)]
        except TimeoutError as error:
            notes.append(f"given up: {error}")
            return []
    warm_up = timed(run)
    timed(peer.settle)
    if warm_up > SLOW_SECONDS:
        notes.append(f"{name}: measured once, since it takes more than {SLOW_SECONDS:.0f} s")
        repeats = 1
    seconds, settling = [], []
    for _ in range(repeats):
        seconds.append(round(timed(run), 4))
        settling.append(round(timed(peer.settle), 1))
    if any(settling):
        notes.append(f"{name}: seconds after the clock until everything was stored: {settling}")
    print(f"{name}: warm-up {warm_up:.3f} s, then {seconds}", file=sys.stderr)
    return seconds


def cold_start(peer: Peer) -> None:
    command = [sys.executable, "-c", peer.cold_start]
    subprocess.run(command, env=peer.cold_start_environment, check=True, stdout=subprocess.DEVNULL)


def peak_memory_mib(pid: int) -> float:
    # VmHWM and not getrusage, whose value begins with that of the parent process.
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return round(int(line.split()[1]) / 1024, 1)
    raise RuntimeError(f"process {pid} has no VmHWM")


def bench(peer_name: str, repeats: int, only: str | None) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as home:
        with PEERS[peer_name](Path(home)) as peer:
            notes = list(peer.notes)
            workloads = {
                name: measured(name, peer, peer.define(name), repeats, notes)
                for name in peer.workloads
                if only in (None, name)
            }
            memory = peak_memory_mib(os.getpid())
            for process, pid in peer.processes.items():
                notes.append(f"{process}, a process of its own, not in memory_mib: peak {peak_memory_mib(pid)} MiB")
            cold_starts = []
            if peer.cold_start is not None and only in (None, "cold_start"):
                cold_starts = measured("cold_start", peer, lambda: cold_start(peer), repeats, notes)
    if only is not None:
        notes.append(f"only {only} was run")
    return {
        "peer": f"{peer_name} {version(DISTRIBUTIONS[peer_name])}",
        "workloads": workloads,
        "cold_start": cold_starts,
        "memory_mib": memory,
        "notes": notes,
    }


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def main() -> None:
    parser = argparse.ArgumentParser(description="Runs the orchestrator benchmark with one Python peer.")
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("--repeats", type=positive, default=5)
    parser.add_argument("--only", choices=[*WORKLOADS, "cold_start"])
    arguments = parser.parse_args()
    # So that a run that is told to stop still ends its processes and removes its home folder.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    # Whatever a peer or a process it starts prints goes to stderr: stdout is for the JSON object alone.
    output = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    result = bench(arguments.peer, arguments.repeats, arguments.only)
    print(json.dumps(result), file=output, flush=True)


if __name__ == "__main__":
    main()
