"""Blocking calls on several devices at once, each with a time-out; a device that hangs holds up nobody else."""

import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

T = TypeVar("T")


class LaneTimeout(Exception):  # noqa: N818  (what it is: no answer in time)
    """A device did not answer in time, or is still busy with a call that did not."""


class _Call(Generic[T]):
    """One call on its way."""

    def __init__(self, call: Callable[[], T]) -> None:
        self.call = call
        self.done = threading.Event()
        self.result: T | Exception = LaneTimeout("not run")


class Lanes(Generic[T]):
    """One daemon thread per device, made at first use: its calls run one after the other, never two at once."""

    def __init__(self) -> None:
        self._queues: dict[int, queue.SimpleQueue[_Call[T]]] = {}
        self._stuck: dict[int, _Call[T]] = {}

    def run(self, calls: Mapping[int, Callable[[], T]], timeout_s: float) -> dict[int, T | Exception]:
        """Run one call per device in parallel; what a call raises is its result, LaneTimeout after `timeout_s`.

        While a call hangs, further calls on its device fail at once: nothing piles up behind it.
        """
        started: dict[int, _Call[T]] = {}
        results: dict[int, T | Exception] = {}
        for device, call in calls.items():
            stuck = self._stuck.get(device)
            if stuck is not None and not stuck.done.is_set():
                results[device] = LaneTimeout("an earlier call still hangs")
                continue
            self._stuck.pop(device, None)
            started[device] = _Call(call)
            self._lane(device).put(started[device])
        deadline = time.monotonic() + timeout_s
        for device, running in started.items():
            if running.done.wait(max(0.0, deadline - time.monotonic())):
                results[device] = running.result
            else:
                self._stuck[device] = running
                results[device] = LaneTimeout(f"no answer within {timeout_s:g} s")
        return results

    def _lane(self, device: int) -> "queue.SimpleQueue[_Call[T]]":
        if device not in self._queues:
            self._queues[device] = queue.SimpleQueue()
            threading.Thread(target=_work, args=(self._queues[device],), name=f"device {device}", daemon=True).start()
        return self._queues[device]


def _work(calls: "queue.SimpleQueue[_Call[T]]") -> None:
    while True:
        running = calls.get()
        try:
            running.result = running.call()
        except Exception as error:  # noqa: BLE001  (handed to the caller as the call's result)
            running.result = error
        running.done.set()
