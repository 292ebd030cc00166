"""A step of each method of Table 1 and of each objective, its batch made, beside one of experiment I's in the same run.

OMP_NUM_THREADS=1 python tests/benchmarks/bench_rivals.py --cache work/miniature-cache [--preset miniature]
"""

import argparse
import statistics
import time

import torch

from hicl.cache.opening import open_cache
from hicl.train import distributed, fused, order, stream
from hicl.train.config import OBJECTIVES, load
from hicl.train.kernels import warm_up
from hicl.train.learner import Learner
from hicl.train.objectives import kind
from hicl.train.rivals import ALONE, ROWS
from hicl.train.runs import settings_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", required=True)
    parser.add_argument("--preset", default="miniature")
    parser.add_argument("--steps", type=int, default=20)
    args = parser.parse_args()
    torch.set_num_threads(1)
    warm_up(), fused.warm_up()
    cache, base = open_cache(args.cache), load(args.preset)
    text, group = torch.from_numpy(cache.text.copy()), distributed.start("cpu")
    runs = {}
    names = ["I", *(row.run for row in ROWS.values() if row.run not in ALONE), *OBJECTIVES]
    for name in dict.fromkeys(name for name in names if name != "hicl"):
        config = settings_of(base, name, 0)
        source = stream.make_source(cache, kind(config).needs(config), config.heads, 0, config.reading)
        runs[name] = source, Learner(config, text, group)
    # The last epochs, in which all of a method's terms are on.
    plan = order.plan(len(cache.scene_ids("train")), base.schedule.batch, 0, base.schedule.epochs)[-args.steps - 2 :]
    times = {name: [] for name in runs}
    for step in plan:
        for name, (source, learner) in runs.items():  # one after another, by processor time: others may be at work
            begin = time.process_time()
            learner.step(stream.make_batch(cache, source, *step))
            times[name].append(time.process_time() - begin)
    medians = {name: statistics.median(own[2:]) for name, own in times.items()}
    for name, seconds in medians.items():
        print(f"{name:<12}{1000 * seconds:8.0f} ms a step{seconds / medians['I']:8.2f} times experiment I's")


if __name__ == "__main__":
    main()
