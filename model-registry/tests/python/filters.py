"""Random rows, random filters, orders and pages, asked of MLflow's own server and of ours: the answers must be the same.

usage: filters.py REAL OURS [--count N] [--seed S]

A part of the filters has characters changed at random, so that refusals are compared too. The seed of a run is printed;
the same seed asks the same.
"""

import argparse
import random
import sys

from wire import Wire

TEXTS = ["a", "A", "b", "ab", "a%", "a_b", "it's", 'say "x"', "ünï", "Ünï", "", " ", "1", "10", "9", "true", "a\\b", "🦁", "x" * 40]
METRICS = ["loss", "acc", "a b", "dotted.key", "val/f1"]
PARAMS = ["lr", "Kind", "with space", "dotted.key"]
TAGS = ["team", "odd", "with-dash", "a/b", "dotted.key"]
NUMBERS = [0, 1, -1, 0.5, 0.25, -0.0, 1e10, 1e-10, 3, "NaN", "Infinity", "-Infinity"]
STATUSES = ["RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"]


class Asker:
    def __init__(self, wire, seed):
        self.wire = wire
        self.random = random.Random(seed)
        self.prefix = wire.fresh("filters")
        self.runs = []
        self.make_runs()
        self.make_models()
        self.make_logged_models()

    def some(self, values, chance=0.6):
        return [value for value in values if self.random.random() < chance]

    def pairs(self, keys):
        return [{"key": key, "value": self.random.choice(TEXTS)} for key in self.some(keys)]

    def make_runs(self):
        self.experiment = self.wire.json("POST", "experiments/create", {"name": self.prefix}).get("experiment_id")
        for number in range(24):
            run = self.wire.json("POST", "runs/create", {"experiment_id": self.experiment, "run_name": f"{self.random.choice(['run', 'Run', 'r%', 'r_'])} {number}",
                                 "start_time": 1000 + number, "user_id": self.random.choice("uv"), "tags": self.pairs(TAGS)}).get("run", "info", "run_id")
            metrics = [{"key": key, "value": self.random.choice(NUMBERS), "timestamp": 1 + step, "step": step} for key in self.some(METRICS) for step in range(self.random.choice([1, 1, 3]))]
            # An empty text is no param for the real server on some databases: params have a value.
            params = [pair for pair in self.pairs(PARAMS) if pair["value"]]
            self.wire.json("POST", "runs/log-batch", {"run_id": run, "metrics": metrics, "params": params})
            if self.random.random() < 0.8:
                self.wire.json("POST", "runs/update", {"run_id": run, "status": self.random.choice(STATUSES), "end_time": self.random.choice([2000, 2001 + number])})
            if self.random.random() < 0.15:
                self.wire.json("POST", "runs/delete", {"run_id": run})
            if self.random.random() < 0.3:
                self.wire.json("POST", "runs/log-inputs", {"run_id": run, "datasets": [{"dataset": {"name": self.random.choice(["night", "Day"]), "digest": self.random.choice("xy"),
                               "source_type": "local", "source": "here"}, "tags": [{"key": "mlflow.data.context", "value": self.random.choice(["training", "eval"])}]}]})
            self.runs.append(run)

    def make_models(self):
        self.run_of_versions = self.runs[0]
        self.models = [f"{self.prefix}-{letter}" for letter in "abcdeF"]
        for name in self.models:
            self.wire.json("POST", "registered-models/create", {"name": name, "tags": self.pairs(TAGS)})
            for number in range(self.random.randrange(4)):
                body = {"name": name, "source": f"s3://bucket/{self.random.choice('abA')}/{number}", "tags": self.pairs(TAGS)}
                if self.random.random() < 0.5:
                    body["run_id"] = self.run_of_versions
                self.wire.json("POST", "model-versions/create", body)

    def make_logged_models(self):
        for number in range(8):
            model = self.wire.json("POST", "logged-models", {"experiment_id": self.experiment, "name": f"{self.random.choice(['net', 'Net'])}{number}", "model_type": self.random.choice(["agent", "tree"]),
                                   "source_run_id": self.runs[1], "params": [{"key": "lr", "value": self.random.choice("12")}], "tags": [{"key": "team", "value": self.random.choice("abA")}]}).get("model", "info", "model_id")
            for key in ("loss", "acc"):
                if self.random.random() < 0.7:
                    self.wire.json("POST", "runs/log-metric", {"run_id": self.runs[1], "key": f"{key}", "value": self.random.choice([0, 0.5, 1, -2]), "timestamp": number, "step": number, "model_id": model})

    # The language

    def spelled(self, key):
        """A key as it may be written: quoted when it must be, and sometimes when it need not be."""
        plain = key.replace(".", "").replace("_", "").isalnum()
        return self.random.choice([key, key, f"`{key}`", f'"{key}"'] if plain else [f"`{key}`", f'"{key}"'])

    def text(self, value=None):
        value = self.random.choice(TEXTS) if value is None else value
        if "'" in value:
            return f'"{value}"'
        return f"'{value}'" if '"' in value or self.random.random() < 0.8 else f'"{value}"'

    def pattern(self, value=None):
        value = self.random.choice(TEXTS) if value is None else value
        return self.text(self.random.choice([value, f"{value}%", f"%{value}", f"%{value}%", "%", "_%", value.replace("a", "_")]))

    def operator(self, operators):
        operator = self.random.choice(operators)
        return operator.lower() if self.random.random() < 0.2 else operator

    def compared(self, left, value=None, more=()):
        operator = self.operator(["=", "!=", "LIKE", "ILIKE", *more])
        right = self.pattern(value) if operator.upper().endswith("LIKE") else self.text(value)
        if operator.upper().endswith("IN"):
            right = f"({', '.join(self.text() for _ in range(self.random.randrange(1, 4)))})"
        if operator.upper().endswith("NULL"):
            right = ""
        space = " " if operator[0].isalpha() else self.random.choice([" ", " ", "", "  "])
        return f"{left}{space}{operator}{space}{right}".rstrip()

    def number(self, left, values=NUMBERS[:9]):
        operator = self.random.choice(["=", "!=", "<", "<=", ">", ">="])
        return f"{left} {operator} {self.random.choice(values)}"

    def run_term(self):
        random = self.random
        return random.choice([
            lambda: self.number(f"{random.choice(['metrics', 'metric'])}.{self.spelled(random.choice(METRICS))}"),
            lambda: self.number(f"metrics.{self.spelled(random.choice(METRICS))}"),
            lambda: self.compared(f"{random.choice(['params', 'param', 'parameters'])}.{self.spelled(random.choice(PARAMS))}", more=random.choice([(), ("IS NULL", "IS NOT NULL")])),
            lambda: self.compared(f"{random.choice(['tags', 'tag'])}.{self.spelled(random.choice(TAGS))}", more=random.choice([(), ("IS NULL", "IS NOT NULL"), ("IN",)])),
            lambda: self.compared(f"{random.choice(['', '', 'attributes.', 'attribute.', 'attr.'])}status", random.choice(STATUSES)),
            lambda: self.compared(f"{random.choice(['', 'attributes.'])}{random.choice(['run_name', 'user_id', 'artifact_uri'])}", random.choice(["run 1", "r% 2", "r_ 3", "Run", "u"])),
            lambda: self.number(f"{random.choice(['', 'attributes.'])}{random.choice(['start_time', 'end_time', 'created', 'Created'])}", [1000, 1005, 1012, 2000, 2010]),
            lambda: self.compared(f"{random.choice(['dataset', 'datasets'])}.{random.choice(['name', 'digest', 'context'])}", random.choice(["night", "Day", "x", "training"])),
        ])()

    def model_term(self):
        random = self.random
        return random.choice([lambda: self.compared("name", random.choice(self.models)), lambda: self.compared(f"{random.choice(['tags', 'tag'])}.{self.spelled(random.choice(TAGS))}")])()

    def version_term(self):
        random = self.random
        return random.choice([
            lambda: self.compared("name", random.choice(self.models)), lambda: self.compared(f"{random.choice(['tags', 'tag'])}.{self.spelled(random.choice(TAGS))}"),
            lambda: self.number("version_number", [0, 1, 2, 3]), lambda: self.compared("source_path", random.choice(["s3://bucket/a/0", "s3://bucket/", "s3://"])),
            lambda: random.choice(["run_id = 'x'", "run_id != 'x'", "run_id IN ('x', 'y')", "run_id = ''"])])()

    def experiment_term(self):
        random = self.random
        return random.choice([lambda: self.compared(f"{random.choice(['', 'attributes.', 'attribute.'])}name", self.prefix), lambda: self.compared(f"tags.{self.spelled(random.choice(TAGS))}"),
                              lambda: self.number("creation_time", [0, 1000, 5e12])])()

    def logged_term(self):
        """Not `status`: the original compares the text with the number that it keeps, so that nothing is ever equal."""
        random = self.random
        return random.choice([
            lambda: self.number(f"metrics.{random.choice(['loss', 'acc', 'none'])}", [0, 0.5, 1]), lambda: self.compared("params.lr", random.choice("12")), lambda: self.compared("tags.team", random.choice("abA")),
            lambda: self.compared(random.choice(["name", "model_type", "attributes.name"]), random.choice(["net1", "Net2", "agent"])), lambda: self.number("creation_timestamp", [0, 5000000000000])])()

    def filter(self, term):
        joined = f" {self.random.choice(['AND', 'AND', 'and', 'And'])} "
        text = joined.join(term() for _ in range(self.random.choice([1, 1, 1, 2, 2, 3])))
        if self.random.random() < 0.12:
            at = self.random.randrange(len(text) + 1)
            text = text[:at] + self.random.choice(["", "'", '"', "`", "(", ")", " ", ".", ",", ";", "=", "x", "%", "--", "\\", " OR ", " NOT ", "5"]) + text[at + self.random.choice([0, 1]):]
        return text

    def direction(self):
        return self.random.choice(["", " ASC", " DESC", " asc", " desc"])

    def run_order(self):
        random = self.random
        key = random.choice([f"metrics.{self.spelled(random.choice(METRICS))}", f"params.{self.spelled(random.choice(PARAMS))}", f"tags.{self.spelled(random.choice(TAGS))}",
                             random.choice(["start_time", "end_time", "status", "run_name", "attributes.start_time", "Created", "user_id"])])
        return key + self.direction()

    def ask(self):
        """One filter, order and page of one kind of thing."""
        random = self.random
        kind = random.choice(["runs"] * 5 + ["models", "versions", "versions", "experiments", "logged"])
        if kind == "runs":
            body = {"experiment_ids": [self.experiment], "filter": self.filter(self.run_term), "max_results": random.choice([3, 30, 30]),
                    "order_by": [self.run_order() for _ in range(random.randrange(3))], "run_view_type": random.choice(["ACTIVE_ONLY", "ALL", "DELETED_ONLY"])}
            return self.follow("POST", "runs/search", body)
        if kind == "models":
            body = {"filter": self.filter(self.model_term) + f" AND name LIKE '{self.prefix}%'", "max_results": random.choice([2, 30]), "order_by": [random.choice(["name", "name ASC", "name DESC"])]}
            return self.follow("GET", "registered-models/search", body)
        if kind == "versions":
            body = {"filter": self.filter(self.version_term) + f" AND name LIKE '{self.prefix}%'", "max_results": random.choice([2, 30]),
                    "order_by": [random.choice(["name", "name ASC", "name DESC"]), f"version_number{random.choice([' ASC', ' DESC', ''])}"]}
            return self.follow("GET", "model-versions/search", body)
        if kind == "experiments":
            body = {"filter": self.filter(self.experiment_term) + f" AND name LIKE '{self.prefix}%'", "max_results": 5, "order_by": ["name"], "view_type": "ALL"}
            return self.follow("POST", "experiments/search", body)
        body = {"experiment_ids": [self.experiment], "filter": self.filter(self.logged_term), "max_results": random.choice([2, 30]),
                "order_by": [{"field_name": "name", "ascending": random.random() < 0.5}]}
        return self.follow("POST", "logged-models/search", body)

    def follow(self, method, path, body):
        page = self.wire.json(method, path, body, f"{body['filter']} BY {body['order_by']}")
        token = page.get("next_page_token")
        if not {"missing", "", None} & set(token.values):
            self.wire.json(method, path, {**body, "page_token": token}, f"page 2 of {body['filter']} BY {body['order_by']}")


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("real")
    arguments.add_argument("ours")
    arguments.add_argument("--count", type=int, default=300)
    arguments.add_argument("--seed", type=int, default=None)
    arguments = arguments.parse_args()
    seed = random.randrange(1 << 32) if arguments.seed is None else arguments.seed
    print(f"seed {seed}", file=sys.stderr)
    wire = Wire(arguments.real, arguments.ours, words=False)
    wire.area = "filters"
    asker = Asker(wire, seed)
    for _ in range(arguments.count):
        asker.ask()
    for found in wire.differences:
        print(f"{found['kind']}: {found['what']}\n    real: {found['real']}\n    ours: {found['ours']}")
    print(f"{wire.asked} requests of seed {seed}, {len(wire.differences)} differences")
    sys.exit(1 if wire.differences else 0)


if __name__ == "__main__":
    main()
