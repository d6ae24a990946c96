"""Remembered: what was computed last, each value once however many ask for it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

__all__ = ["Remembered"]

V = TypeVar("V")


class Remembered(Generic[V]):
    """The last values by their keys, for several threads.

    Who asks first computes a value, with no lock held; who asks for the same one in the
    meantime waits for it, and who asks for another does not. An error is told to all
    that wait, and not kept.

    Parameters
    ----------
    most : int
        How many values are kept.
    """

    def __init__(self, most: int):
        self._most = most
        self._known: OrderedDict[Hashable, Future[V]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, compute: Callable[[], V]) -> V:
        """Return the value of a key; `compute` is called if there is none."""
        with self._lock:
            future = self._known.get(key)
            is_first = future is None
            if future is None:
                future = self._known[key] = Future()
            self._known.move_to_end(key)
        if is_first:
            self._fulfil(key, future, compute)
        return future.result()

    def _fulfil(self, key: Hashable, future: Future[V], compute: Callable[[], V]):
        try:
            value = compute()
        except BaseException as error:
            with self._lock:
                del self._known[key]
            future.set_exception(error)
            return
        future.set_result(value)
        with self._lock:
            # What is not there yet is kept: others wait for it.
            there = [k for k, each in self._known.items() if each.done()]
            for k in there[: max(0, len(self._known) - self._most)]:
                del self._known[k]
