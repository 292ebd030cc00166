"""What verifying costs the loader: batches of one scene with every check of the cache's reader, and with none.

    python tests/benchmarks/bench_checks.py                     rooms of ScanNet's size
    python tests/benchmarks/bench_checks.py --preset miniature  rooms of the miniature's size

The two take turns, scene by scene, on the same files in the system's memory; what is compared is the median of all
visits, and of the ratio of each pair.
"""

import argparse
import contextlib
import statistics
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[1] / "train"))
from bench_train import ROOMS
from synthetic_rooms import make_cache

from hicl.cache import reader, storage
from hicl.cache.opening import open_cache
from hicl.train import stream
from hicl.train.config import load
from hicl.train.kernels import warm_up
from hicl.train.taught import Needs


@contextlib.contextmanager
def unchecked():
    """Neither checksums nor values are looked at."""
    with (
        mock.patch.object(storage, "_checked", lambda data, file: 0),
        mock.patch.object(reader, "assert_values", lambda *_: None),
    ):
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=ROOMS, default="scannet")
    parser.add_argument("--rooms", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=12)
    options = parser.parse_args()
    config = load(options.preset, None, {"stream.workers": 0})
    with tempfile.TemporaryDirectory() as folder:
        path = make_cache(Path(folder) / "cache", train=options.rooms, val=0, **ROOMS[options.preset])
        warm_up()
        caches = {"with the checks": open_cache(path), "without": open_cache(path)}
        guards = {"with the checks": contextlib.nullcontext, "without": unchecked}
        source = stream.make_source(caches["without"], Needs("refined"), config.heads, 0, config.stream)
        times: dict[str, list[float]] = {name: [] for name in caches}
        for epoch in range(options.epochs + 1):
            for number in range(options.rooms):
                for name in sorted(caches, reverse=bool((epoch + number) % 2)):
                    with guards[name]():
                        start = time.perf_counter()
                        stream.make_batch(caches[name], source, epoch, [number])
                        times[name].append(time.perf_counter() - start)
        first = options.rooms  # of each, which also looks at the values
        for name, all_times in times.items():
            median = statistics.median(all_times[first:])
            print(f"{name:<16} {1000 * median:7.2f} ms a scene, {1 / median:6.1f} scenes/s and worker")
        pairs = list(zip(*times.values(), strict=True))
        ratio, once = (statistics.median(a / b for a, b in part) for part in (pairs[first:], pairs[1:first]))
        print(f"with over without: {ratio:.3f}; in the first epoch, which looks at the values too, {once:.3f}")


if __name__ == "__main__":
    main()
