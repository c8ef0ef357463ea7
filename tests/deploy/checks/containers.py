"""The Dockerfile and the compose file, as far as they can be checked without an engine."""

import json
import re
import shutil
import subprocess
import tempfile
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import yaml

import fleet

ROOT = Path(".")
STAGES = {"producer": "producer", "worker": "worker", "freshet": "freshet"}
LABELS = ["title", "description", "version", "revision"]
# Of dclint's rules, those that are not followed: keys and services stand in an order to read them in, and what is built
# gets the name that it has elsewhere.
LEFT_OUT = ["services-alphabetical-order", "service-keys-order", "top-level-properties-order", "no-build-and-image"]


def problems(deploy: Path) -> list[str]:
    dockerfile, compose = deploy / "Dockerfile", deploy / "compose.yaml"
    return [
        *linted(["hadolint", str(dockerfile)], "Dockerfile"),
        *dockerfile_problems(dockerfile, deploy),
        *compose_lint(compose),
        *compose_problems(yaml.safe_load(compose.read_text())),
    ]


def linted(command: list[str], what: str) -> list[str]:
    ended = subprocess.run(command, capture_output=True, text=True)
    said = (ended.stdout + ended.stderr).strip()
    return [] if ended.returncode == 0 and not said else [f"{what}: {said or ended.returncode}"]


