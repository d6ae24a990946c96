"""Where the time of a training step goes, and how busy the GPU is."""

import statistics
import threading
import time
from collections import defaultdict

import torch


class Stopwatch:
    """Seconds spent in functions, less those in other timed functions they call."""

    def __init__(self, device):
        self.on_gpu = torch.device(device).type == "cuda"
        self.seconds = defaultdict(float)
        self.inner = [0.0]

    def time(self, owner, attribute, name):
        """Replace a method of an object by a timed one."""
        function = getattr(owner, attribute)

        def timed(*args, **kwargs):
            start = self.now()
            self.inner.append(0.0)
            result = function(*args, **kwargs)
            elapsed = self.now() - start
            self.seconds[name] += elapsed - self.inner.pop()
            self.inner[-1] += elapsed
            return result

        setattr(owner, attribute, timed)

    def now(self):
        """Return the time at which all work that was begun is done."""
        if self.on_gpu:
            torch.cuda.synchronize()
        return time.perf_counter()

    def read(self):
        """Return the seconds of each part, and begin anew."""
        seconds, self.seconds = self.seconds, defaultdict(float)
        return seconds


def in_turn(functions, watch, repeats):
    """Call A B C A B C ...; return the seconds and the parts of each call."""
    seconds = [[] for _ in functions]
    parts = [[] for _ in functions]
    for i in range(repeats + 1):
        for function, ours, own_parts in zip(functions, seconds, parts, strict=True):
            start = watch.now()
            function()
            if i:  # the first round warms up
                ours.append(watch.now() - start)
                own_parts.append(watch.read())
            watch.read()
    return seconds, parts


def gpu_use(run, n_steps=20):
    """Return steps a second, and the mean utilisation that the driver reports.

    The latter is nan without the package nvidia-ml-py.
    """
    seen, done = [], threading.Event()

    def watch():
        while not done.wait(0.05):
            seen.append(torch.cuda.utilization())

    thread = threading.Thread(target=watch)
    try:
        torch.cuda.utilization()
        thread.start()
    except ModuleNotFoundError:
        seen.append(float("nan"))
    start = time.perf_counter()
    run(n_steps)
    torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    done.set()
    if thread.ident:
        thread.join()
    return n_steps / seconds, statistics.mean(seen)
