"""Real log lines, sent as Fluentd sends them to a server that knows Elasticsearch's template, `_bulk` and search. The server is
osmem, an imitation of OpenSearch in memory: it stands in for Elasticsearch, which was not run."""

import hashlib
import json
import urllib.request

from osmem_server import OsmemServer

from .fluentd import TEMPLATE
from .objects import Mistakes

INDEX = "safari-2026.03.01"
# OpenSearch has another name for this type.
OTHER_NAMES = {"flattened": "flat_object"}


def check(lines):
    """`lines`: real lines of our log, as JSON."""
    mistakes = Mistakes()
    text = TEMPLATE.read_text()
    for name, other in OTHER_NAMES.items():
        text = text.replace(f'"{name}"', f'"{other}"')
    with OsmemServer.start(japanese=False) as server:
        server.request("PUT", "/_index_template/safari", json.loads(text))
        records = {key(line): record(line) for line in lines}
        for again in range(2):
            # What is sent again after a connection broke is there once.
            refused = [item for item in send(server, records) if item["status"] not in (201, 409)]
            mistakes.unless(not refused, f"{len(refused)} lines are refused: {refused[:1]}")
        found = lambda query: server.request("POST", "/safari-*/_count", {"query": query})["count"]
        expect = lambda count, what, query: mistakes.unless(
            found(query) == count, f"{what}: {found(query)} lines are found, and {count} are there")
        expect(len(records), "all", {"match_all": {}})
        for level in sorted({line["level"] for line in lines}):
            expect(sum(one["level"] == level for one in records.values()), level, {"term": {"level": level}})
        times = sorted(one["timestamp"] for one in records.values())
        middle = times[len(times) // 2]
        expect(sum(time >= middle for time in times), "by time", {"range": {"@timestamp": {"gte": middle}}})
        word = next(iter(records.values()))["message"].split()[0]
        mistakes.unless(found({"match": {"message": word}}) > 0, f"nobody finds `{word}` in the messages")
    return mistakes, f"{len(records)} real log lines are taken and found again, by an imitation of Elasticsearch"


def key(line):
    return hashlib.sha1(json.dumps(line, sort_keys=True).encode()).hexdigest()


def record(line):
    return {**line, "@timestamp": line["timestamp"], "node": "node-1", "namespace": "safari", "pod": "api-0", "container": "safari"}


def send(server, records):
    """What became of each."""
    pairs = ((json.dumps({"create": {"_index": INDEX, "_id": id_}}), json.dumps(one)) for id_, one in records.items())
    body = "".join(f"{head}\n{one}\n" for head, one in pairs)
    request = urllib.request.Request(f"{server.url}/_bulk?refresh=true", body.encode(), {"Content-Type": "application/x-ndjson"})
    with urllib.request.urlopen(request) as answer:
        return [item["create"] for item in json.load(answer)["items"]]
