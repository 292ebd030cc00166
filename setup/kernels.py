"""Compile numba's kernels while all is set up, and not in the first command that needs them."""

from hicl.pipeline.warmup import compile_kernels
from hicl.processes import compiling
from hicl.train import fused, kernels

compile_kernels()
with compiling(kernels):
    kernels.warm_up()
    fused.warm_up()
