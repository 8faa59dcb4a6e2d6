"""Rules and dashboards: their grammar and unit tests by promtool, their metrics by what real processes count, and a real
Prometheus that scrapes them and fires."""

import json
import re
import signal
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path

import yaml

from .live import free_port
from .made import Made
from .objects import K8S, ROOT, Mistakes, rendered

DASHBOARDS = K8S / "base/monitoring/dashboards"
# No healthy process counts these: they are looked for where they are defined.
RARE = {"safari_serving_failures_total", "safari_serving_left_out_total", "safari_stream_lag_milliseconds",
        "safari_stream_waiting_items", "safari_stream_batches", "safari_pool_used", "safari_pool_slots"}
# Labels of kube-state-metrics, https://github.com/kubernetes/kube-state-metrics/tree/main/docs/metrics/workload
OF_KUBERNETES = {"cronjob", "job_name", "condition"}
WAIT = 90


def rules():
    return next(one["spec"] for one in rendered("overlays/production") if one["kind"] == "PrometheusRule")


def queries():
    """Name of the dashboard and text, of all panels; variables are replaced."""
    for file in sorted(DASHBOARDS.glob("*.json")):
        board = json.loads(file.read_text())
        for panel in board["panels"]:
            for target in panel["targets"]:
                yield f"{file.name}: {panel['title']}", target["expr"].replace("$dag", ".*")


def grammar():
    """promtool check rules, for the dashboards' queries too, and promtool test rules."""
    mistakes, given = Mistakes(), rules()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "rules.yaml").write_text(yaml.safe_dump(given))
        boards = [{"record": f"board:q{number}", "expr": text} for number, (_, text) in enumerate(queries())]
        (folder / "boards.yaml").write_text(yaml.safe_dump({"groups": [{"name": "boards", "rules": boards}]}))
        tests = (K8S / "tests/rules.yaml").read_text()
        (folder / "tests.yaml").write_text(tests)
        for args in (["check", "rules", "rules.yaml", "boards.yaml"], ["test", "rules", "tests.yaml"]):
            told = subprocess.run(["promtool", *args], cwd=folder, capture_output=True, text=True)
            mistakes.unless(told.returncode == 0, f"promtool {' '.join(args)}: {told.stdout}{told.stderr}")
    alerts = [rule["alert"] for group in given["groups"] for rule in group["rules"] if "alert" in rule]
    # Fired as a sample of ALERTS, or as an alert with its texts.
    fired = lambda name: re.search(rf'exp_samples:(?:(?!eval_time)[\s\S])*alertname="{name}"', tests) or re.search(
        rf"alertname: {name}\n(?:(?!alertname)[\s\S])*exp_labels", tests)
    page = (ROOT / "docs/kubernetes.md").read_text()
    for name in alerts:
        mistakes.unless(fired(name), f"no unit test fires {name}")
        mistakes.unless(f"`{name}`" in page, f"docs/kubernetes.md does not say what to do about {name}")
    return mistakes, f"{len(alerts)} alerts and {len(boards)} queries of dashboards parse; each alert fires in a unit test"


def counted(safari):
    """Every metric that a rule or dashboard names is counted by a real process."""
    mistakes = Mistakes()
    texts = [rule["expr"] for group in rules()["groups"] for rule in group["rules"]] + [text for _, text in queries()]
    scaled = [metric["pods"]["metric"]["name"] for one in rendered("overlays/production")
              if one["kind"] == "HorizontalPodAutoscaler" for metric in one["spec"]["metrics"]]
    named = {name for text in texts + scaled for name in re.findall(r"\bsafari_\w+", text)}
    text = safari.metrics("server") + safari.metrics("serve")
    there = set(re.findall(r"^(safari_\w+?)(?:\{| )", text, re.M))
    sources = "".join((ROOT / path).read_text() for path in
                      ("serving/src/metrics.rs", "pipeline/src/metrics.rs", "pipeline/src/api/metrics.rs"))
    for name in sorted(named - there):
        mistakes.unless(name in RARE and f'"{name}"' in sources, f"no process has a metric {name}")
    for name in sorted({label for text in texts for label in re.findall(r"[{,]\s*(\w+)\s*=~?\s*\"", text)}):
        known = name in ("namespace", "alertname") or name in OF_KUBERNETES or f'{name}="' in text or f'"{name}"' in sources
        mistakes.unless(known, f"no metric has a label {name}")
    return mistakes, f"{len(named & there)} of {len(named)} metrics are counted by real processes, the others defined in their sources"


