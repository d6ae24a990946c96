"""Side by side in one process: A B A B ..., medians, the ratio's spread, and memory."""

import importlib.util
import statistics
import sys
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor


def compare(
    what, ours, peer, options, *, against, sizes=None, goal=None, memory=True,
    warmup=1, new_thread=False, wall=False, **more,
):  # fmt: skip
    """Call two programs in turn, and return the record of their ratio.

    Parameters
    ----------
    what, against : str
        What ours is, and the name of the peer.
    ours, peer : callable
        Without parameters.
    options : Namespace
        Those of the runner: repeats, threads and device.
    sizes : dict, default=None
        Of the data.
    goal : float, default=None
        The ratio that was asked for.
    memory : bool, default=True
        Whether the peaks of what Python and numpy allocate are measured, in a further
        call.
    warmup : int, default=1
        Pairs that are not counted.
    new_thread : bool, default=False
        Whether each call runs in a thread of its own: this library keeps the molecules
        that a thread read last, and would not read them again.
    wall : bool, default=False
        Whether the wall's clock counts in any case: processes of workers compute.
    **more
        Further entries of the record.
    """
    call = in_new_thread if new_thread else _plainly
    now = time.perf_counter if wall else clock(options)
    both = [lambda: call(ours), lambda: call(peer)]
    seconds = in_turn(both, options, warmup=warmup, now=now)
    return ratio_record(
        what, *seconds, against=against, sizes=sizes, goal=goal,
        clock=now.__name__,
        **({"ours_mib": peak_mib(lambda: call(ours)),
            "peer_mib": peak_mib(lambda: call(peer))} if memory else {}),
        **more,
    )  # fmt: skip


def ratio_record(what, ours, peer, *, against, sizes=None, goal=None, **more):
    """Return the record of seconds that were measured in turn."""
    ratios = [a / b for a, b in zip(ours, peer, strict=True)]
    return {
        "what": what,
        "sizes": sizes or {},
        "peer": against,
        "ratio": spread(ratios),
        **({"goal": goal} if goal is not None else {}),
        "ours_s": spread(ours),
        "peer_s": spread(peer),
        **more,
    }


def in_turn(functions, options, *, warmup=1, now=None):
    """Call A B C A B C ...; return the seconds of each."""
    now = now or clock(options)
    seconds = [[] for _ in functions]
    for i in range(warmup + options.repeats):
        for function, own in zip(functions, seconds, strict=True):
            wait(options)
            start = now()
            function()
            wait(options)
            if i >= warmup:
                own.append(now() - start)
    return seconds


def clock(options):
    """Return CPU time where one thread computes, which others do not disturb."""
    alone = options.threads == 1 and not on_gpu(options)
    return time.process_time if alone else time.perf_counter


def on_gpu(options):
    return options.device.startswith("cuda")


def wait(options):
    """Wait until all that the GPU was asked for is done."""
    if on_gpu(options):
        sys.modules["torch"].cuda.synchronize()


def spread(values):
    """Return median, minimum and maximum."""
    return [float(f(values)) for f in (statistics.median, min, max)]


def peak_mib(function):
    """Return the peak of memory that Python and numpy allocate during a call."""
    tracemalloc.start()
    function()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 2**20


def missing(what, package, against=None):
    """Return the record of a peer that is not there, or None where it is."""
    if importlib.util.find_spec(package) is not None:
        return None
    return {"what": what, "peer": against or package,
            "skipped": f"{package} is not installed"}  # fmt: skip


def _plainly(function):
    return function()


def in_new_thread(function):
    """Call a function where no molecule is remembered."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(function).result()
