"""The Prometheus operator's kinds: strictly, whether a PodMonitor finds the pods that it is for, and whether the rules are those
that everybody else has."""

import functools
import json
import os
import subprocess
import tempfile
from pathlib import Path

import yaml

from rendering import RUNBOOKS, Render, title

MODULE = "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1"
TSC = ["tsc", "--noEmit", "--skipLibCheck", "--module", "nodenext", "--moduleResolution", "nodenext"]
OBJECTS = ("PodMonitor", "PrometheusRule")


def problems(render: Render) -> list[str]:
    found = []
    for kind, further in ((OBJECTS[0], pod_problems), (OBJECTS[1], rule_problems)):
        for resource in render.of_kind(kind):
            said = schema_problem(kind, json.dumps(resource))
            found += [f"{title(resource)}: {problem}" for problem in ([said] if said else further(render, resource))]
    return found


@functools.cache
def schema_problem(kind: str, resource: str) -> str | None:
    """By the types that are made of its CRD, which know no further fields, and by the patterns of its values."""
    tools = Path(os.environ["FRESHET_NODE_TOOLS"])
    with tempfile.TemporaryDirectory(dir=tools) as folder:
        typed, run, module = Path(folder) / "typed.mts", Path(folder) / "run.mjs", f"{MODULE}/{kind}"
        typed.write_text(f'import type {{ I{kind} }} from "{module}";\nexport const it: I{kind} = {resource};\n')
        run.write_text(f'import {{ {kind} }} from "{module}";\nnew {kind}({resource}).validate();\n')
        for command in ([*TSC, str(typed)], ["node", str(run)]):
            ended = subprocess.run(command, capture_output=True, text=True)
            if ended.returncode != 0:
                lines = (ended.stdout + ended.stderr).strip().splitlines()
                return next((line for line in lines if "rror: " in line or "error TS" in line), " ".join(lines))
    return None


def rule_problems(render: Render, resource: dict) -> list[str]:
    """The rules of the plain file, but for where the runbook is."""
    text = (render.deploy / "prometheus" / "rules.yml").read_text()
    if render.runbooks:
        text = text.replace(RUNBOOKS, render.runbooks)
    if resource["spec"] != yaml.safe_load(text):
        return ["its rules are not those of prometheus/rules.yml: run tests/deploy/write-rules"]
    return []


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