def fires(safari):
    """A real Prometheus scrapes real processes with the token, answers all queries, and fires each alert: for what really
    happens, and for what a page of metrics says that stands in for a process in trouble."""
    mistakes = Mistakes()
    alerts = {rule["alert"] for group in rules()["groups"] for rule in group["rules"] if "alert" in rule}
    happens = {"SafariRunsFail", "SafariTargetDown", "SafariDetectionGone"}
    with tempfile.TemporaryDirectory() as folder, Prometheus(Path(folder), safari) as prometheus:
        up = lambda: {one["metric"]["service"] for one in prometheus.query("up == 1") or []}
        late = prometheus.until(lambda: up() == {"api", "detection"})
        mistakes.unless(late is None, f"Prometheus scrapes {up()}")
        late = prometheus.until(lambda: prometheus.query("safari:detection_requests:rate5m"))
        mistakes.unless(late is None, "Prometheus records no safari:detection_requests:rate5m")
        empty = [name for name, text in queries() if prometheus.query(text) is None]
        mistakes.unless(not empty, f"Prometheus refuses {empty}")
        # A run has failed before; now a server dies.
        mistakes.unless(set(prometheus.firing()) <= {"SafariRunsFail"}, f"{sorted(prometheus.firing())} before anything happens")
        safari.children["serve"].kill()
        late = prometheus.until(lambda: happens <= set(prometheus.firing()))
        mistakes.unless(late is None, f"{sorted(happens)} should fire; {sorted(prometheus.firing())} do")
        with Made() as made:
            prometheus.scrape({"made": made.port})
            late = prometheus.until(lambda: alerts <= set(prometheus.firing()))
            mistakes.unless(late is None, f"{sorted(alerts - set(prometheus.firing()))} do not fire")
            for name, alert in prometheus.firing().items():
                words = " ".join(alert["annotations"].values())
                mistakes.unless("error expanding" not in words and "{{" not in words, f"{name}: {words}")
    return mistakes, f"a real Prometheus scraped two processes, answered all queries and fired {len(alerts)} alerts: " \
        f"{len(happens)} for what happened, the others for a page that stands in"


class Prometheus:
    """A server whose rules are those of the manifests with waits of seconds."""

    def __init__(self, folder, safari):
        self.folder, self.port = folder, free_port()
        given = rules()
        for group in given["groups"]:
            group["interval"] = "1s"
            for rule in group["rules"]:
                if "for" in rule:
                    rule["for"] = "1s"
        (folder / "rules.yaml").write_text(yaml.safe_dump(given))
        self.token = safari.metrics_token
        self.services = {"api": safari.ports["server"], "detection": safari.ports["serve"]}
        self.write()

    def write(self):
        jobs = [
            {
                "job_name": service,
                "authorization": {"type": "Bearer", "credentials": self.token},
                "static_configs": [{
                    "targets": [f"127.0.0.1:{port}"],
                    "labels": {"namespace": "safari", "service": service, "pod": f"{service}-0"},
                }],
            }
            for service, port in self.services.items()
        ]
        often = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        settings = {"global": often, "rule_files": ["rules.yaml"], "scrape_configs": jobs}
        (self.folder / "prometheus.yaml").write_text(yaml.safe_dump(settings))

    def scrape(self, more):
        """Scrapes these services too."""
        self.services |= more
        self.write()
        # It reads its settings again.
        self.child.send_signal(signal.SIGHUP)

    def __enter__(self):
        args = ["prometheus", f"--config.file={self.folder}/prometheus.yaml", f"--storage.tsdb.path={self.folder}/data",
                f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=error"]
        self.child = subprocess.Popen(args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return self

    def __exit__(self, *_):
        self.child.kill()
        self.child.wait()

    def get(self, path):
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"http://127.0.0.1:{self.port}/api/v1/{path}", timeout=10) as answer:
                return json.load(answer)["data"]
        except OSError:
            return None

    def query(self, text):
        """The series that a query gives; none if it is refused."""
        data = self.get("query?" + urllib.parse.urlencode({"query": text}))
        return data and data["result"]

    def firing(self):
        data = self.get("alerts") or {"alerts": []}
        return {one["labels"]["alertname"]: one for one in data["alerts"] if one["state"] == "firing"}

    def until(self, seen):
        end = time.monotonic() + WAIT
        while not seen():
            if time.monotonic() > end:
                return "late"
            time.sleep(0.2)
        return None
