"""Routing weights through HAProxy's runtime API: shares become weights of 0 to 256, read back from `show servers state`.

The declared state is what HAProxy's own configuration says (`set weight B/S 100%` goes back to it): equal, where it names none.
"""

import socket
from collections.abc import Mapping
from typing import Annotated

import msgspec

from actuators.values import outcome, outside
from contracts.control import Action, Outcome, Status, Weights
from contracts.errors import ActuationError, ConfigError

MAX_WEIGHT = 256
COMMANDS_AT_ONCE = 64
"""one line of commands must fit into HAProxy's buffer (tune.bufsize, 16 KiB by default)"""


class HaproxySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the runtime API listens (`stats socket ... level admin`), and what our names are called there."""

    address: Annotated[str, msgspec.Meta(min_length=1)]
    """path of a unix socket, or host:port"""
    backends: dict[str, str] = {}
    """endpoint -> backend; absent = the same name"""
    servers: dict[str, str] = {}
    """node -> server of the backend; absent = the same name"""
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=60)] = 2.0


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """A server of a backend: its weight now, and the one that the configuration gives it."""

    weight: int
    declared: int


class HaproxyWeights:
    """Sets the weights of the backends of one HAProxy."""

    Settings = HaproxySettings
    kind = "weights"

    def __init__(self, settings: HaproxySettings) -> None:
        """Raises ConfigError when the address is none. HAProxy itself may come up later."""
        self._settings = settings
        host, _, port = settings.address.rpartition(":")
        if not settings.address.startswith("/") and not (host and port.isdigit()):
            raise ConfigError(f"haproxy: address = {settings.address!r}: give /path/of/socket or host:port")
        self._endpoints: dict[str, str] = {}

    def read(self, action: Action) -> str:
        """Return the backend's weights, as text."""
        return _text(self._state(self._backend(action)))

    def apply(self, action: Action) -> Outcome:
        """Set the weights that differ and read all back. An instance that the shares leave out gets 0."""
        value = action.value
        if not isinstance(value, Weights):
            return outcome(action, "refused", reason=f"takes weights, not {type(value).__name__}")
        if reason := outside(value, action.bounds):
            return outcome(action, "refused", reason=reason)
        backend = self._backend(action)
        before = self._state(backend)
        wanted = {self._settings.servers.get(node, node): weight for node, weight in to_weights(value.shares).items()}
        if unknown := sorted(name for name, weight in wanted.items() if weight and name not in before):
            known = ", ".join(sorted(before))
            reason = f"backend {backend} has no server {', '.join(unknown)}; there are {known}"
            return outcome(action, "refused", before=_text(before), reason=reason)
        complete = {name: wanted.get(name, 0) for name in before}
        changed = [name for name, server in before.items() if server.weight != complete[name]]
        said = self._commands([f"set weight {backend}/{name} {complete[name]}" for name in changed])
        after = self._state(backend)
        missed = [name for name in after if after[name].weight != complete.get(name, 0)]
        return _judged(action, before, after, missed, said)

    def revert(self, action: Action) -> Outcome:
        """Go back to the weights of HAProxy's configuration."""
        backend = self._backend(action)
        before = self._state(backend)
        changed = [name for name, server in before.items() if server.weight != server.declared]
        said = self._commands([f"set weight {backend}/{name} 100%" for name in changed])
        after = self._state(backend)
        missed = [name for name, server in after.items() if server.weight != server.declared]
        found = _judged(action, before, after, missed, said)
        return found if missed else msgspec.structs.replace(found, status="reverted")

    def _backend(self, action: Action) -> str:
        endpoint = action.value.endpoint if isinstance(action.value, Weights) else action.target.partition("/")[2]
        return self._settings.backends.get(endpoint, endpoint)

    def _state(self, backend: str) -> dict[str, Server]:
        return parse_state(self._ask(f"show servers state {backend}"), backend)

    def _commands(self, commands: list[str]) -> str:
        """Send commands that say nothing on success; return what they said."""
        batches = [commands[i : i + COMMANDS_AT_ONCE] for i in range(0, len(commands), COMMANDS_AT_ONCE)]
        said = (self._ask(";".join(batch)) for batch in batches)
        return " ".join(" ".join(said).split())

    def _ask(self, line: str) -> str:
        """Send one line and return the whole answer. Raises ActuationError."""
        address = self._settings.address
        try:
            with self._connect() as connection:
                connection.sendall(line.encode() + b"\n")
                parts = []
                while part := connection.recv(65_536):
                    parts.append(part)
        except OSError as error:
            raise ActuationError(
                f"haproxy at {address}: {error.strerror or error}; it needs `stats socket {address} level admin`"
            ) from None
        return b"".join(parts).decode()

    def _connect(self) -> socket.socket:
        address, timeout_s = self._settings.address, self._settings.timeout_s
        if not address.startswith("/"):
            host, _, port = address.rpartition(":")
            return socket.create_connection((host, int(port)), timeout=timeout_s)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(timeout_s)
        try:
            connection.connect(address)
        except OSError:
            connection.close()
            raise
        return connection


def to_weights(shares: Mapping[str, float]) -> dict[str, int]:
    """Return integers of 0 to 256 in the proportions of `shares`, the largest at 256; a share above 0 never becomes 0."""
    largest = max(shares.values(), default=0.0)
    if largest <= 0:
        return dict.fromkeys(shares, 0)
    return {node: max(1, round(share / largest * MAX_WEIGHT)) if share > 0 else 0 for node, share in shares.items()}


def parse_state(text: str, backend: str) -> dict[str, Server]:
    """Return the servers in an answer to `show servers state`. Raises ActuationError with HAProxy's own words."""
    lines = text.strip().splitlines()
    header = next((line for line in lines if line.startswith("# ")), None)
    if header is None:
        raise ActuationError(f"haproxy, backend {backend}: {text.strip() or 'no answer'}")
    names = header[2:].split()
    rows = [dict(zip(names, line.split(), strict=False)) for line in lines]
    return {
        row["srv_name"]: Server(weight=int(row["srv_uweight"]), declared=int(row["srv_iweight"]))
        for row in rows
        if row.get("be_name") == backend
    }


def _judged(action: Action, before: Mapping[str, Server], after: Mapping[str, Server], missed: list[str], said: str) -> Outcome:
    if not missed:
        return outcome(action, "applied", before=_text(before), after=_text(after))
    reason = f"{', '.join(missed)} did not take the weight" + (f": {said}" if said else "")
    status: Status = "failed" if len(missed) == len(after) else "partly"
    return outcome(action, status, before=_text(before), after=_text(after), reason=reason)


def _text(state: Mapping[str, Server]) -> str:
    return ", ".join(f"{name}={server.weight}" for name, server in sorted(state.items()))
