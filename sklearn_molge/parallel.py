"""Work in parallel: on a Dask cluster; and large objects sent to a worker once."""

import hashlib
import io
import pickle
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import IO

import cloudpickle
import numpy as np
from joblib.parallel import ParallelBackendBase, SequentialBackend

from sklearn_molge._utils.optional import import_optional

__all__ = ["DaskBackend"]

# Arrays of more bytes are sent once; smaller ones go with each task.
_LARGE = 1_000_000
_BYTES_OF_AN_OBJECT = 64
# Dask warns of what is sent by way of the scheduler, which is what we are here for.
_SEND_ANY_SIZE = {"distributed.admin.large-graph-warning-threshold": "1 PiB"}

_received_lock = threading.Lock()
# The last object that came to this process, by its key.
_last_received: tuple[str, object] | None = None


class DaskBackend(ParallelBackendBase):
    """Runs joblib's calls on a Dask cluster; a lost worker costs time, not the result.

    joblib has a backend of its own, ``parallel_config(backend="dask")``. It puts each
    argument of more than 1 kB on one worker; when that worker dies the argument is
    gone, and the whole call with it. This one leaves a copy with the scheduler, so that
    Dask can compute anew whatever was lost.

    Use it by ``joblib.parallel_config(backend=DaskBackend(client))``, around
    `cross_validate`, `GridSearchCV`,
    :class:`~sklearn_molge.model_selection.HyperoptSearchCV`,
    :func:`~sklearn_molge.evaluation.evaluate_study` and whatever else has `n_jobs`.

    Parameters
    ----------
    client : distributed.Client or None, default=None
        Of the cluster. None takes the current one.
    timeout : float, default=60
        Seconds to wait for a first worker.
    **options : dict
        Passed to ``client.submit`` with each task: ``resources={"GPU": 1}``,
        ``retries``, ``priority``, ``workers``, ``allow_other_workers``.

    Raises
    ------
    ImportError
        If distributed is not installed.
    ValueError
        If `client` is None and there is no current one.
    TimeoutError
        From the call, if there is no worker after `timeout`.

    See Also
    --------
    joblib.parallel_config : Chooses the backend.

    Notes
    -----
    Arrays of more than 1 MB are sent once, not with each task, wherever they are: also
    inside an estimator or a study. The workers pass them on to each other, and the
    scheduler keeps a copy until the call ends. In a task they are read-only, as
    joblib's memory maps are.

    ``n_jobs=1`` runs here; any other value takes all cores that the cluster has at
    that time, also if it is one. Parallel loops inside a task run one after another in
    its worker: give the outermost loop the cluster.

    A task that was lost with its worker is run again, on another; one that was lost
    more than 3 times (``distributed.scheduler.allowed-failures``) raises
    ``distributed.KilledWorker``. The user's own classes must be importable on the
    workers, or be defined in ``__main__``.

    Examples
    --------
    >>> from distributed import Client, LocalCluster  # doctest: +SKIP
    >>> from joblib import parallel_config
    >>> with (
    ...     Client(LocalCluster(n_workers=2)) as client,
    ...     parallel_config(backend=DaskBackend(client)),
    ... ):  # doctest: +SKIP
    ...     cross_validate(estimator, X, y, groups=groups, cv=cv)
    """

    supports_retrieve_callback = True
    default_n_jobs = -1

    def __init__(self, client=None, *, timeout: float = 60, **options):
        super().__init__()
        self.client = _current_client() if client is None else client
        self.timeout = timeout
        self.options = options
        self._running: set = set()
        self._sent: dict[object, tuple] = {}
        self._used: set[object] = set()
        self._lock = threading.Lock()

    # -- what joblib asks of a backend -----------------------------------------------

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return how many tasks run at a time: 1, or the cores of the cluster."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs == 1:
            return 1
        if not self.client.ncores():
            try:
                self.client.wait_for_workers(1, timeout=self.timeout)
            except TimeoutError as error:
                raise TimeoutError(
                    f"The Dask cluster has no worker after timeout={self.timeout} "
                    "seconds. Are they started, and do they reach the scheduler?"
                ) from error
        return max(2, sum(self.client.ncores().values()))  # joblib runs 1 in no worker

    def submit(self, func: Callable, callback: Callable | None = None):
        """Send a task; `callback` gets its future when it has ended."""
        content, futures = self._pack(func)
        with _dask().config.set(_SEND_ANY_SIZE):
            future = self.client.submit(
                _call, content, futures, pure=False, **self.options
            )
        with self._lock:
            self._running.add(future)

        def end(future) -> None:
            with self._lock:
                self._running.discard(future)
            if callback is not None:
                callback(future)

        future.add_done_callback(end)
        return future

    def retrieve_result_callback(self, out):
        """Return the result of a future that has ended, or raise its error."""
        return out.result()

    def get_nested_backend(self) -> tuple[ParallelBackendBase, int | None]:
        """Return what runs the loops inside a task: its own worker, in order."""
        return SequentialBackend(nesting_level=(self.nesting_level or 0) + 1), None

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Cancel what has not ended."""
        with self._lock:
            running, self._running = list(self._running), set()
        self.client.cancel(running)

    def stop_call(self) -> None:
        """Let go of data that were not needed: a next call may need the others."""
        with self._lock:
            self._sent = {k: v for k, v in self._sent.items() if k in self._used}
            self._used = set()

    def terminate(self) -> None:
        """Let go of the data: the cluster drops them."""
        with self._lock:
            self._sent, self._used = {}, set()

    @contextmanager
    def retrieval_context(self) -> Iterator[None]:
        """Free the thread of a worker that waits for other workers."""
        distributed = import_module("distributed")
        try:
            distributed.get_worker()
        except ValueError:
            yield
            return
        distributed.secede()
        try:
            yield
        finally:
            distributed.rejoin()

    # -- data ------------------------------------------------------------------------

    def _pack(self, func: Callable) -> tuple[bytes, list]:
        """Pickle a task without its large arrays; return also what stands for them."""
        file = io.BytesIO()
        pickler = _Pickler(file, self._send)
        pickler.dump(func)
        return file.getvalue(), pickler.futures

    def _send(self, array: np.ndarray):
        """Return the future of an array, which is sent if it was not yet."""
        with self._lock:
            key = _place(array)
            self._used.add(key)
            if key not in self._sent:
                plain = np.asarray(array) if isinstance(array, np.memmap) else array
                with _dask().config.set(_SEND_ANY_SIZE):
                    future = self.client.submit(
                        pickle.loads, cloudpickle.dumps(plain), pure=False
                    )
                self._sent[key] = array, future  # its place is not used again meanwhile
            return self._sent[key][1]


class _Pickler(cloudpickle.Pickler):
    """Pickles by value what has no importable name; large arrays are left to `send`."""

    def __init__(self, file: IO[bytes], send: Callable):
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self._send = send
        self.futures: list = []

    def persistent_id(self, obj: object) -> int | None:
        """Return the number of a large array among `futures`, None for the rest."""
        if not isinstance(obj, np.ndarray) or _size(obj) < _LARGE:
            return None
        self.futures.append(self._send(obj))
        return len(self.futures) - 1


class _Unpickler(pickle.Unpickler):
    """Puts the arrays where they were."""

    def __init__(self, file: IO[bytes], arrays: list[np.ndarray]):
        super().__init__(file)
        self._arrays = arrays

    def persistent_load(self, pid: int) -> np.ndarray:
        """Return an array that no task can change for the others."""
        array = self._arrays[pid].view()
        array.flags.writeable = False
        return array


def _call(content: bytes, arrays: list[np.ndarray]) -> object:
    return _Unpickler(io.BytesIO(content), arrays).load()()


def _size(array: np.ndarray) -> int:
    each = _BYTES_OF_AN_OBJECT if array.dtype.hasobject else array.itemsize
    return array.size * each


def _place(array: np.ndarray) -> object:
    """Return what two arrays share that are the same: views of the same memory."""
    if type(array) not in (np.ndarray, np.memmap):
        return id(array)
    start = array.__array_interface__["data"][0]
    return start, array.shape, array.strides, array.dtype.str


def _current_client():
    distributed = import_optional("distributed", extra="dask", needed_by="DaskBackend")
    try:
        return distributed.get_client()
    except ValueError as error:
        raise ValueError(
            "client must be a distributed.Client where there is no current one. Got "
            "None."
        ) from error


def _dask():
    return import_module("dask")


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
    >>> from sklearn_molge.parallel import SentOnce, received
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
    global _last_received
    with _received_lock:
        if _last_received is None or _last_received[0] != key:
            _last_received = key, cloudpickle.loads(payload.data)
        return _last_received[1]
