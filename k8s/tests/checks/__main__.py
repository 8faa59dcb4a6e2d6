"""Checks what is in k8s/: `scripts/check-manifests [--safari PROGRAM] PART...`; without parts all of them."""

import argparse
import sys
from pathlib import Path

from . import cluster, fluentd, house, infra, live, program, prometheus, routes, schemas, search

# What needs nothing but the files, and what needs the program.
OF_FILES = {"schemas": schemas.check, "house": house.check, "rules": prometheus.grammar, "infra": infra.check}
OF_PROGRAM = ("program", "live")


def main():
    parser = argparse.ArgumentParser(prog="check-manifests", description=__doc__)
    parser.add_argument("--safari", type=Path, help="the program, for the parts program and live")
    parser.add_argument("parts", nargs="*", help=", ".join([*OF_FILES, "cluster", *OF_PROGRAM]))
    args = parser.parse_args()
    parts = args.parts or [*OF_FILES, "cluster", *(OF_PROGRAM if args.safari else ())]
    if args.safari is None and set(parts) & set(OF_PROGRAM):
        parser.error("these parts need --safari")
    failed = 0
    for part in parts:
        failed += sum(told(part, *result) for result in results(part, args.safari and args.safari.absolute()))
    return 1 if failed else 0


def results(part, safari):
    """Mistakes and what was found, for each check of a part."""
    if part in OF_FILES:
        yield OF_FILES[part]()
    elif part == "cluster":
        script = cluster.find()
        if script is None:
            print("cluster: skipped: there is no control plane; SAFARI_CONTROL_PLANE may name its script")
            return
        yield cluster.check(script)
    elif part == "program":
        yield program.check(safari)
    elif part == "live":
        with live.Safari(safari) as running:
            running.work()
            yield routes.check(running)
            yield prometheus.counted(running)
            yield fluentd.check(running.lines())
            yield search.check(running.lines())
            # The last: it kills a process.
            yield prometheus.fires(running)
    else:
        raise SystemExit(f"error: there is no part {part}")


def told(part, mistakes, found):
    for mistake in mistakes:
        print(f"{part}: {mistake}")
    print(f"{part}: {len(mistakes)} mistakes" if mistakes else f"{part}: {found}", flush=True)
    return len(mistakes)


sys.exit(main())
