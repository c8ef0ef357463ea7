"""The Prometheus operator's PodMonitor: strictly, and whether it finds the pods that it is for."""

import functools
import json
import os
import subprocess
import tempfile
from pathlib import Path

from rendering import Render, title

MODULE = "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PodMonitor"
TSC = ["tsc", "--noEmit", "--skipLibCheck", "--module", "nodenext", "--moduleResolution", "nodenext"]


def problems(render: Render) -> list[str]:
    found = []
    for monitor in render.of_kind("PodMonitor"):
        said = schema_problem(json.dumps(monitor))
        found += [f"{title(monitor)}: {problem}" for problem in ([said] if said else pod_problems(render, monitor))]
    return found


@functools.cache
def schema_problem(monitor: str) -> str | None:
    """By the types that are made of its CRD, which know no further fields, and by the patterns of its values."""
    tools = Path(os.environ["FRESHET_NODE_TOOLS"])
    with tempfile.TemporaryDirectory(dir=tools) as folder:
        typed, run = Path(folder) / "typed.mts", Path(folder) / "run.mjs"
        typed.write_text(f'import type {{ IPodMonitor }} from "{MODULE}";\nexport const monitor: IPodMonitor = {monitor};\n')
        run.write_text(f'import {{ PodMonitor }} from "{MODULE}";\nnew PodMonitor({monitor}).validate();\n')
        for command in ([*TSC, str(typed)], ["node", str(run)]):
            ended = subprocess.run(command, capture_output=True, text=True)
            if ended.returncode != 0:
                lines = (ended.stdout + ended.stderr).strip().splitlines()
                return next((line for line in lines if "rror: " in line or "error TS" in line), " ".join(lines))
    return None


def pod_problems(render: Render, monitor: dict) -> list[str]:
    found = []
    wanted = {name for rule in monitor["spec"]["selector"]["matchExpressions"] for name in rule["values"]}
    ports = {endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]}
    pods = {pod["metadata"]["labels"][monitor["spec"]["jobLabel"]]: pod for _, pod in render.pods()}
    for name in sorted(wanted):
        if name not in pods:
            found.append(f"selects no pod: {name}")
            continue
        there = {port["name"] for port in pods[name]["spec"]["containers"][0].get("ports", [])}
        found += [f"{name}: a port that is not there: {port}" for port in sorted(ports - there)]
        if "prometheus.io/scrape" in pods[name]["metadata"].get("annotations", {}):
            found.append(f"{name} is scraped by its annotations too")
    return found
