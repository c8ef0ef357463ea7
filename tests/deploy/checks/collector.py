"""The collector's configuration: what its pipeline names is there, failures are kept, and there is room for them."""

import tomllib
from pathlib import Path

import yaml

from rendering import Render

FILE = "kubernetes/components/collector/collector.yaml"
KINDS = ("receivers", "processors", "exporters")
# Of one refresh, each about a kilobyte.
SPANS = 10


def problems(deploy: Path) -> list[str]:
    try:
        configuration = yaml.safe_load((deploy / FILE).read_text())
    except yaml.YAMLError as error:
        return [f"collector.yaml: {error}"]
    found = []
    pipeline = configuration["service"]["pipelines"]["traces"]
    for kind in KINDS:
        there, named = set(configuration[kind]), set(pipeline[kind])
        found += [f"collector.yaml: {name} is none of its {kind}" for name in sorted(named - there)]
        found += [f"collector.yaml: {name} is in no pipeline" for name in sorted(there - named)]
    there, named = set(configuration.get("extensions", {})), set(configuration["service"].get("extensions", []))
    found += [f"collector.yaml: the extension {name} is not both there and named" for name in sorted(there ^ named)]
    policies = configuration["processors"].get("tail_sampling", {}).get("policies", [])
    kept = [policy.get("status_code", {}).get("status_codes") for policy in policies if policy["type"] == "status_code"]
    if ["ERROR"] not in kept:
        found.append("collector.yaml: failures are not kept")
    return found + room_problems(configuration["processors"], (deploy / "README.md").read_text())


def room_problems(processors: dict, runbook: str) -> list[str]:
    """Nothing is decided before a message may be published anew, and what is undecided until then has room."""
    sampling, found = processors["tail_sampling"], []
    wait, rate = seconds(sampling["decision_wait"]), sampling["expected_new_traces_per_sec"]
    defaults = tomllib.loads(Path("shared/freshet.toml").read_text())
    claim = seconds(defaults["scan"]["claim"])
    if wait < claim:
        found.append(f"collector.yaml: decides after {wait} s, before scan.claim ({claim} s) is over")
    undecided = rate * wait
    if sampling["num_traces"] < undecided:
        found.append(f"collector.yaml: num_traces is less than {rate} a second for {wait} s: {undecided}")
    if sampling["decision_cache"]["sampled_cache_size"] <= sampling["num_traces"]:
        found.append("collector.yaml: sampled_cache_size is not more than num_traces")
    mebibytes, limit = undecided * SPANS / 1024, processors["memory_limiter"]["limit_mib"]
    if mebibytes > 0.75 * limit:
        found.append(f"collector.yaml: {undecided} traces are {mebibytes:.0f} MiB, more than three quarters of limit_mib")
    said = f"{rate} traces a second", f"{mebibytes:.0f} MiB", f"{sampling['num_traces']:,} newer ones"
    found += [f"collector.yaml: the runbook does not say: {words}" for words in said if words not in runbook]
    return found


def seconds(duration: str) -> int:
    return int(duration[:-1]) * {"s": 1, "m": 60}[duration[-1]]


def pod_problems(render: Render) -> list[str]:
    """Where the configuration is deployed: it is mounted where it is looked for, and its ports are the pod's."""
    pods = {maker["metadata"]["name"]: template["spec"] for maker, template in render.pods()}
    if "collector" not in pods:
        return []
    pod, found = pods["collector"], []
    container = pod["containers"][0]
    path = Path(container["args"][0].removeprefix("--config="))
    mounts = {Path(mount["mountPath"]): mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume["configMap"]["name"] for volume in pod["volumes"]}
    config_map = render.find("ConfigMap", volumes.get(mounts.get(path.parent), ""))
    if config_map is None or path.name not in config_map["data"]:
        return [f"collector: {path} is in no ConfigMap"]
    configuration = yaml.safe_load(config_map["data"][path.name])
    endpoints = [configuration["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"],
                 configuration["extensions"]["health_check"]["endpoint"]]
    listening = {int(endpoint.rsplit(":", 1)[1]) for endpoint in endpoints}
    ports = {port["containerPort"] for port in container["ports"]}
    found += [f"collector: nobody listens on port {port}" for port in sorted(ports - listening)]
    host, port = configuration["exporters"]["otlp_grpc"]["endpoint"].split(":")
    service = render.find("Service", host)
    if service is None or int(port) not in [entry["port"] for entry in service["spec"]["ports"]]:
        found.append(f"collector: exports to {host}:{port}, which no Service is")
    limit = container["resources"]["limits"]["memory"]
    if int(limit.removesuffix("Mi")) <= configuration["processors"]["memory_limiter"]["limit_mib"]:
        found.append(f"collector: memory_limiter lets it have all of its {limit}")
    fleet = render.find("ConfigMap", pods["freshet-worker"]["containers"][0]["envFrom"][0]["configMapRef"]["name"])
    if float(fleet["data"].get("FRESHET_TELEMETRY__SAMPLE_RATIO", 1)) != 1:
        found.append("collector: is not sent all traces, so it cannot keep failures")
    if fleet["data"].get("FRESHET_TELEMETRY__OTLP_ENDPOINT") != f"http://collector:{min(listening)}":
        found.append("collector: Freshet sends its spans elsewhere")
    return found
