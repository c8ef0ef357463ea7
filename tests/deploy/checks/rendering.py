"""Kustomize's output, as kubectl would apply it."""

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import yaml

# Stands for wherever somebody shows alerts.md.
RUNBOOKS = "https://runbooks.example.com/freshet/alerts.md"
# As the runbook says that it is replaced.
OWN_RUNBOOKS = "https://git.example.org/platform/deploy/alerts.md"
REPLACEMENT = {
    "sourceValue": OWN_RUNBOOKS,
    "targets": [{
        "select": {"kind": "PrometheusRule"},
        "fieldPaths": ["spec.groups.*.rules.*.annotations.runbook_url"],
        "options": {"delimiter": "#"},
    }],
}
# Each with the Secrets that it needs and does not make, as a file of examples.
RENDERS = {
    "base": ("base", None),
    "dev": ("overlays/dev", None),
    "dev with keda": (["overlays/dev", "components/keda"], None),
    "dev with the operator": (["overlays/dev", "components/prometheus-operator", "components/prometheus-rules"], None),
    "dev with runbooks of one's own": (["overlays/dev", "components/prometheus-rules"], None),
    "production": ("overlays/production", "overlays/production/secrets.example.yaml"),
}


class CannotRender(Exception):
    """Kustomize's own words."""


@dataclass
class Render:
    """One overlay: its resources, and beside them the Secrets that somebody makes by hand."""

    name: str
    resources: list[dict]
    examples: list[dict]
    # What it was rendered out of.
    deploy: Path
    # Where its alerts say that the runbook is, if elsewhere.
    runbooks: str | None = None

    def of_kind(self, *kinds: str) -> list[dict]:
        return [resource for resource in self.resources if resource["kind"] in kinds]

    def pods(self) -> list[tuple[dict, dict]]:
        """Each resource that makes pods, and its template."""
        makers = self.of_kind("Deployment", "StatefulSet", "DaemonSet", "Job")
        return [(maker, maker["spec"]["template"]) for maker in makers]

    def find(self, kind: str, name: str) -> dict | None:
        everything = self.resources + self.examples
        return next((r for r in everything if r["kind"] == kind and r["metadata"]["name"] == name), None)


def title(resource: dict) -> str:
    return f"{resource['kind']} {resource['metadata']['name']}"


def render_all(deploy: Path) -> list[Render]:
    renders = []
    for name, (folder, examples) in RENDERS.items():
        kubernetes = deploy / "kubernetes"
        runbooks = OWN_RUNBOOKS if "runbooks" in name else None
        if isinstance(folder, list):
            text = with_components(kubernetes, folder[0], folder[1:], [REPLACEMENT] if runbooks else [])
        else:
            text = kustomize(kubernetes / folder)
        beside = list(yaml.safe_load_all((kubernetes / examples).read_text())) if examples else []
        renders.append(Render(name, [r for r in yaml.safe_load_all(text) if r], beside, deploy, runbooks))
    return renders


def with_components(kubernetes: Path, overlay: str, components: list[str], replacements: list[dict]) -> str:
    """As an operator would add it, in a folder beside the overlays."""
    with tempfile.TemporaryDirectory(dir=kubernetes / "overlays") as folder:
        kustomization = {"resources": [f"../../{overlay}"], "components": [f"../../{name}" for name in components]}
        if replacements:
            kustomization["replacements"] = replacements
        namespace = yaml.safe_load((kubernetes / overlay / "kustomization.yaml").read_text())["namespace"]
        kustomization["namespace"] = namespace
        (Path(folder) / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        return kustomize(Path(folder))


def kustomize(folder: Path) -> str:
    ended = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True)
    if ended.returncode != 0 or ended.stderr:
        # A warning is of something that will not work one day.
        raise CannotRender(f"kubectl kustomize {folder}: {ended.stderr.strip()}")
    return ended.stdout
