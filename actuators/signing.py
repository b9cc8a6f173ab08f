"""Signatures of actions: HMAC-SHA256 over canonical JSON with a key that control and agents share."""

import hashlib
import hmac
import os
import secrets
import stat
from pathlib import Path

import msgspec

from contracts.control import Action
from contracts.errors import ConfigError

KEY_BYTES = 32

_encoder = msgspec.json.Encoder(order="sorted")
_decoder = msgspec.json.Decoder(Action)


def canonical(action: Action) -> bytes:
    """Return the bytes that are signed: sorted JSON without `signature`, as it looks after one journey over the wire.

    Raises msgspec.ValidationError when the action is not one (a clock below 0, a share above 1).
    """
    unsigned = msgspec.structs.replace(action, signature="")
    return _encoder.encode(_decoder.decode(_encoder.encode(unsigned)))  # 30 and 30.0 must not differ


def sign(action: Action, key: bytes) -> Action:
    """Return `action` with its signature (hex)."""
    return msgspec.structs.replace(action, signature=_mac(action, key))


def verify(action: Action, key: bytes) -> bool:
    """Return whether the signature is that of `key`; takes the same time wherever it differs."""
    return hmac.compare_digest(_mac(action, key).encode(), action.signature.encode())


def _mac(action: Action, key: bytes) -> str:
    return hmac.new(key, canonical(action), hashlib.sha256).hexdigest()


def load_key(path: Path, *, make: bool = False) -> bytes:
    """Return the key in `path` (hex, 0600); with `make`, one that does not exist is made, once for all processes that ask.

    Raises ConfigError when it is absent, readable for others, or no key.
    """
    if make and not path.exists():
        _make(path)
    try:
        mode = path.stat().st_mode
        text = path.read_text().strip()
    except OSError as error:
        raise ConfigError(f"key {path}: {error.strerror}; copy the controller's key there (mode 0600)") from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(f"key {path}: mode {stat.S_IMODE(mode):04o} lets others read it; run chmod 600 {path}")
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) < KEY_BYTES:
        raise ConfigError(f"key {path}: needs at least {2 * KEY_BYTES} hexadecimal digits, has {len(text)} characters")
    return key


def _make(path: Path) -> None:
    """Write a new key beside `path` and link it there, so that nobody ever reads half a key or a second one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(KEY_BYTES) + "\n")
        try:
            path.hardlink_to(part)
        except FileExistsError:
            return  # another process was first: its key is the key
    except OSError as error:
        raise ConfigError(f"key {path}: cannot be made: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)
