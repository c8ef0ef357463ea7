"""Copies of `deploy`, each broken in one way, and what has to be said of it. A check that finds nothing is no check."""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

KEDA = "kubernetes/components/keda/scaling.yaml"
WORKER = "kubernetes/base/worker.yaml"
BASE = "kubernetes/base/kustomization.yaml"
COLLECTOR = "kubernetes/components/collector/collector.yaml"
RULES = "kubernetes/components/prometheus-rules/rules.yaml"
NETWORK = "kubernetes/overlays/production/network.yaml"
RUNBOOK = "README.md"
MONITOR = "kubernetes/components/prometheus-operator/pod-monitor.yaml"


@dataclass(frozen=True)
class Control:
    """One way to break it: this text in this file becomes that one, and all of these words are said."""

    name: str
    file: str
    old: str
    new: str
    words: tuple[str, ...]

    def needs_checkov(self) -> bool:
        return any(word.startswith("CKV") for word in self.words)

    def missed(self, problems: Callable[[Path, "Control"], list[str]]) -> str | None:
        """What was not found, if anything."""
        with tempfile.TemporaryDirectory() as folder:
            deploy = Path(folder) / "deploy"
            shutil.copytree("deploy", deploy)
            file = deploy / self.file
            text = file.read_text()
            if self.old not in text:
                return f"{self.file} no longer has: {self.old}"
            file.write_text(text.replace(self.old, self.new, 1))
            said = problems(deploy, self)
        missing = [word for word in self.words if not any(word in problem for problem in said)]
        return f"no word of {missing} in {said}" if missing else None


