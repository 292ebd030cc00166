"""Kernel of `hicl.pipeline.weld`."""

import numpy as np

from hicl.pipeline.kernels import kernel


@kernel
def number_places(keys):
    """keys u4 [N, 3] -> (number of each row's distinct value i4 [N], first row of each value i4 [M]), by appearance.

    A hash table with open addressing; the mixing is splitmix64's finaliser (Steele, Lea & Flood, OOPSLA 2014).
    """
    n = len(keys)
    size = 16
    while size < 2 * n:
        size *= 2
    mask = np.uint64(size - 1)
    table = np.full(size, -1, np.int32)
    place, first = np.empty(n, np.int32), np.empty(n, np.int32)
    count = 0
    for i in range(n):
        h = np.uint64(0)
        for axis in range(3):
            h = (h ^ np.uint64(keys[i, axis])) * np.uint64(0xBF58476D1CE4E5B9)
            h ^= h >> np.uint64(27)
        h = (h * np.uint64(0x94D049BB133111EB)) >> np.uint64(20)
        slot = h & mask
        while True:
            other = table[slot]
            if other < 0:
                table[slot] = count
                place[i] = count
                first[count] = i
                count += 1
                break
            j = first[other]
            if keys[i, 0] == keys[j, 0] and keys[i, 1] == keys[j, 1] and keys[i, 2] == keys[j, 2]:
                place[i] = other
                break
            slot = (slot + np.uint64(1)) & mask
    return place, first[:count].copy()
