"""Large objects for joblib's workers: sent once instead of with every task."""

import hashlib
import threading

import cloudpickle
import numpy as np

__all__ = ["SentOnce", "received"]

_lock = threading.Lock()
# The last object that came to this process, by its key.
_last: tuple[str, object] | None = None


class SentOnce:
    """An object on its way to the workers of a ``joblib.Parallel``.

    Give `payload` and `key` to the function as arguments of their own, and let it call
    :func:`received`. joblib's process backends send an array of more than 1 MB once, by
    a memory map, and its Dask backend sends a large argument to each worker once; both
    would pickle an estimator again with every task. A process unpickles it once.

    Parameters
    ----------
    value : object
        What the workers need.

    Attributes
    ----------
    payload : ndarray of uint8
        The object, pickled.
    key : str
        Hash of `payload`.

    Examples
    --------
    >>> from joblib import Parallel, delayed
    >>> from sklearn_molge._utils.parallel import SentOnce, received
    >>> def add(payload, key, x):
    ...     return received(payload, key)["offset"] + x
    >>> sent = SentOnce({"offset": 10})
    >>> Parallel()(delayed(add)(sent.payload, sent.key, x) for x in range(3))
    [10, 11, 12]
    """

    def __init__(self, value: object):
        content = cloudpickle.dumps(value)
        self.payload = np.frombuffer(content, dtype=np.uint8)
        self.key = hashlib.blake2b(content, digest_size=16).hexdigest()


def received(payload: np.ndarray, key: str):
    """Return the object of a `SentOnce`, which this process unpickles once."""
    global _last
    with _lock:
        if _last is None or _last[0] != key:
            _last = key, cloudpickle.loads(payload.data)
        return _last[1]
