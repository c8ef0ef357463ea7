"""What every pod here keeps to: the restricted Pod Security Standard, probes, and selectors that select something."""

import json
import subprocess
import tempfile
from pathlib import Path

import yaml

from rendering import Render, title

# Of checkov's checks, those that we do not follow, and why.
LEFT_OUT = {
    "CKV_K8S_11": "a limit of CPU slows down exactly when there is work; requests share it out",
    "CKV_K8S_15": "a tag is a version and never moves",
    "CKV_K8S_43": "whoever has a registry pins digests with `kustomize edit set image`",
}
# https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
HOSTS = ["hostNetwork", "hostPID", "hostIPC"]
PROBES = ["startupProbe", "livenessProbe", "readinessProbe"]
PATHS = {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
# Where each of our parts may go, by port: DNS, MySQL and the collector; RabbitMQ, with TLS or without; Redis and providers.
COMMON = {53, 3306, 4317}
REACHED = {
    "freshet-migrate": COMMON,
    "freshet-producer": COMMON | {5671, 5672},
    "freshet-worker": COMMON | {5671, 5672, 6379, 443},
}


def problems(render: Render) -> list[str]:
    found = selector_problems(render) + egress_problems(render) + granted(render)
    for maker, template in render.pods():
        found += [f"{title(maker)}: {problem}" for problem in restricted_problems(template["spec"])]
        if maker["kind"] == "Deployment":
            found += [f"{title(maker)}: {problem}" for problem in probe_problems(maker, template["spec"])]
    for job in render.of_kind("Job"):
        if job["spec"]["template"]["spec"]["restartPolicy"] != "Never":
            found.append(f"{title(job)}: once it has failed nobody can read why: its pod is deleted")
    for namespace in render.of_kind("Namespace"):
        if namespace["metadata"]["labels"].get("pod-security.kubernetes.io/enforce") != "restricted":
            found.append(f"{title(namespace)}: does not enforce the restricted Pod Security Standard")
    return found


def restricted_problems(pod: dict) -> list[str]:
    found = [f"{key} is set" for key in HOSTS if pod.get(key)]
    for volume in pod.get("volumes", []):
        found += [f"volume {volume['name']}: {kind}" for kind in volume.keys() - VOLUMES - {"name"}]
    of_pod = pod.get("securityContext", {})
    for container in pod.get("initContainers", []) + pod["containers"]:
        name, own = container["name"], container.get("securityContext", {})
        both = {**of_pod, **own}
        wanted = {
            "runAsNonRoot is not true": both.get("runAsNonRoot") is True,
            "runAsUser is root's or not a number": isinstance(both.get("runAsUser"), int) and both["runAsUser"] > 0,
            "no seccomp profile": both.get("seccompProfile", {}).get("type") in ("RuntimeDefault", "Localhost"),
            "may become more than it is": own.get("allowPrivilegeEscalation") is False,
            "is privileged": not own.get("privileged"),
            "keeps capabilities": own.get("capabilities", {}) == {"drop": ["ALL"]},
            "root file system can be written": own.get("readOnlyRootFilesystem") is True,
            "has a host port": not any("hostPort" in port for port in container.get("ports", [])),
            "no request of CPU and memory": {"cpu", "memory"} <= container.get("resources", {}).get("requests", {}).keys(),
            "no limit of memory": "memory" in container.get("resources", {}).get("limits", {}),
        }
        found += [f"container {name}: {problem}" for problem, is_right in wanted.items() if not is_right]
    return found


def probe_problems(maker: dict, pod: dict) -> list[str]:
    found = []
    is_ours = maker["metadata"]["labels"].get("app.kubernetes.io/part-of") == "freshet"
    for container in pod["containers"]:
        ports = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
        for probe in PROBES if is_ours else PROBES[1:]:
            if probe not in container:
                found.append(f"container {container['name']}: no {probe}")
                continue
            port = container[probe].get("httpGet", container[probe].get("tcpSocket", {})).get("port")
            if port is not None and port not in ports:
                found.append(f"container {container['name']}: {probe} asks a port that is not there: {port}")
            if is_ours and container[probe].get("httpGet", {}).get("path") != PATHS[probe]:
                found.append(f"container {container['name']}: {probe} does not ask {PATHS[probe]}")
        if is_ours and ports.get("monitoring") != 9464:
            found.append(f"container {container['name']}: port monitoring is not 9464")
    return found


def granted(render: Render) -> list[str]:
    """Our pods ask the API server nothing."""
    kinds = ("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding")
    found = [f"{title(resource)}: grants something" for resource in render.of_kind(*kinds)]
    for maker, template in render.pods():
        if template["spec"].get("automountServiceAccountToken") is not False:
            found.append(f"{title(maker)}: gets a token for the API server")
    return found


def selector_problems(render: Render) -> list[str]:
    pods = [template["metadata"]["labels"] for _, template in render.pods()]
    wanted = []
    for resource in render.of_kind("PodDisruptionBudget"):
        wanted.append((resource, resource["spec"]["selector"]))
    for resource in render.of_kind("Service"):
        wanted.append((resource, {"matchLabels": resource["spec"]["selector"]}))
    for resource in render.of_kind("NetworkPolicy"):
        spec = resource["spec"]
        peers = [peer for rule in spec.get("egress", []) for peer in rule.get("to", [])]
        peers += [peer for rule in spec.get("ingress", []) for peer in rule.get("from", [])]
        wanted.append((resource, spec["podSelector"]))
        # Who is in another namespace is not ours to know.
        wanted += [(resource, peer["podSelector"]) for peer in peers if peer.keys() == {"podSelector"}]
    for maker, template in render.pods():
        for constraint in template["spec"].get("topologySpreadConstraints", []):
            wanted.append((maker, constraint["labelSelector"]))
    return [
        f"{title(resource)}: selects no pod: {selector}"
        for resource, selector in wanted
        if not any(selects(selector, labels) for labels in pods)
    ]


def egress_problems(render: Render) -> list[str]:
    """Each of our parts reaches what it needs and nothing else."""
    # The base has no services.
    if not render.of_kind("Namespace"):
        return []
    policies = [p["spec"] for p in render.of_kind("NetworkPolicy") if "Egress" in p["spec"]["policyTypes"]]
    found = []
    for maker, template in render.pods():
        name, labels = maker["metadata"]["name"], template["metadata"]["labels"]
        if name not in REACHED:
            continue
        its_own = [policy for policy in policies if selects(policy["podSelector"], labels)]
        if not its_own:
            found.append(f"{title(maker)}: no policy keeps it from anywhere")
        rules = [rule for policy in its_own for rule in policy.get("egress", [])]
        # A rule without ports is for all of them.
        reached = {port["port"] for rule in rules for port in rule.get("ports", [{"port": "any"}])}
        found += [f"{title(maker)}: may reach port {port}" for port in sorted(reached - REACHED[name], key=str)]
        # One of both is RabbitMQ's.
        needed = REACHED[name] - {5671, 5672}
        found += [f"{title(maker)}: may not reach port {port}" for port in sorted(needed - reached)]
        if REACHED[name] & {5671, 5672} and not reached & {5671, 5672}:
            found.append(f"{title(maker)}: may not reach RabbitMQ")
    return found


def selects(selector: dict, labels: dict) -> bool:
    def holds(expression: dict) -> bool:
        assert expression["operator"] == "In", expression
        return labels.get(expression["key"]) in expression["values"]

    by_labels = all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
    return by_labels and all(holds(expression) for expression in selector.get("matchExpressions", []))


def checkov_problems(render: Render) -> list[str]:
    # Without a namespace nothing is meant to be applied.
    if not render.of_kind("Namespace"):
        return []
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "manifest.yaml").write_text(yaml.safe_dump_all(render.resources))
        command = ["checkov", "--directory", folder, "--framework", "kubernetes", "--output", "json", "--quiet"]
        command += ["--compact", "--skip-download", "--skip-check", ",".join(LEFT_OUT)]
        ended = subprocess.run(command, capture_output=True, text=True)
    try:
        report = json.loads(ended.stdout)
    except json.JSONDecodeError:
        return [f"checkov ended with {ended.returncode} and no report: {ended.stderr.strip()[-500:]}"]
    if report["summary"]["passed"] == 0 or report["summary"]["parsing_errors"]:
        return [f"checkov could not read the manifests: {report['summary']}"]
    failed = report["results"]["failed_checks"]
    return sorted({f"{check['resource']}: {check['check_id']}: {check['check_name']}" for check in failed})
