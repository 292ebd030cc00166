"""Which scenes a run sees in which step: known ahead, from its seed alone."""

import numpy as np

from hicl.errors import HiclError


def epoch_order(n_scenes: int, batch: int, seed: int, epoch: int) -> list[list[int]]:
    """Scene numbers of each step of an epoch: a random order, cut into full batches.

    What doesn't fill a batch is left for another epoch: an inter-scene head needs scenes to relate. A cache of fewer
    scenes than a batch gives one smaller batch.
    """
    order = np.random.default_rng([seed, epoch]).permutation(n_scenes).tolist()
    batch = min(batch, n_scenes)
    return [order[i : i + batch] for i in range(0, n_scenes - batch + 1, batch)]


def plan(n_scenes: int, batch: int, seed: int, epochs: int, rank: int = 0, world: int = 1) -> list[tuple[int, list]]:
    """(epoch, scene numbers) of every step of a run, for one of `world` processes: each takes an equal part of a step.

    Raises:
        HiclError: a step's scenes can't be divided equally among the processes.
    """
    if min(batch, n_scenes) % world:
        raise HiclError(
            f"a step of {min(batch, n_scenes)} scenes can't be divided among {world} processes;"
            " set schedule.batch to a multiple (and have as many training scenes)"
        )
    part = min(batch, n_scenes) // world
    return [
        (epoch, scenes[rank * part : (rank + 1) * part])
        for epoch in range(epochs)
        for scenes in epoch_order(n_scenes, batch, seed, epoch)
    ]
