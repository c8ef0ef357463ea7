"""What the program says of the configuration that each pod would get: keys, queues, sums, and how long a stop may take."""

import json
import os
import subprocess
import tempfile
import tomllib
from pathlib import Path

from rendering import Render, title

# What each cannot do without.
URLS = {
    "freshet-migrate": {"database"},
    "freshet-producer": {"database", "rabbitmq"},
    "freshet-worker": {"database", "rabbitmq", "redis"},
}


def problems(render: Render) -> list[str]:
    found = []
    for maker, template in render.pods():
        name = maker["metadata"]["name"]
        if name in URLS:
            found += [f"{title(maker)}: {problem}" for problem in pod_problems(render, maker, template["spec"], URLS[name])]
    return found


def pod_problems(render: Render, maker: dict, pod: dict, urls: set[str]) -> list[str]:
    name = maker["metadata"]["name"]
    environment, found = environment_of(render, pod["containers"][0])
    text, problem = file_of(render, pod, environment)
    if problem:
        # The base has no Secrets.
        return found + ([] if render.name == "base" else [problem])
    missing = urls - {section for section, keys in tomllib.loads(text).items() if "url" in keys}
    found += [f"its file has no {section}.url" for section in sorted(missing)]
    scaled = render.of_kind("ScaledObject")
    scaled = scaled[0] if scaled and scaled[0]["spec"]["scaleTargetRef"]["name"] == name else None
    if maker["kind"] != "Deployment":
        return found + check(environment, text, [])[1]
    workers = ["--workers" if name == "freshet-worker" else "--producers", str(processes(maker, scaled))]
    report, said = check(environment, text, workers)
    found += said
    if report is None:
        return found
    found += stop_problems(maker, pod, report["longest_stop"], name)
    if scaled:
        found += scaling_problems(render, scaled, report)
    return found


def environment_of(render: Render, container: dict) -> tuple[dict[str, str], list[str]]:
    environment, found = {}, []
    for source in container.get("envFrom", []):
        reference = source["configMapRef"]["name"]
        config_map = render.find("ConfigMap", reference)
        if config_map is None:
            found.append(f"no ConfigMap {reference}")
        else:
            environment |= config_map["data"]
    environment |= {entry["name"]: entry["value"] for entry in container.get("env", [])}
    return environment, found


def file_of(render: Render, pod: dict, environment: dict[str, str]) -> tuple[str, str | None]:
    """The file that FRESHET_CONFIG names, out of the Secret that is mounted there."""
    path = Path(environment.get("FRESHET_CONFIG", ""))
    mounts = {Path(mount["mountPath"]): mount["name"] for mount in pod["containers"][0].get("volumeMounts", [])}
    volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
    volume = volumes.get(mounts.get(path.parent), {})
    secret = volume.get("secret", {}).get("secretName", "")
    data = render.find("Secret", secret)
    if data is None:
        return "", f"FRESHET_CONFIG ({path}) is in no Secret: {secret or 'nothing is mounted there'}"
    text = secret_value(data, path.name)
    return text or "", None if text else f"Secret {secret} has no {path.name}"


def secret_value(secret: dict, key: str) -> str | None:
    import base64

    encoded = secret.get("data", {}).get(key)
    return base64.b64decode(encoded).decode() if encoded else secret.get("stringData", {}).get(key)


def processes(maker: dict, scaled: dict | None) -> int:
    """How many run at once at most: all replicas, those that a rollout adds, and one that is ending."""
    replicas = scaled["spec"].get("maxReplicaCount", 100) if scaled else maker["spec"].get("replicas", 1)
    rollout = maker["spec"]["strategy"]["rollingUpdate"]
    return replicas + rollout["maxSurge"] + max(rollout["maxUnavailable"], 1)


def check(environment: dict[str, str], text: str, arguments: list[str]) -> tuple[dict | None, list[str]]:
    """`freshet check` with what a pod would get, and nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "freshet.toml"
        file.write_text(text)
        command = [os.environ["FRESHET_BINARY"], "check", "--report", "json", *arguments]
        variables = {**environment, "FRESHET_CONFIG": str(file)}
        ended = subprocess.run(command, env=variables, capture_output=True, text=True)
    if ended.returncode not in (0, 1) or not ended.stdout:
        return None, [f"is refused with {ended.returncode}: {ended.stderr.strip()}"]
    report = json.loads(ended.stdout)
    return report, list(report["problems"])


def stop_problems(maker: dict, pod: dict, longest: dict, name: str) -> list[str]:
    seconds = longest["worker_s" if name == "freshet-worker" else "producer_s"]
    grace, found = pod.get("terminationGracePeriodSeconds", 30), []
    if grace != seconds:
        found.append(f"terminationGracePeriodSeconds is {grace}; by its time-outs it ends within {seconds:g} s")
    if maker["spec"].get("minReadySeconds", 0) < grace:
        found.append("minReadySeconds is shorter than terminationGracePeriodSeconds: more than one may be ending at once")
    return found


def scaling_problems(render: Render, scaled: dict, report: dict) -> list[str]:
    spec, found = scaled["spec"], []
    triggers = [trigger["metadata"] for trigger in spec["triggers"]]
    # One is for dead letters, which nobody works on, and one for parked answers, which any number of workers takes up.
    declared = set(report["queues"]) - {"freshet.dead.v1", "freshet.parked.v1"}
    watched = {trigger.get("queueName") for trigger in triggers}
    found += [f"KEDA watches {queue}, which nobody declares" for queue in sorted(watched - declared)]
    found += [f"KEDA does not watch {queue}" for queue in sorted(declared - watched)]
    for trigger in triggers:
        if trigger.get("protocol") != "http" or trigger.get("mode") != "QueueLength":
            found.append(f"{trigger.get('queueName')}: only protocol http and mode QueueLength count what workers hold")
        if float(trigger.get("value", "0")) < 2 * report["concurrency"]:
            found.append(f"{trigger.get('queueName')}: value is less than twice what one worker holds at any load")
    fallback = spec.get("fallback", {})
    if fallback.get("behavior") != "currentReplicasIfHigher":
        found.append("fallback.behavior is not currentReplicasIfHigher")
    counts = [2, spec.get("minReplicaCount", 0), fallback.get("replicas", 0), spec.get("maxReplicaCount", 100)]
    if counts != sorted(counts):
        found.append("minReplicaCount, fallback.replicas and maxReplicaCount are not in this order, from 2 on")
    behavior = spec.get("advanced", {}).get("horizontalPodAutoscalerConfig", {}).get("behavior", {})
    if behavior.get("scaleDown", {}).get("stabilizationWindowSeconds", 0) < 300:
        found.append("scaleDown.stabilizationWindowSeconds is less than 300")
    for trigger in spec["triggers"]:
        found += authentication_problems(render, trigger.get("authenticationRef", {}).get("name", ""))
    return found


def authentication_problems(render: Render, name: str) -> list[str]:
    authentication = render.find("TriggerAuthentication", name)
    if authentication is None:
        return [f"no TriggerAuthentication {name}"]
    found = []
    for reference in authentication["spec"]["secretTargetRef"]:
        secret = render.find("Secret", reference["name"])
        value = secret_value(secret, reference["key"]) if secret else None
        if value is None:
            found.append(f"TriggerAuthentication {name}: no Secret {reference['name']} with {reference['key']}")
        elif not value.startswith(("http://", "https://")):
            found.append(f"TriggerAuthentication {name}: {reference['key']} is no URL of the management API")
    return found
