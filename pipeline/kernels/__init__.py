"""The only numba code. One switchboard for the compiler's options, so that every kernel has the same semantics."""

from functools import partial

import numba

# No fastmath and no contraction: the sets depend on the last bit of a weight. Single-threaded: the pipeline runs one
# process a scene, and numba's threading layers are not safe to mix with that.
kernel = partial(numba.njit, cache=True, fastmath=False, nogil=True, error_model="numpy")
