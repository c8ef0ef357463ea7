"""Checks `deploy`, then makes sure that the checks find what is broken. Exit code 1 if anything is wrong."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import collector
import containers
import controls
import fleet
import monitors
import policy
import rendering
import runbook
import schemas

CHECKS = {
    "schemas": schemas.problems,
    "policy": policy.problems,
    "checkov": policy.checkov_problems,
    "the fleet's own word": fleet.problems,
    "monitors": monitors.problems,
    "collector": collector.pod_problems,
}


def of_kubernetes(deploy: Path, left_out: str = "") -> list[str]:
    """Everything that is wrong with the manifests, but for what one of the checks would say."""
    try:
        renders = rendering.render_all(deploy)
    except rendering.CannotRender as error:
        return [str(error)]
    found = []
    for name, check in CHECKS.items():
        if name != left_out:
            for render in renders:
                found += [f"{name}: {render.name}: {problem}" for problem in check(render)]
    return found


def of_controlled(deploy: Path, control: controls.Control) -> list[str]:
    """What is said of a copy, by the checks that look at the file that was broken."""
    if control.file == collector.FILE:
        return collector.problems(deploy) + of_kubernetes(deploy, "checkov")
    if control.file == runbook.FILE:
        return runbook.problems(deploy)
    if not control.file.startswith(("kubernetes/", "prometheus/")):
        return containers.problems(deploy)
    # It takes seconds, and has nothing to say of most of them.
    return of_kubernetes(deploy, "" if control.needs_checkov() else "checkov")


def main() -> int:
    deploy = Path("deploy")
    found = of_kubernetes(deploy) + [f"containers: {problem}" for problem in containers.problems(deploy)]
    found += collector.problems(deploy) + runbook.problems(deploy)
    for problem in found:
        print(f"WRONG  {problem}")
    if found:
        return 1
    renders = rendering.render_all(deploy)
    for render in renders:
        kinds = sorted({resource["kind"] for resource in render.resources})
        print(f"right  {render.name}: {len(render.resources)} resources: {', '.join(kinds)}")
    print("right  Dockerfile, compose file, the collector's configuration and the runbook's commands")
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(lambda control: (control, control.missed(of_controlled)), controls.CONTROLS))
    for control, missed in outcomes:
        print(f"MISSED {control.name}: {missed}" if missed else f"found  {control.name}")
    failed = sum(1 for _, missed in outcomes if missed)
    print(f"{len(outcomes) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