def version() -> str:
    return tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    text = re.sub(r"\\\n(\s*#.*\n)*", " ", dockerfile.read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return [(word.upper(), rest.strip()) for word, _, rest in (line.strip().partition(" ") for line in lines)]


def stages(dockerfile: Path) -> dict[str, list[tuple[str, str]]]:
    found, current = {}, None
    for word, rest in instructions(dockerfile):
        if word == "FROM":
            base, _, name = re.match(r"(\S+)( AS (\S+))?", rest).groups()
            current = found.setdefault(name or base, list(found.get(base, [])))
        elif current is not None:
            current.append((word, rest))
    return found


def dockerfile_problems(dockerfile: Path, deploy: Path) -> list[str]:
    found, built = [], stages(dockerfile)
    for stage, binary in STAGES.items():
        steps = built.get(stage, [])
        last = {word: rest for word, rest in steps}
        if not re.fullmatch(r"[1-9]\d*:[1-9]\d*", last.get("USER", "")):
            found.append(f"{stage}: USER is not a number other than root's")
        for word in ("ENTRYPOINT", "CMD"):
            if not is_exec_form(last.get(word, "")):
                found.append(f"{stage}: {word} is not in exec form")
        labels = " ".join(rest for word, rest in steps if word == "LABEL")
        found += [f"{stage}: no label {label}" for label in LABELS if f"org.opencontainers.image.{label}=" not in labels]
        if not any(word == "COPY" and f"/release/{binary} " in rest for word, rest in steps):
            found.append(f"{stage}: does not copy the binary {binary}")
    arguments = dict(rest.split("=", 1) for word, rest in instructions(dockerfile) if word == "ARG" and "=" in rest)
    toolchain = tomllib.loads((ROOT / "rust-toolchain.toml").read_text())["toolchain"]["channel"]
    for name, wanted in {"RUST_VERSION": toolchain, "VERSION": version()}.items():
        if arguments.get(name) != wanted:
            found.append(f"ARG {name} is {arguments.get(name)}, and not {wanted}")
    return found + context_problems(dockerfile, built) + stub_problems(built, deploy)


def is_exec_form(text: str) -> bool:
    try:
        return all(isinstance(word, str) for word in json.loads(text))
    except ValueError:
        return False


def copied(steps: list[tuple[str, str]]) -> list[tuple[list[str], str]]:
    """What is copied out of the context: sources and target."""
    copies = [rest.split() for word, rest in steps if word == "COPY" and "--from=" not in rest]
    copies = [[word for word in words if not word.startswith("--")] for words in copies]
    return [(words[:-1], words[-1]) for words in copies]


def context_problems(dockerfile: Path, built: dict) -> list[str]:
    ignore = dockerfile.with_name("Dockerfile.dockerignore").read_text().split("\n")
    kept = [line[1:] for line in ignore if line.startswith("!")]
    sources = {source.rstrip("/") for steps in built.values() for sources, _ in copied(steps) for source in sources}
    found = [f"COPY {source}: is not there" for source in sorted(sources) if not (ROOT / source).exists()]
    for source in sorted(sources):
        if not any(fnmatch(source, pattern) or source.startswith(pattern + "/") for pattern in kept):
            found.append(f"COPY {source}: Dockerfile.dockerignore keeps it out")
    return found


def stub_problems(built: dict, deploy: Path) -> list[str]:
    """Whether cargo reads the workspace as the layer of dependencies has it: all manifests, and a source for each target."""
    with tempfile.TemporaryDirectory() as folder:
        for sources, target in copied(built["dependencies"]):
            for source in sources:
                if (ROOT / source).is_file() and not target.startswith("/"):
                    place = Path(folder) / target / Path(source).name
                    place.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(ROOT / source, place)
        stubs = subprocess.run(["sh", str(deploy.resolve() / "stub-sources")], cwd=folder, capture_output=True, text=True)
        if stubs.returncode != 0:
            return [f"stub-sources: {stubs.stderr.strip()}"]
        # --locked: the lock file is the one of the workspace as a whole.
        command = ["cargo", "metadata", "--locked", "--offline", "--format-version", "1"]
        read = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if read.returncode != 0:
            return [f"the layer of dependencies: {read.stderr.strip()}"]
        targets = [target for package in json.loads(read.stdout)["packages"] if package["source"] is None
                   for target in package["targets"]]
        missing = [target["src_path"] for target in targets if not Path(target["src_path"]).exists()]
    return [f"the layer of dependencies: no {path}" for path in missing]


def compose_lint(compose: Path) -> list[str]:
    command = ["dclint", str(compose), "--formatter", "json", "--quiet", "--disable-rule", *LEFT_OUT]
    ended = subprocess.run(command, capture_output=True, text=True)
    try:
        messages = [message for file in json.loads(ended.stdout) for message in file["messages"]]
    except (json.JSONDecodeError, KeyError, TypeError):
        return [f"compose.yaml: dclint ended with {ended.returncode}: {(ended.stdout + ended.stderr).strip()[-500:]}"]
    return [f"compose.yaml:{m['line']}: {m['rule']}: {m['message']}" for m in messages if m["type"] == "error"]


def compose_problems(compose: dict) -> list[str]:
    found, services = [], compose["services"]
    for name, service in services.items():
        found += [f"{name}: {problem}" for problem in service_problems(services, name, service)]
    workers, limit = "FRESHET_LIMITS__WORKERS", services["worker"]["environment"]
    report, said = fleet.check(limit, "", ["--workers", limit[workers]])
    found += said
    if report is not None:
        for name, seconds in {"producer": "producer_s", "worker": "worker_s"}.items():
            if services[name]["stop_grace_period"] != f"{report['longest_stop'][seconds]:g}s":
                found.append(f"{name}: stop_grace_period is not {report['longest_stop'][seconds]:g}s")
    return found


def service_problems(services: dict, name: str, service: dict) -> list[str]:
    found = []
    if re.search(r"(:latest|/?[^:]+)$", service["image"].rsplit("/", 1)[-1]) and ":" not in service["image"]:
        found.append("its image has no version")
    for port in service.get("ports", []):
        if not str(port).startswith("127.0.0.1:"):
            found.append(f"port {port} is open to the network")
    waits = service.get("depends_on", {})
    for other in waits:
        condition = waits[other]["condition"] if isinstance(waits, dict) else "service_started"
        if other not in services:
            found.append(f"waits for {other}, which is not there")
        elif condition == "service_healthy" and "healthcheck" not in services[other]:
            found.append(f"waits for the health of {other}, which has no check of it")
    if "build" not in service:
        return found
    stage = service["build"]["target"]
    if service["image"] != f"{'freshet' if stage == 'freshet' else f'freshet-{stage}'}:{version()}":
        found.append(f"image {service['image']} is not of version {version()}")
    if not service.get("read_only") or service.get("cap_drop") != ["ALL"] or service.get("user") != "65532:65532":
        found.append("may do more than it has to")
    return found
