"""Sends the same raw requests to MLflow's own server and to ours, and tells where the answers differ.

usage: wire.py REAL OURS [--area NAME]... [--words] [--record FILE]

Ids and times are replaced before the comparison. Three kinds of difference are told apart: `status` (or the error code),
`body` (shape or values of a success) and, with --words, `words` (the message of an error). The exit status is 1 when
there is a difference of a kind that counts and that ACCEPTED does not name with its reason.
"""

import argparse
import http.client
import json
import random
import re
import sys
import urllib.parse
import uuid

from accepted import ACCEPTED
from wire_requests import AREAS

HEX = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
TIMES = re.compile(r"(timestamp|_time|_at)(_ms)?$")
WORDS = re.compile(r"[a-z]+-[a-z]+-\d{1,3}")
ARTIFACTS = re.compile(r"mlflow-artifacts:/+(\d+)(?=/|$)")


class Server:
    """One server, asked over a connection that stays."""

    def __init__(self, uri):
        self.netloc = urllib.parse.urlparse(uri).netloc
        self.connection = None
        self.names = {}
        # Ids of one answer, in the order in which they appear.
        self.answer = {}

    def ask(self, method, path, body, headers):
        """Status, headers and body of the answer; status 0 when there is none."""
        for attempt in (1, 2):
            try:
                if self.connection is None:
                    self.connection = http.client.HTTPConnection(self.netloc, timeout=60)
                self.connection.request(method, path, body=body, headers=headers)
                answer = self.connection.getresponse()
                data = answer.read()
                return answer.status, dict(answer.getheaders()), data
            except (http.client.HTTPException, OSError) as error:
                self.connection = None
                if attempt == 2:
                    return 0, {}, str(error).encode()

    def plain(self, value, key=""):
        """`value` with ids and times replaced by names that are the same on both servers."""
        if isinstance(value, dict):
            # There are no workspaces here, and the word for the only one says nothing.
            return {name: self.plain(inner, name) for name, inner in sorted(value.items()) if name != "workspace"}
        if isinstance(value, list):
            items = [self.plain(inner, key) for inner in value]
            # Lists of keys and values are read as maps.
            is_map = key in ("tags", "params", "metrics", "aliases") and all(isinstance(item, dict) for item in items)
            return sorted(items, key=lambda item: json.dumps(item, sort_keys=True)) if is_map else items
        if key == "next_page_token":
            return "<token>" if value else value
        if TIMES.search(key) and str(value).isdigit() and int(value) > 1_600_000_000_000:
            return "<time>"
        if key == "experiment_id" and value not in ("0", ""):
            return self.names.get(value, "<experiment>")
        if isinstance(value, str) and WORDS.fullmatch(value):
            return "<name by chance>"
        if isinstance(value, str):
            value = HEX.sub(lambda found: self.name(found.group(0)), value)
            value = ARTIFACTS.sub(lambda found: "mlflow-artifacts:/" + self.names.get(found.group(1), "?"), value)
        return value

    def name(self, identifier):
        """One name for an id that requests use, another for one that only this answer has."""
        return self.names.get(identifier) or self.answer.setdefault(identifier, f"<id {len(self.answer)}>")


class Both:
    """A value that is another one on each server, such as an id."""

    def __init__(self, values):
        self.values = values


class Wire:
    def __init__(self, real, ours, words):
        self.servers = [Server(real), Server(ours)]
        self.words = words
        self.record = None
        self.every = 1
        self.chance = random.Random(0)
        self.asked = 0
        self.differences = []
        self.accepted = 0
        self.area = ""
        self.unique = uuid.uuid4().hex[:8]
        self.counter = 0

    def fresh(self, prefix):
        """A name that nothing has yet on either server."""
        self.counter += 1
        return f"{prefix}-{self.unique}-{self.counter}"

    def json(self, method, path, body=None, label=None):
        """Sends `body` as JSON, or as a query with GET; the answers as a [`Pair`]."""
        if method == "GET":
            query = [(key, item) for key, value in (body or {}).items() for item in (value if isinstance(value, list) else [value])]
            return self.raw(method, path, query=query, label=label)
        return self.raw(method, path, body=body, headers={"Content-Type": "application/json"}, label=label)

    def raw(self, method, path, query=(), body=None, headers=None, label=None, api="/api/2.0/mlflow/"):
        answers = []
        for index, server in enumerate(self.servers):
            target = pick(path, index)
            target = target if target.startswith("/") else api + target
            if query:
                target += "?" + urllib.parse.urlencode([(key, pick(value, index)) for key, value in query])
            sent = pick(body, index)
            if sent is not None and not isinstance(sent, bytes):
                sent = json.dumps(sent).encode()
            answers.append(server.ask(method, target, sent, headers or {}))
        self.asked += 1
        pair = Pair(self, answers)
        self.compare(method, path, query, body, label, pair)
        return pair

    def compare(self, method, path, query, body, label, pair):
        (real, real_body), (ours, our_body) = pair.read()
        for server in self.servers:
            server.answer = {}
        if self.record:
            print(f"{method} {short(pick(path, 0))} {short(label or '')}\n    sent: {short(pick(query, 0) or pick(body, 0))}\n    {real} {short(real_body, 1000)}", file=self.record)
        what = f"{method} {pick(path, 0)} {short(label or pick(query, 0) or pick(body, 0))}"
        if isinstance(real, int) and real >= 500 and 200 <= ours < 500:
            # The original fails where ours answers.
            self.accepted += 1
            return
        if real != ours:
            return self.differ("status", what, f"{real} {short(real_body)}", f"{ours} {short(our_body)}")
        if isinstance(real, int) and real >= 400 or not isinstance(real_body, (dict, list)):
            if real_body == "<html>" or isinstance(real_body, dict) and list(real_body) == ["detail"]:
                # A page, or words of the framework in a form of its own: its status is what counts.
                return
            if real < 400 and real_body == "" and our_body == {}:
                return
            code = lambda body: body.get("error_code") if isinstance(body, dict) else None
            if code(real_body) != code(our_body):
                return self.differ("status", what, short(real_body), short(our_body))
            message = lambda body: body.get("message") if isinstance(body, dict) else body
            plain = [spoken(server.plain(message(body))) for server, body in zip(self.servers, (real_body, our_body))]
            if self.words and plain[0] != plain[1]:
                self.differ("words", what, short(plain[0]), short(plain[1]))
            return
        plain = [server.plain(body) for server, body in zip(self.servers, (real_body, our_body))]
        if plain[0] != plain[1]:
            self.differ("body", what, *difference(plain[0], plain[1]))

    def differ(self, kind, what, real, ours):
        for area, pattern, _ in ACCEPTED:
            if area in (None, self.area) and re.search(pattern, f"{kind}: {what} real: {real} ours: {ours}", re.DOTALL):
                self.accepted += 1
                return
        self.differences.append({"area": self.area, "kind": kind, "what": what, "real": real, "ours": ours})


