"""The Kafka topics: format, partitions, retention. Made by the program at start."""

from typing import Literal

import msgspec


class Topic(msgspec.Struct, frozen=True, kw_only=True):
    """One topic. `retention_h` None = compacted (newest value per key is kept)."""

    name: str
    form: Literal["arrow", "json"]
    partitions: int = 1
    retention_h: float | None = 24.0


TOPICS: tuple[Topic, ...] = (
    Topic(name="gpu", form="arrow", partitions=4),
    Topic(name="server", form="arrow", partitions=4),
    Topic(name="facility", form="arrow"),
    Topic(name="requests", form="arrow", partitions=4),
    Topic(name="endpoints", form="arrow"),
    Topic(name="forecasts", form="arrow"),
    Topic(name="forecast_scores", form="arrow"),
    Topic(name="forecast_choices", form="arrow"),
    Topic(name="forecast_jobs", form="arrow"),
    Topic(name="forecast_absent", form="arrow"),
    Topic(name="decisions", form="json"),
    Topic(name="actions", form="json", partitions=4),
    Topic(name="brake", form="json"),
    Topic(name="outcomes", form="json"),
    Topic(name="alerts", form="json"),
    Topic(name="leadership", form="json"),
    Topic(name="rejected", form="json"),
    Topic(name="state", form="json", retention_h=None),
)
BY_NAME: dict[str, Topic] = {t.name: t for t in TOPICS}
TELEMETRY: tuple[str, ...] = ("gpu", "server", "facility", "requests", "endpoints")
