"""A stand-in of processes in trouble, ours and kube-state-metrics: a page of metrics as no healthy process has them, for the
alerts that cannot be had otherwise in seconds. Counters grow with time."""

import http.server
import threading
import time

# `{grows}` is a number that grows by 100 a second.
PAGE = """\
safari_serving_requests_total{{route="/v1/detections",status="500"}} {grows}
safari_serving_request_seconds_bucket{{route="/v1/detections",le="10"}} 0
safari_serving_request_seconds_bucket{{route="/v1/detections",le="30"}} {grows}
safari_serving_request_seconds_bucket{{route="/v1/detections",le="+Inf"}} {grows}
safari_serving_queue{{version="a"}} 40
safari_serving_left_out_total{{version="a",reason="full"}} {grows}
safari_serving_failures_total{{version="a"}} {grows}
safari_serving_swaps_total{{outcome="refused"}} 1
safari_serving_model{{version="a",source="models:/wildlife/1",role="current"}} 1
safari_serving_model{{version="b",source="models:/wildlife/2",role="current"}} 1
safari_serving_gpu_memory_bytes 15500000000
safari_serving_redis_failures_total {grows}
safari_oldest_ready_milliseconds 1000000
safari_attempts_total{{dag="made",task="a",outcome="lost"}} 1
safari_scheduling_delay_seconds_bucket{{dag="made",le="60"}} 0
safari_scheduling_delay_seconds_bucket{{dag="made",le="300"}} {grows}
safari_scheduling_delay_seconds_bucket{{dag="made",le="+Inf"}} {grows}
safari_pool_used{{pool="made"}} 2
safari_pool_slots{{pool="made"}} 2
safari_stream_lag_milliseconds{{dag="made"}} 1000000
kube_cronjob_status_last_successful_time{{namespace="safari",cronjob="backup"}} 1
kube_cronjob_created{{namespace="safari",cronjob="drill"}} 1
kube_job_status_start_time{{namespace="safari",job_name="backup-29123456"}} 2
kube_job_failed{{namespace="safari",job_name="backup-29123456",condition="true"}} 1
"""


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        text = PAGE.format(grows=int(time.monotonic() * 100)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


class Made:
    """Use it in a `with`; `port` is where it answers."""

    def __enter__(self):
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
