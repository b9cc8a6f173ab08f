"""Asking many HTTP targets at once: a bounded pool, a time-out and a size limit each; what fails is a value."""

import ssl
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from math import ceil
from pathlib import Path
from typing import Generic, TypeVar

import httpx

from contracts.errors import ConfigError

T = TypeVar("T")
MAX_BODY_BYTES = 8 << 20


class TargetError(Exception):
    """A target could not be read. `status` is the HTTP status where there was one, else 0."""

    def __init__(self, reason: str, status: int = 0) -> None:
        super().__init__(reason)
        self.status = status


def make_client(*, parallel: int, verify_tls: bool = True, ca_file: str = "") -> httpx.Client:
    """Return a client for `parallel` threads. Proxies of the environment are not used, redirects not followed.

    Raises ConfigError when `ca_file` holds no certificates.
    """
    verify: ssl.SSLContext | bool = verify_tls
    if verify_tls and ca_file:
        try:
            verify = ssl.create_default_context(cafile=ca_file)
        except OSError as error:
            raise ConfigError(f"ca_file {ca_file!r}: no readable PEM certificates ({error}); name another file") from error
    limits = httpx.Limits(max_connections=parallel, max_keepalive_connections=parallel)
    return httpx.Client(verify=verify, limits=limits, trust_env=False)


def check_url(key: str, url: str) -> None:
    """Raise ConfigError unless `url` is an absolute http or https address."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ConfigError(f"{key} {url!r}: {error}; wanted is http(s)://host[:port][/path]") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ConfigError(f"{key} {url!r}: wanted is http(s)://host[:port][/path]")


def read_secret(key: str, file: str) -> str:
    """Return the file's first line, stripped; "" where no file is named. Raises ConfigError when there is none."""
    if not file:
        return ""
    try:
        lines = Path(file).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{key} {file!r}: cannot be read ({error}); it holds the secret as its first line") from error
    if not lines or not lines[0].strip():
        raise ConfigError(f"{key} {file!r}: is empty; it holds the secret as its first line")
    return lines[0].strip()


def fetch(client: httpx.Client, url: str, *, timeout_s: float, auth: tuple[str, str] | None = None) -> bytes:
    """GET `url` and return the body of a 200; anything else raises TargetError with a reason.

    `timeout_s` bounds the whole read, not only each packet, and MAX_BODY_BYTES its size.
    """
    deadline = time.monotonic() + timeout_s
    body = bytearray()
    try:
        with client.stream("GET", url, timeout=timeout_s, auth=auth) as response:
            if response.status_code != 200:
                raise TargetError(f"answered HTTP {response.status_code} on {httpx.URL(url).path}", response.status_code)
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise TargetError(f"sent more than {MAX_BODY_BYTES} bytes")
                if time.monotonic() > deadline:
                    raise TargetError(f"did not finish within {timeout_s:g} s")
    except httpx.TimeoutException as error:
        raise TargetError(f"did not answer within {timeout_s:g} s") from error
    except httpx.HTTPError as error:
        raise TargetError(f"{type(error).__name__}: {error}") from error
    return bytes(body)


class Crowd(Generic[T]):
    """Runs one job a target in a bounded pool. A job that outlives its call is not started twice."""

    def __init__(self, *, parallel: int, timeout_s: float) -> None:
        self._pool = ThreadPoolExecutor(max_workers=parallel, thread_name_prefix="targets")
        self._parallel = parallel
        self._timeout_s = timeout_s
        self._running: dict[str, Future[T]] = {}

    def ask(self, jobs: Mapping[str, Callable[[], T]]) -> dict[str, T | TargetError]:
        """Run `jobs` and return what each gave or why it gave nothing. Blocks about timeout_s per `parallel` jobs at most.

        Only TargetError becomes a value; any other exception of a job is a bug and raises.
        """
        late = {name for name, future in self._running.items() if not future.done()}
        started = {name: self._pool.submit(job) for name, job in jobs.items() if name not in late}
        self._running = {name: self._running[name] for name in late} | started
        wait(started.values(), timeout=self._timeout_s * ceil(len(jobs) / self._parallel) + 1.0)
        return {name: self._result(name, late) for name in jobs}

    def _result(self, name: str, late: set[str]) -> T | TargetError:
        future = self._running[name]
        if name in late or not future.done():
            return TargetError("is still busy with the last read")
        error = future.exception()
        if error is None:
            return future.result()
        if isinstance(error, TargetError):
            return error
        raise error

    def close(self) -> None:
        """Drop what has not started; safe to call twice."""
        self._pool.shutdown(wait=False, cancel_futures=True)