CONTROLS = [
    Control("a misspelt field of KEDA's", KEDA, "maxReplicaCount", "maxReplicasCount", ("maxReplicasCount",)),
    Control("a misspelt field of KEDA's, deep inside", KEDA, "stabilizationWindowSeconds: 300",
            "stabilisationWindowSeconds: 300", ("stabilisationWindowSeconds",)),
    Control("a misspelt field of a Deployment", WORKER, "terminationGracePeriodSeconds", "terminationGraceSeconds",
            ("terminationGraceSeconds",)),
    Control("a missing probe", WORKER, "          readinessProbe:\n            httpGet:\n              path: /readyz\n"
            "              port: monitoring\n            periodSeconds: 5\n            timeoutSeconds: 5\n"
            "            failureThreshold: 2\n", "", ("no readinessProbe",)),
    Control("a probe of another port", WORKER, "port: monitoring", "port: http", ("a port that is not there: http",)),
    Control("a wrong queue", KEDA, "freshet.refresh.shared.early.v1", "freshet.refresh.shared.early",
            ("watches freshet.refresh.shared.early,", "does not watch freshet.refresh.shared.early.v1")),
    Control("a depth without what workers hold", KEDA, "protocol: http", "protocol: amqp", ("only protocol http",)),
    Control("a wrong key of the configuration", BASE, "FRESHET_TELEMETRY__FORMAT", "FRESHET_TELEMETRY__FROMAT",
            ("telemetry.fromat",)),
    Control("a wrong key in a Secret", "kubernetes/overlays/production/secrets.example.yaml", "[redis]", "[redys]",
            ("redys", "no redis.url")),
    Control("more replicas than share the limits", KEDA, "maxReplicaCount: 8", "maxReplicaCount: 9",
            ("limits.workers (10)",)),
    Control("more connections than MySQL has", BASE, "FRESHET_DATABASE__MAX_CONNECTIONS=16",
            "FRESHET_DATABASE__MAX_CONNECTIONS=17", ("limits.database_connections", "238 in all")),
    Control("a grace period that is too short", WORKER, "terminationGracePeriodSeconds: 38",
            "terminationGracePeriodSeconds: 30", ("within 38 s",)),
    Control("a root file system that can be written", WORKER, "readOnlyRootFilesystem: true",
            "readOnlyRootFilesystem: false", ("root file system can be written", "CKV_K8S_22")),
    Control("a pod that runs as root", WORKER, "runAsUser: 65532", "runAsUser: 0", ("runAsUser is root's",)),
    Control("a policy for nobody", "kubernetes/base/network.yaml", "app.kubernetes.io/name: freshet-worker",
            "app.kubernetes.io/name: worker", ("selects no pod",)),
    Control("a producer that reaches Redis", NETWORK, "      app.kubernetes.io/name: freshet-worker",
            "      app.kubernetes.io/part-of: freshet",
            ("Deployment freshet-producer: may reach port 6379", "Job freshet-migrate: may reach port 6379")),
    Control("a worker that does not reach Redis", NETWORK, "port: 6379", "port: 6380",
            ("may reach port 6380", "may not reach port 6379")),
    Control("a producer that does not reach RabbitMQ", NETWORK, "[freshet-producer, freshet-worker]", "[freshet-worker]",
            ("Deployment freshet-producer: may not reach RabbitMQ",)),
    Control("a Job that takes its logs with it", "kubernetes/base/migrate.yaml", "restartPolicy: Never",
            "restartPolicy: OnFailure", ("nobody can read why",)),
    Control("an upgrade over a Job that is there", RUNBOOK, "fk delete job freshet-migrate --ignore-not-found &&\npaused", "paused",
            ("ends with 1 where a Job is there already",)),
    Control("an upgrade over a migration that failed", RUNBOOK, "migrated &&\n", "migrated;\n",
            ("goes on after a migration that failed",)),
    Control("a wait for a Job that does not see it fail", RUNBOOK, '*" Failed "*)', '*" Failure "*)',
            ("does not end with a migration that failed",)),
    Control("commands that go on after one that failed", RUNBOOK, "--ignore-not-found &&\nkubectl apply --kustomize",
            "--ignore-not-found\nkubectl apply --kustomize", ("where this fails: kubectl --namespace freshet delete job",)),
    Control("an apply beside the commands", RUNBOOK, "To try Freshet", "`kubectl apply --kustomize x`. To try Freshet",
            ("outside of the commands",)),
    Control("a misspelt field of a PodMonitor", MONITOR, "podMetricsEndpoints", "podMetricEndpoints",
            ("podMetricEndpoints",)),
    Control("a misspelt field of a PodMonitor, deep inside", MONITOR, "interval: 15s", "intervall: 15s", ("intervall",)),
    Control("a value that is none", MONITOR, "interval: 15s", "interval: 15 seconds", ("interval",)),
    Control("a monitor of another port", MONITOR, "port: monitoring", "port: metrics", ("a port that is not there: metrics",)),
    Control("a monitor of nobody", MONITOR, "freshet-worker]", "freshet-workers]", ("selects no pod: freshet-workers",)),
    Control("a misspelt field of a PrometheusRule", RULES, "annotations:", "anotations:", ("anotations",)),
    Control("a duration that is none", RULES, "for: 3m", "for: 3 minutes", ("for must match pattern",)),
    Control("rules that are others than in the plain file", RULES, "> 600", "> 60", ("are not those of prometheus/rules.yml",)),
    Control("rules that were changed in the plain file only", "prometheus/rules.yml", "> 600", "> 60",
            ("are not those of prometheus/rules.yml",)),
    Control("a Dockerfile in shell form", "Dockerfile", 'ENTRYPOINT ["/usr/local/bin/worker"]',
            "ENTRYPOINT /usr/local/bin/worker", ("worker: ENTRYPOINT is not in exec form",)),
    Control("a Dockerfile that runs as root", "Dockerfile", "USER 65532:65532", "USER root", ("USER is not a number",)),
    Control("a manifest that the layer of dependencies lacks", "Dockerfile", "COPY cli/Cargo.toml cli/\n", "",
            ("the layer of dependencies",)),
    Control("a collector that keeps no failures", COLLECTOR, "[ERROR]", "[OK]", ("failures are not kept",)),
    Control("a collector without its sampler", COLLECTOR, "memory_limiter, tail_sampling", "memory_limiter",
            ("tail_sampling is in no pipeline",)),
    Control("a collector that listens elsewhere than its pod", COLLECTOR, "0.0.0.0:13133", "0.0.0.0:13134",
            ("nobody listens on port 13133",)),
    Control("a collector that is sent a tenth", "kubernetes/components/collector/kustomization.yaml", "SAMPLE_RATIO=1",
            "SAMPLE_RATIO=0.1", ("cannot keep failures",)),
    Control("a collector that decides while a message may wait", COLLECTOR, "decision_wait: 5m", "decision_wait: 60s",
            ("before scan.claim",)),
    Control("a collector that throws out what it has not decided", COLLECTOR, "num_traces: 100000", "num_traces: 70000",
            ("num_traces is less than 250 a second for 300 s: 75000",)),
    Control("a collector that has no room for what it waits for", COLLECTOR, "limit_mib: 1024", "limit_mib: 900",
            ("75000 traces are 732 MiB",)),
    Control("a collector for more than the runbook says", COLLECTOR, "per_sec: 250", "per_sec: 200",
            ("does not say: 200 traces a second",)),
    Control("a collector that exports to nobody", COLLECTOR, "endpoint: jaeger:4317", "endpoint: jaeger:4318",
            ("which no Service is",)),
    Control("a compose file with a misspelt key", "compose.yaml", "healthcheck:", "healthchek:", ("/services/mysql",)),
    Control("a port that is open to the network", "compose.yaml", '"127.0.0.1:9090:9090"', '"9090:9090"',
            ("open to the network",)),
]
