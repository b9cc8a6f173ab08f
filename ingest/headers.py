"""CloudEvents 1.0 headers, binary mode, as every record of ours carries them. Imports neither polars nor pyarrow."""

import os
from datetime import UTC, datetime

from contracts.schemas import SCHEMA_VERSION


def cloud_event(topic: str, source: str, wall: datetime, content_type: str = "application/json") -> dict[str, str]:
    """Return the headers of a record made at `wall` (aware UTC): its creation, from which freshness is measured."""
    return {
        "ce_specversion": "1.0",
        "ce_id": os.urandom(16).hex(),
        "ce_source": source,
        "ce_type": f"coldaisle.{topic}.v{SCHEMA_VERSION}",
        "ce_time": (wall if wall.tzinfo is UTC else wall.astimezone(UTC)).isoformat(),
        "schema_version": str(SCHEMA_VERSION),
        "content-type": content_type,
    }
