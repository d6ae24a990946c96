"""Ctrl-C, which some functions of RDKit take for themselves and do not give back.

RDKit's searches for substructures, its InChI, tautomers and others listen for SIGINT
while they run, and go on listening: afterwards no KeyboardInterrupt comes any more, in
a notebook, a command or a server (rdkit issue 9381).
"""

import ctypes
import signal
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

__all__ = ["give_back_interrupts", "one_by_one"]

# Of C, so that they can be called in any thread.
_GET = ctypes.pythonapi.PyOS_getsig
_GET.argtypes, _GET.restype = [ctypes.c_int], ctypes.c_void_p
_SET = ctypes.pythonapi.PyOS_setsig
_SET.argtypes, _SET.restype = [ctypes.c_int, ctypes.c_void_p], ctypes.c_void_p
# Where Python itself listens; known once the main thread has been here.
_of_python: list[int | None] = []


def give_back_interrupts() -> None:
    """Let Python, or whoever it was by Python's account, listen for SIGINT again."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is None:  # none of Python's: there is nothing to go by
        return
    if not callable(handler):
        _SET(signal.SIGINT, int(handler))
    elif _of_python:
        if _GET(signal.SIGINT) != _of_python[0]:
            _SET(signal.SIGINT, _of_python[0])
    elif threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, handler)
        _of_python.append(_GET(signal.SIGINT))


Item = TypeVar("Item")


def one_by_one(items: Iterable[Item]) -> Iterator[Item]:
    """Yield each item, and give interrupts back when it is done with."""
    for item in items:
        yield item
        give_back_interrupts()


give_back_interrupts()
