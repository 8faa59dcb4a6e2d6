"""Real processes of our program, with identity on: what they log and count, which paths they answer."""

import json
import os
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from .objects import ROOT

DEADLINE = 120
PHOTOGRAPH = ROOT / "data-samples/farmyard/cow.jpg"
# A run that succeeds, and one that fails.
DAGS = {
    "fine": "dag: fine\ntasks:\n  a: {job: command, with: {command: ['true']}}\n",
    "broken": "dag: broken\ntasks:\n  a: {job: command, with: {command: ['false']}}\n",
}


class Safari:
    """Three servers on one home: `server` (with scheduler and a worker), `registry`, `serve`. Use it in a `with`."""

    def __init__(self, program):
        self.program = program

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory()
        self.home = Path(self.folder.name)
        self.children, self.ports = {}, {}
        try:
            self.begin()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for child in self.children.values():
            child.kill()
            child.wait()
        self.folder.cleanup()

    def begin(self):
        dags = self.home / "dags"
        dags.mkdir()
        for name, text in DAGS.items():
            (dags / f"{name}.yaml").write_text(text)
        # The role that the operators' page gives to Prometheus, and one that may do the rest.
        self.metrics_token = self.token("operator")
        self.token_of_all = self.token("admin")
        self.start("server", "server", "--dags", str(dags), "--listen")
        self.start("registry", "registry", "--listen")
        self.start("serve", "--set", "detector.device=cpu", "serve", "--listen")
        self.until("server answers", lambda: self.ask("server", "/healthz")[0] == 200)
        self.until("registry answers", lambda: self.ask("registry", "/health")[0] == 200)
        self.until("serve is ready", lambda: self.ask("serve", "/healthz/ready")[0] == 200)

    def start(self, name, *args):
        self.ports[name] = free_port()
        log = open(self.home / f"{name}.log", "wb")
        args = [self.program, "--home", self.home / "home", *args, f"127.0.0.1:{self.ports[name]}"]
        self.children[name] = subprocess.Popen(args, env=self.environment(), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=log)

    def environment(self):
        usual = {key: value for key, value in os.environ.items() if not key.startswith(("SAFARI_", "MODEL_"))}
        return {**usual, "SAFARI_IDENTITY_ENABLED": "true"}

    def token(self, role):
        return json.loads(self.say("token", "create", "--role", role, "--expires", "1d", "--format", "json"))["token"]

    def say(self, *args):
        """What a command on the same home prints."""
        args = [self.program, "--home", self.home / "home", *args]
        return subprocess.run(args, env=self.environment(), cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout

    def ask(self, name, path, method="GET", body=None, token=None, headers=()):
        """Status and text; 0 when nobody answers."""
        headers = dict(headers)
        if token:
            headers["Authorization"] = f"Bearer {token}"
        request = urllib.request.Request(f"http://127.0.0.1:{self.ports[name]}{path}", body, headers, method=method)
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
                return answer.status, answer.read().decode(errors="replace")
        except urllib.error.HTTPError as answer:
            return answer.code, answer.read().decode(errors="replace")
        except OSError:
            return 0, ""

    def until(self, what, seen):
        """Asks until it is so."""
        end = time.monotonic() + DEADLINE
        while not seen():
            dead = [name for name, child in self.children.items() if child.poll() is not None and name in what]
            if dead or time.monotonic() > end:
                raise SystemExit(f"error: {what}: not so; {''.join(self.log(name)[-800:] for name in self.children)}")
            time.sleep(0.1)

    def log(self, name):
        return (self.home / f"{name}.log").read_text()

    def lines(self):
        """All lines of all logs, as JSON."""
        return [json.loads(line) for name in self.children for line in self.log(name).splitlines() if line.startswith("{")]

    def work(self):
        """Makes it count: runs that succeed and fail; pictures that are seen, refused, late; a shadow and a switch."""
        for dag in DAGS:
            begun = lambda: self.ask("server", f"/api/v1/dags/{dag}/runs", "POST", b"{}", self.token_of_all,
                                     {"Content-Type": "application/json"})[0] in (200, 201, 202)
            self.until(f"a run of {dag} begins", begun)
        ended = lambda: all(f'safari_runs_ended_total{{dag="{dag}",state="{state}"}} 1' in self.metrics("server")
                            for dag, state in (("fine", "succeeded"), ("broken", "failed")))
        self.until("the runs end", ended)
        picture = PHOTOGRAPH.read_bytes()
        detect = lambda body, **headers: self.ask("serve", "/v1/detections", "POST", body, self.token_of_all, headers)[0]
        assert detect(picture) == 200
        assert detect(b"no picture") == 422
        self.say("model", "register", str(ROOT / "detector/model/wildlife"), "--name", "wildlife")
        candidate = {"model": "models:/wildlife/1", "mode": "shadow", "percent": 100}
        told = self.ask("serve", "/v1/model/candidate", "PUT", json.dumps(candidate).encode(), self.token_of_all,
                        {"Content-Type": "application/json"})
        assert told[0] < 300, told
        # Another picture, since answers are kept.
        assert detect((ROOT / "data-samples/savanna-waterhole/giraffe.jpg").read_bytes()) == 200
        self.until("a shadow has looked", lambda: "safari_serving_shadow_total{" in self.metrics("serve"))
        assert self.ask("serve", "/v1/model/promote", "POST", b"", self.token_of_all)[0] < 300

    def metrics(self, name):
        return self.ask(name, "/metrics", token=self.metrics_token)[1]


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]