class Pair:
    """What both servers answered."""

    def __init__(self, wire, answers):
        self.wire = wire
        self.answers = answers

    def read(self):
        read = []
        for status, headers, data in self.answers:
            try:
                read.append((status, json.loads(data)))
            except ValueError:
                kind = next((value for name, value in headers.items() if name.lower() == "content-type"), "")
                # A page of HTML says no more than its status.
                read.append((status, "<html>" if "html" in kind and status >= 400 else data.decode("latin-1")))
        return read

    def get(self, *keys):
        """The value under these keys, of each server; ids get a common name."""
        values = []
        for server, (_, body) in zip(self.wire.servers, self.read()):
            for key in keys:
                try:
                    body = body[key]
                except (KeyError, IndexError, TypeError):
                    body = "missing"
                    break
            values.append(body)
        if keys[-1] in ("experiment_id", "run_id", "model_id", "webhook_id"):
            name = f"<{keys[-1]} {len(self.wire.servers[0].names)}>"
            for server, value in zip(self.wire.servers, values):
                server.names[value] = name
        return Both(values)


def pick(value, index):
    """`value` for one of the servers."""
    if isinstance(value, Both):
        return value.values[index]
    if hasattr(value, "pick"):
        return value.pick(index)
    if isinstance(value, dict):
        return {key: pick(inner, index) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        if isinstance(value, tuple) and value and value[0] == "join":
            return "".join(str(pick(part, index)) for part in value[1:])
        return [pick(inner, index) for inner in value]
    return value


def spoken(message):
    """A message without what is by chance: the order of a set as Python prints it, and the words of a database."""
    message = str(message)
    if "sqlite3." in message or "sqlalche.me" in message:
        return "<the database's words>"
    return re.sub(r"\{([^{}]*)\}", lambda found: "{" + ", ".join(sorted(found.group(1).split(", "))) + "}", message)


def short(value, limit=300):
    text = value if isinstance(value, str) else repr(value)
    text = re.sub(r"(.)\1{49,}", lambda found: f"{found.group(1)}…{len(found.group(0))}…", text)
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)})"


def difference(real, ours, path=""):
    """The first place where two answers differ."""
    if isinstance(real, dict) and isinstance(ours, dict):
        for key in sorted(set(real) | set(ours)):
            if key not in real:
                return f"{path}.{key} is not there", f"{path}.{key} = {short(ours[key])}"
            if key not in ours:
                return f"{path}.{key} = {short(real[key])}", f"{path}.{key} is not there"
            if real[key] != ours[key]:
                return difference(real[key], ours[key], f"{path}.{key}")
    if isinstance(real, list) and isinstance(ours, list):
        for index, (one, other) in enumerate(zip(real, ours)):
            if one != other:
                return difference(one, other, f"{path}[{index}]")
        return f"{path} has {len(real)}", f"{path} has {len(ours)}"
    return f"{path} = {short(real)}", f"{path} = {short(ours)}"


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("real")
    arguments.add_argument("ours")
    arguments.add_argument("--area", action="append")
    arguments.add_argument("--words", action="store_true")
    arguments.add_argument("--every", type=int, default=1, help="of the odd bodies only one in so many, another part each time")
    arguments.add_argument("--seed", type=int, default=None, help="which part")
    arguments.add_argument("--record", help="write what the real server answers to this file")
    arguments = arguments.parse_args()
    wire = Wire(arguments.real, arguments.ours, arguments.words)
    wire.every = arguments.every
    seed = random.randrange(1 << 32) if arguments.seed is None else arguments.seed
    wire.chance = random.Random(seed)
    wire.record = open(arguments.record, "w") if arguments.record else None
    for name, ask in AREAS.items():
        if not arguments.area or name in arguments.area:
            wire.area = name
            before = len(wire.differences)
            ask(wire)
            print(f"{name}: {len(wire.differences) - before} differences", file=sys.stderr)
    for found in wire.differences:
        print(f"[{found['area']}] {found['kind']}: {found['what']}\n    real: {found['real']}\n    ours: {found['ours']}")
    print(f"{wire.asked} requests, {len(wire.differences)} differences; {wire.accepted} accepted, seed {seed}")
    sys.exit(1 if wire.differences else 0)


if __name__ == "__main__":
    main()
