"""The page's settings: where it listens, who may look, how fresh is fresh."""

from pathlib import Path
from typing import Annotated

import msgspec

from contracts.errors import ConfigError

Seconds = Annotated[float, msgspec.Meta(gt=0, le=3600)]
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class DashboardSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All defaults serve a page on loopback to whoever has an account on this machine."""

    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 8470
    """0 = a free one"""
    token_file: Path | None = None
    """file with the token (0600) that viewers must bring; needed for any other host than loopback"""
    refresh_s: Seconds = 1.0
    """wall time between two snapshots while somebody looks"""
    idle_s: Seconds = 10.0
    """the same while nobody looks"""
    stale_s: Seconds = 10.0
    """wall seconds after which telemetry, or the snapshot itself, is stale"""

    def token(self) -> str | None:
        """Read the token; ConfigError when it is needed and missing, unreadable, too short, or readable by others."""
        if self.token_file is None:
            if self.host not in LOOPBACK:
                raise ConfigError(f"dashboard.host = {self.host!r}: beyond loopback the page wants dashboard.token_file")
            return None
        try:
            mode = self.token_file.stat().st_mode
            token = self.token_file.read_text().strip()
        except OSError as error:
            raise ConfigError(f"dashboard.token_file {self.token_file}: {error.strerror}") from None
        if mode & 0o077:
            raise ConfigError(f"dashboard.token_file {self.token_file}: readable by others; chmod 600 it")
        if len(token) < 16:
            raise ConfigError(f"dashboard.token_file {self.token_file}: {len(token)} characters; a token has at least 16")
        return token
