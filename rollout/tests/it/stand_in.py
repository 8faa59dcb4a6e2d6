"""Stands in for `safari serve` in a pod: the part of its API that a rollout asks, and answers that are counted.

POD_IP says where it listens, MODEL_PATH which model it serves, ALIAS in which file the version is that the alias names.
Version 3 answers with failures, version 4 ends at once, version 5 finds something in every picture."""

import http.server
import json
import os
import signal
import sys
import threading
import time

LOCK, COUNTED = threading.Lock(), {}


def source():
    model = os.environ["MODEL_PATH"]
    if "@" not in model:
        return model
    with open(os.environ["ALIAS"], encoding="ascii") as file:
        return f"models:/wildlife/{file.read().strip()}"


def label(of):
    return f"content-of-{of.rsplit('/', 1)[1]}"


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        served = source()
        if self.path == "/v1/model":
            model = {"name": "wildlife", "version": label(served), "source": served}
            return self.tell(200, json.dumps({"current": model, "previous": None, "candidate": None}))
        if self.path == "/metrics":
            return self.tell(200, metrics())
        if self.path != "/v1/detections":
            return self.tell(200, "{}")
        is_good = not served.endswith("/3")
        with LOCK:
            good, failed = COUNTED.get(served, (0, 0))
            COUNTED[served] = (good + is_good, failed + (not is_good))
        self.tell(200 if is_good else 500, json.dumps({"source": served}))

    def tell(self, status, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def metrics():
    lines = []
    with LOCK:
        counted = dict(COUNTED)
    served = source()
    lines.append(f'safari_serving_model{{version="{label(served)}",source="{served}",role="current"}} 1')
    for of, (good, failed) in counted.items():
        version = label(of)
        for outcome, count in (("ok", good), ("failed", failed)):
            for bound in ("0.1", "+Inf"):
                lines.append(f'safari_serving_answer_seconds_bucket{{outcome="{outcome}",version="{version}",le="{bound}"}} {count}')
        blank = 0 if of.endswith("/5") else good
        for bound, count in (("0", blank), ("1", good), ("+Inf", good)):
            lines.append(f'safari_serving_score_bucket{{of="box",version="{version}",le="{bound}"}} {count}')
    return "\n".join(lines) + "\n"


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128


def end(*_):
    """Answers on for a moment, as the program does."""
    threading.Thread(target=lambda: (time.sleep(4), os._exit(0))).start()


if source().endswith("/4"):
    sys.exit("the model is refused")
signal.signal(signal.SIGTERM, end)
Server((os.environ["POD_IP"], 8080), Answer).serve_forever()
