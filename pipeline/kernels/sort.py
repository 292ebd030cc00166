"""A stable sort of 32-bit keys."""

import numpy as np

from hicl.pipeline.kernels import kernel


@kernel
def radix_order(keys):
    """keys u4 [N] -> i4 [N], their stable ascending order, 11 bits a pass.

    Key and number travel together in one word, so that every pass reads straight on and only its writes are scattered.
    """
    n = keys.shape[0]
    starts = np.zeros((3, 2048), np.int64)
    words, spare = np.empty(n, np.uint64), np.empty(n, np.uint64)
    for i in range(n):
        key = keys[i]
        words[i] = (np.uint64(key) << np.uint64(32)) | np.uint64(i)
        starts[0, key & np.uint32(2047)] += 1
        starts[1, (key >> np.uint32(11)) & np.uint32(2047)] += 1
        starts[2, key >> np.uint32(22)] += 1
    for p in range(3):
        start = starts[p]
        if n and start.max() == n:
            continue  # all keys agree in these bits
        total = 0
        for digit in range(2048):
            held = start[digit]
            start[digit] = total
            total += held
        shift = np.uint64(32 + 11 * p)
        for i in range(n):
            word = words[i]
            digit = (word >> shift) & np.uint64(2047)
            spare[start[digit]] = word
            start[digit] += 1
        words, spare = spare, words
    order = np.empty(n, np.int32)
    for i in range(n):
        order[i] = np.int32(words[i] & np.uint64(0xFFFFFFFF))
    return order
