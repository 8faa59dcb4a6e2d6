"""Fluentd's configuration, as far as it can be looked at without Fluentd: sections, plugins, buffers, and whether our own
log lines fit the mapping that Elasticsearch is given."""

import json
import re

from .objects import K8S, Mistakes

CONF = K8S / "logging/fluent.conf"
TEMPLATE = K8S / "logging/template.json"
# Kinds of plugins that the image fluentd-kubernetes-daemonset has (its Gemfile), as far as they are used here.
PLUGINS = {
    "source": {"tail", "monitor_agent"},
    "filter": {"concat", "parser", "record_transformer", "elasticsearch_genid"},
    "match": {"relabel", "elasticsearch", "file"},
    "parse": {"cri", "json"},
    "buffer": {"file"},
}


def check(lines):
    """`lines`: real lines of our log, as JSON."""
    mistakes = Mistakes()
    tree = parse(CONF.read_text(), mistakes)
    plugins(tree, mistakes)
    flow(tree, mistakes)
    fields = mapped(lines, mistakes)
    joined(lines, mistakes)
    return mistakes, f"fluent.conf is sound (read by a parser of ours, not by Fluentd); {len(fields)} fields of {len(lines)} real " \
        "log lines fit the mapping"


def parse(text, mistakes):
    root = {"name": "root", "argument": "", "settings": {}, "sections": []}
    stack = [root]
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        opened = re.fullmatch(r"<(\w+)(?:\s+(.+))?>", line)
        closed = re.fullmatch(r"</(\w+)>", line)
        if opened:
            section = {"name": opened[1], "argument": opened[2] or "", "settings": {}, "sections": []}
            stack[-1]["sections"].append(section)
            stack.append(section)
        elif closed:
            if stack[-1]["name"] != closed[1]:
                mistakes.append(f"fluent.conf:{number}: </{closed[1]}> closes <{stack[-1]['name']}>")
                return root
            stack.pop()
        else:
            key, _, value = line.partition(" ")
            mistakes.unless(key not in stack[-1]["settings"], f"fluent.conf:{number}: {key} comes twice")
            mistakes.unless(value, f"fluent.conf:{number}: {key} has no value")
            stack[-1]["settings"][key] = value.strip()
    mistakes.unless(len(stack) == 1, f"fluent.conf: <{stack[-1]['name']}> is not closed")
    return root


def walk(section):
    yield section
    for inner in section["sections"]:
        yield from walk(inner)


def plugins(tree, mistakes):
    for section in walk(tree):
        kind = section["settings"].get("@type")
        if section["name"] in PLUGINS and not (section["name"] == "buffer" and kind is None):
            mistakes.unless(kind in PLUGINS[section["name"]], f"fluent.conf: <{section['name']}> of an unknown kind {kind}")
    output = next(one for one in walk(tree) if one["settings"].get("@type") == "elasticsearch")
    mistakes.unless(not any(re.match(r"^[^\"#]", output["settings"][key]) for key in ("user", "password")),
                    "fluent.conf: a password is written down")
    buffer = next(one for one in output["sections"] if one["name"] == "buffer")["settings"]
    wanted = {"@type": "file", "overflow_action": "block", "retry_type": "exponential_backoff", "retry_forever": "true"}
    for key, value in wanted.items():
        mistakes.unless(buffer.get(key) == value, f"fluent.conf: {key} of the buffer is not {value}")
    for key in ("chunk_limit_size", "total_limit_size", "flush_thread_count", "retry_max_interval"):
        mistakes.unless(key in buffer, f"fluent.conf: the buffer has no {key}")


def flow(tree, mistakes):
    labels = {one["argument"] for one in tree["sections"] if one["name"] == "label"}
    for section in walk(tree):
        for key in ("@label", "timeout_label"):
            label = section["settings"].get(key)
            mistakes.unless(label is None or label in labels, f"fluent.conf: there is no label {label}")
    for label in labels:
        used = any(label in (one["settings"].get("@label"), one["settings"].get("timeout_label")) for one in walk(tree))
        mistakes.unless(used or label == "@ERROR", f"fluent.conf: nothing leads to {label}")


def mapped(lines, mistakes):
    """Every field of our lines has a type in the template that takes it; what it does not name is a keyword or a number."""
    template = json.loads(TEMPLATE.read_text())["template"]["mappings"]
    words = {"keyword", "text", "date", "date_nanos"}
    kinds, fields = {}, set()
    for line in lines:
        for name, value in line.items():
            fields.add(name)
            type_ = template["properties"].get(name, {}).get("type")
            right = {str: words, bool: {None, "boolean"}, int: {None, "double", "long"}, float: {None, "double"},
                     dict: {"flattened"}}[type(value)]
            if type(value) is str:
                right = words | {None}
            mistakes.unless(type_ in right, f"template.json: {name} is {value!r} in our log, and {type_} there")
            kinds.setdefault(name, set()).add("number" if type(value) in (int, float) else type(value).__name__)
    for name, seen in kinds.items():
        known = name in template["properties"]
        mistakes.unless(known or len(seen) == 1, f"template.json: {name} is sometimes {seen}: give it a type")
    mistakes.unless({"timestamp", "level", "target", "message"} <= fields, "the log lines are not ours")
    return fields


def joined(lines, mistakes):
    """A line of ours always begins a record; the second line of a panic never does."""
    text = CONF.read_text()
    start = re.compile(re.search(r"multiline_start_regexp /(.+)/", text)[1])
    for line in lines:
        mistakes.unless(start.search(json.dumps(line)), "fluent.conf: a JSON line would be joined to the one before")
    mistakes.unless(not start.search("   1: core::panicking::panic"), "fluent.conf: frames of a panic stand alone")
    form = re.search(r"time_format (\S+)", text)[1]
    mistakes.unless(form == "%Y-%m-%dT%H:%M:%S.%N%z", "fluent.conf: another form of time than our log has")
    for line in lines:
        mistakes.unless(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", line["timestamp"]), f"timestamp {line['timestamp']}")
