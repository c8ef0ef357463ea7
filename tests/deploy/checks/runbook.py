"""The runbook's commands, run beside stand-ins for kubectl, kustomize and docker: applied over a Job that is there already, with a
migration that fails, and with each command failing in turn."""

import os
import re
import subprocess
import tempfile
from pathlib import Path

FILE = "README.md"
APPLY = "apply --kustomize"
# Remembers whether the Job is there. What it says of one that runs: nothing at first, then what has become of it.
KUBECTL = r"""
[[ "$*" == *"delete job freshet-migrate --ignore-not-found"* ]] && rm --force "$STATE/job"
if [[ "$*" == *"apply --kustomize"* ]]; then
    [[ ! -e $STATE/job ]] || { echo 'Job.batch "freshet-migrate" is invalid: field is immutable'; exit 1; }
    touch "$STATE/job"
fi
if [[ "$*" == *"get job freshet-migrate"* ]]; then
    [[ -e $STATE/job ]] || exit 1
    asked=$(grep --count 'get job' "$STATE/calls")
    ((asked < 20)) || exit 1
    ((asked < 2)) || echo "$OUTCOME"
fi
exit 0
"""
# Of each call a line; the one of the number FAILING fails.
STAND_IN = r"""#!/usr/bin/env bash
echo "${0##*/} $*" >>"$STATE/calls"
[[ $(wc --lines <"$STATE/calls") != "$FAILING" ]] || exit 1
"""
DONE, FAILED = "SuccessCriteriaMet Complete", "FailureTarget Failed"


def problems(deploy: Path) -> list[str]:
    text = (deploy / FILE).read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    functions = "".join(block for block in blocks if "fk() {" in block)
    applying = [block for block in blocks if APPLY in block]
    found = []
    if sum(block.count(APPLY) for block in applying) != text.count(APPLY):
        found.append(f"{FILE}: {APPLY} stands outside of the commands")
    if not applying or not any("migrated" in block for block in applying):
        found.append(f"{FILE}: no commands apply, or none waits for the migration")
    for block in applying:
        script = (functions if "fk " in block else "") + block
        title = re.sub(r"\s+", " ", block[block.index(APPLY) - 40 :])[:110]
        found += [f"{FILE}: …{title}…: {problem}" for problem in block_problems(deploy, script, "migrated" in block)]
    return found


def block_problems(deploy: Path, script: str, waits: bool) -> list[str]:
    found = []
    code, calls, said = run(deploy, script, DONE)
    if code != 0:
        return [f"ends with {code} where a Job is there already: {said}"]
    for number, call in enumerate(calls, 1):
        failed, then, _ = run(deploy, script, DONE, number)
        if failed == 0 or len(then) > number:
            found.append(f"goes on, or ends with 0, where this fails: {call}")
    if waits:
        failed, then, _ = run(deploy, script, FAILED)
        if failed == 0 or any("rollout resume" in call for call in then):
            found.append("goes on after a migration that failed")
        if not any("logs" in call and "freshet-migrate" in call for call in then):
            found.append("does not end with a migration that failed, or does not say what its pods said")
    return found


def run(deploy: Path, script: str, outcome: str, failing: int = 0) -> tuple[int, list[str], str]:
    """Exit code, what was called, and what was said."""
    with tempfile.TemporaryDirectory() as folder:
        state, tools = Path(folder) / "state", Path(folder) / "tools"
        state.mkdir()
        tools.mkdir()
        (state / "job").touch()
        (state / "calls").touch()
        for name in ("kubectl", "kustomize", "docker"):
            (tools / name).write_text(STAND_IN + (KUBECTL if name == "kubectl" else ""))
            (tools / name).chmod(0o755)
        (tools / "sleep").symlink_to("/bin/true")
        environment = {"PATH": f"{tools}:{os.defpath}", "STATE": str(state), "OUTCOME": outcome, "FAILING": str(failing),
                       "REGISTRY": "registry.example.com"}
        ended = subprocess.run(["bash", "-c", script], cwd=deploy.parent, env=environment, capture_output=True, text=True,
                               timeout=120)
        return ended.returncode, (state / "calls").read_text().splitlines(), (ended.stdout + ended.stderr).strip()
