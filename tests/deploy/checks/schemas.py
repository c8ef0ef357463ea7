"""Strict schemas: a field that nobody knows is wrong, in KEDA's kinds too."""

import functools
import json
from pathlib import Path

import jsonschema
import kubernetes_validate
import yaml

from rendering import Render, title

# The oldest that still gets fixes, and the newest that the schemas know.
VERSIONS = ["1.34", "1.37"]
CRDS = Path(__file__).parent.parent / "schemas" / "keda-crds.yaml"


def problems(render: Render) -> list[str]:
    found = []
    for resource in render.resources + render.examples:
        if resource["apiVersion"].startswith("keda.sh/"):
            found += keda_problems(resource)
            continue
        if resource["apiVersion"].startswith("monitoring.coreos.com/"):
            # monitors.py
            continue
        for version in VERSIONS:
            problem = core_problem(json.dumps(resource), version)
            if problem:
                found.append(f"{title(resource)}: {problem} (Kubernetes {version})")
    return found


@functools.cache
def core_problem(resource: str, version: str) -> str | None:
    """Remembered, because most resources come several times."""
    try:
        kubernetes_validate.validate(json.loads(resource), version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return f"{'.'.join(str(item) for item in error.path)}: {error.message}"
    return None


def keda_problems(resource: dict) -> list[str]:
    schema = keda_schemas().get((resource["apiVersion"], resource["kind"]))
    if schema is None:
        return [f"{title(resource)}: KEDA has no {resource['apiVersion']} {resource['kind']}"]
    errors = jsonschema.Draft202012Validator(schema).iter_errors(resource)
    return [f"{title(resource)}: {error.json_path}: {error.message}" for error in errors]


@functools.cache
def keda_schemas() -> dict:
    schemas = {}
    for crd in yaml.safe_load_all(CRDS.read_text()):
        if not crd:
            continue
        for version in crd["spec"]["versions"]:
            schema = closed(version["schema"]["openAPIV3Schema"])
            # The API server's own, which a custom resource definition leaves open.
            schema["properties"]["metadata"] = {"type": "object"}
            schemas[f"{crd['spec']['group']}/{version['name']}", crd["spec"]["names"]["kind"]] = schema
    return schemas


def closed(schema):
    """The same, with no room for fields that it does not name: the API server would drop them without a word."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closer = {key: closed(value) for key, value in schema.items()}
    is_object_schema = "properties" in closer and isinstance(schema.get("properties"), dict)
    if is_object_schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        closer.setdefault("additionalProperties", False)
    return closer
