"""What the service counts, for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.5, 1, 5)
TOGETHER = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counters of one service; two services in a process do not mix theirs."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        of = self._registry
        self.requests = Counter("seqdiffrec_requests", "Requests answered.", ("method", "route", "status"), registry=of)
        told = "From request to answer."
        self.seconds = Histogram("seqdiffrec_request_seconds", told, ("route",), buckets=SECONDS, registry=of)
        self.in_flight = Gauge("seqdiffrec_requests_in_flight", "Requests under way.", registry=of)
        self.queued = Gauge("seqdiffrec_queued", "Tasks that wait.", ("worker",), registry=of)
        told = "Tasks done in one round."
        self.together = Histogram("seqdiffrec_batch", told, ("worker",), buckets=TOGETHER, registry=of)
        self.work = Counter("seqdiffrec_work_seconds", "Time spent in rounds.", ("worker",), registry=of)
        self.events = Counter("seqdiffrec_events", "Events written.", registry=of)
        self.reloads = Counter("seqdiffrec_reloads", "Models loaded or refused.", ("outcome",), registry=of)
        self.model = Gauge("seqdiffrec_model", "The model that serves.", ("run", "model", "hash"), registry=of)

    def shown(self) -> tuple[bytes, str]:
        """All figures as Prometheus reads them, and their media type."""
        return generate_latest(self._registry), "text/plain; version=0.0.4; charset=utf-8"
