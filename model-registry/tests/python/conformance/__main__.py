"""Drives the unmodified `mlflow` client and its command line over every area of a tracking and registry server.

usage: python -m conformance URI [AREA]...

Everything is under names of its own, so that a server can be asked again and again.
"""

import os
import sys
import time
import traceback

# Before mlflow is imported: failures are to be seen at once, not after seven tries.
os.environ.update({"MLFLOW_TRACKING_URI": sys.argv[1], "MLFLOW_REGISTRY_URI": sys.argv[1], "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
                   "MLFLOW_HTTP_REQUEST_TIMEOUT": "60", "GIT_PYTHON_REFRESH": "quiet", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
                   "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"})

import mlflow

from conformance import artifacts, commands, experiments, logged_models, models, registry, runs, searches, webhooks

AREAS = {"experiments": experiments, "runs": runs, "logged_models": logged_models, "registry": registry, "searches": searches,
         "artifacts": artifacts, "models": models, "webhooks": webhooks, "commands": commands}


def main():
    mlflow.set_tracking_uri(sys.argv[1])
    mlflow.set_registry_uri(sys.argv[1])
    client = mlflow.MlflowClient()
    failed, ran = [], 0
    for name, area in AREAS.items():
        if len(sys.argv) > 2 and name not in sys.argv[2:]:
            continue
        began = time.monotonic()
        checks = [check for key, check in vars(area).items() if key.startswith("test_")]
        for check in checks:
            try:
                check(client)
            except Exception:
                failed.append(f"{name}.{check.__name__}")
                print(f"FAILED {failed[-1]}\n{traceback.format_exc()}", flush=True)
            ran += 1
        print(f"{name}: {len(checks)} checks in {time.monotonic() - began:.1f} s", flush=True)
    print(f"mlflow {mlflow.__version__}: {ran - len(failed)} of {ran} checks passed; failed: {failed or 'none'}")
    sys.exit(1 if failed else 0)


main()
