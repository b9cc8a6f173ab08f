"""Row power where no meter exists: an exporter that sees all servers of a row also publishes their sum, marked as such."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from contracts.errors import ConfigError
from contracts.ports import Collected, Exporter
from contracts.topology import Topology
from ingest.exporters.facility import ServerPower, newest, row_power


class RowSums:
    """Wraps an exporter of `server` rows."""

    def __init__(self, inner: Exporter, topology: Topology, rows: Sequence[str]) -> None:
        """`rows`: those to sum; ConfigError names one that the topology does not have."""
        there = {row.name for row in topology.rows}
        if unknown := sorted(set(rows) - there):
            raise ConfigError(f"exporters.row_sums: unknown row {unknown[0]!r}; there are {', '.join(sorted(there))}")
        self._inner = inner
        self.name, self.period_s = inner.name, inner.period_s
        nameplate_w = {hardware.name: hardware.max_power_w for hardware in topology.hardware}
        servers = [server for server in topology.servers if server.row in rows]
        self._row = {server.name: server.row for server in servers}
        self._assumed_w = {server.name: nameplate_w[server.hardware] for server in servers}
        self._known: Mapping[str, ServerPower] = {}

    def collect(self, now: datetime) -> Sequence[Collected]:
        """What the inner exporter read, and the sums; a silent server counts with its nameplate power."""
        read = list(self._inner.collect(now))
        for collected in read:
            if collected.topic == "server" and collected.rows():
                self._known = newest(self._known, collected)
        if self._known:
            read.append(row_power(self._known, self._row, now, assumed_w=self._assumed_w))
        return read

    def close(self) -> None:
        """Close the inner exporter."""
        self._inner.close()
