"""Numbers for Prometheus: requests, jobs and what waits. Labels never hold a name, a prompt or an id."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily

PARTS = (
    "adapters", "attacks", "attempts", "bring", "bulk", "care", "curation", "differences", "edits", "exports", "pairs",
    "pictures", "prompts", "quality", "reports", "reviewers", "shelves", "strengths", "tables", "take", "trials",
)  # fmt: skip
BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120)


class Metrics:
    """The studio's own registry."""

    def __init__(self, states: Callable[[], dict[str, float]]) -> None:
        """`states` tells the gauges when they are asked for, each "name" or "name{label}"."""
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "duo_requests", "Requests answered.", ["method", "part", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "duo_request_seconds", "Until the answer had ended.", ["part"], buckets=BUCKETS, registry=self.registry
        )
        self.states = states
        self.registry.register(self)

    def request(self, method: str, path: str, status: int, seconds: float) -> None:
        part = part_of(path)
        self.requests.labels(method if method in ("GET", "POST", "PUT", "HEAD") else "other", part, status).inc()
        if part != "stream":  # open as long as the page is
            self.seconds.labels(part).observe(seconds)

    def text(self) -> bytes:
        return generate_latest(self.registry)

    def collect(self) -> Iterable[GaugeMetricFamily]:
        families: dict[str, GaugeMetricFamily] = {}
        for name, value in self.states().items():
            base, _, label = name.partition("{")
            family = families.setdefault(
                base, GaugeMetricFamily(f"duo_{base}", base.replace("_", " "), labels=["state"] if label else [])
            )
            family.add_metric([label.rstrip("}")] if label else [], value)
        return families.values()


def part_of(path: str) -> str:
    """The part of the studio that a path belongs to, of a few."""
    if path.startswith(("/gradio_api/queue/data", "/gradio_api/heartbeat")):
        return "stream"
    pieces = path.strip("/").split("/")
    if pieces[0] == "studio" and len(pieces) > 1:
        return pieces[1] if pieces[1] in PARTS else "studio"
    return {"gradio_api": "events", "": "page", "healthz": "health", "metrics": "health"}.get(pieces[0], "files")
