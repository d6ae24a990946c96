"""Side-by-side timing in one process: A B A B ..., medians, and the ratio's spread."""

import importlib.metadata
import platform
import statistics
import time
import tracemalloc

import threadpoolctl


def compare(ours, peer, *, repeats=7, warmup=1, clock=time.perf_counter):
    """Time two callables in turn; return both lists of seconds, by the wall's clock."""
    for _ in range(warmup):
        ours()
        peer()
    times = ([], [])
    for _ in range(repeats):
        for function, seconds in zip((ours, peer), times, strict=True):
            start = clock()
            function()
            seconds.append(clock() - start)
    return times


def report(title, ours, peer, goal):
    """Print medians and the ratio ours / peer, pair by pair."""
    ratios = sorted(a / b for a, b in zip(ours, peer, strict=True))
    median = statistics.median(ratios)
    seconds = (
        f"ours {statistics.median(ours):.4f} s, peer {statistics.median(peer):.4f} s"
    )
    print(
        f"{title}\n  {seconds}, medians of {len(ours)}\n"
        f"  ratio {median:.4f} = 1/{1 / median:.1f} "
        f"[{ratios[0]:.4f}, {ratios[-1]:.4f}]; goal at most {goal}",
        flush=True,
    )


def peak_mib(function):
    """Return the peak of memory that Python and numpy allocate during a call."""
    tracemalloc.start()
    function()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 2**20


def describe_machine(*packages):
    """Print processor, threads of each BLAS, and versions."""
    print(f"Python {platform.python_version()}, {platform.machine()}, {_processor()}")
    for pool in threadpoolctl.threadpool_info():
        print(f"  {pool['internal_api']}: {pool['num_threads']} threads")
    for package in ("numpy", "scipy", "scikit-learn", *packages):
        print(f"  {package} {importlib.metadata.version(package)}")


def _processor():
    try:
        with open("/proc/cpuinfo") as lines:
            return next(ln.split(": ")[1].strip() for ln in lines if "model name" in ln)
    except (OSError, StopIteration):
        return platform.processor()
