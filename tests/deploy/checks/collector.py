"""The collector's configuration: what its pipeline names is there, and failures are kept."""

from pathlib import Path

import yaml

KINDS = ("receivers", "processors", "exporters")


def problems(deploy: Path) -> list[str]:
    try:
        configuration = yaml.safe_load((deploy / "collector.yaml").read_text())
    except yaml.YAMLError as error:
        return [f"collector.yaml: {error}"]
    found = []
    pipeline = configuration["service"]["pipelines"]["traces"]
    for kind in KINDS:
        there, named = set(configuration[kind]), set(pipeline[kind])
        found += [f"collector.yaml: {name} is none of its {kind}" for name in sorted(named - there)]
        found += [f"collector.yaml: {name} is in no pipeline" for name in sorted(there - named)]
    policies = configuration["processors"].get("tail_sampling", {}).get("policies", [])
    kept = [policy.get("status_code", {}).get("status_codes") for policy in policies if policy["type"] == "status_code"]
    if ["ERROR"] not in kept:
        found.append("collector.yaml: failures are not kept")
    return found
