"""The history from another process: the same port, over HTTP."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import polars as pl
import pyarrow as pa

from contracts.errors import HistoryError
from ingest.history import owners
from ingest.history.wire import to_json

TIMEOUT_S = 60.0
"""longer than the owner's own limit, so that its answer says what was wrong"""


def find_owner(state: Path | None) -> tuple[str, str]:
    """Return (url, token) of the owner in the folder `state`, or of the newest that lives on this machine.

    HistoryError names a dead one and what to do.
    """
    owner = owners.find(state)
    return owner.url, owners.token_of(owner)


class HttpHistory:
    """A `contracts.ports.HistoryReader` that asks an owner. May be shared by threads."""

    def __init__(self, url: str, token: str) -> None:
        """`url` and `token` as `find_owner` returns them."""
        self.url = url
        self._client = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=TIMEOUT_S, trust_env=False
        )

    def query(self, sql: str, params: Mapping[str, Any] | None = None) -> pl.DataFrame:
        """Run one SELECT with `$name` parameters. Raises HistoryError with one line."""
        return self._frame("POST", "/query", json={"sql": sql, "params": to_json(params or {})})

    def series(
        self, target: str, *, as_of: datetime, since: datetime, until: datetime | None = None, step_s: int = 300
    ) -> pl.DataFrame:
        """Long frame (ts, series, value), see `contracts.ports.HistoryReader`."""
        asked = {"target": target, "as_of": as_of.isoformat(), "since": since.isoformat(), "step_s": str(step_s)}
        return self._frame("GET", "/series", params=asked | ({"until": until.isoformat()} if until else {}))

    def close(self) -> None:
        """Leave."""
        self._client.close()

    def __enter__(self) -> "HttpHistory":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _frame(self, method: str, path: str, **asked: Any) -> pl.DataFrame:
        try:
            answer = self._client.request(method, path, **asked)
        except httpx.TimeoutException as error:
            raise HistoryError(f"the history at {self.url} did not answer within {TIMEOUT_S:g} s: ask for less") from error
        except httpx.HTTPError as error:
            raise HistoryError(f"the history at {self.url} does not answer ({error}): is coldaisle history running?") from error
        if answer.status_code != httpx.codes.OK:
            raise HistoryError(_why(answer))
        with pa.ipc.open_stream(answer.content) as reader:
            frame = pl.from_arrow(reader.read_all())
        assert isinstance(frame, pl.DataFrame)  # noqa: S101  (from_arrow of a table)
        return frame


def _why(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        return f"the history answered {answer.status_code}: {answer.text[:200]}"
