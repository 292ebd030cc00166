#!/usr/bin/env bash
# PyTorch 2.13.0 on a CPU: float32 matrix products on an AMD processor with AVX-512 of full width (Zen 5).
#
# torch.set_float32_matmul_precision("medium") is documented to trade exactness for speed: products inside in bfloat16,
# off by some thousandths. On such a processor it makes float32 products more than twice as fast, and rounds as float32
# does. By default ("highest") PyTorch leaves them to Intel's MKL, whose kernel for AMD uses half of AVX-512's width.
# "medium" leads to oneDNN, which uses all of it, and which takes up bfloat16 with AMX alone, as no AMD processor has.
# Seen on an EPYC of the fifth generation, one thread, 1024 x 512 x 2048 numbers of a normal distribution, with the root
# of the mean square of the error:
#
#     highest: 108 GFLOP/s, error 5e-06
#     medium: 251 GFLOP/s, error 9e-06
#     bfloat16 throughout: error 6e-02
#
# The other side: oneDNN takes some 10 microseconds a product, which MKL spends on 512 x 32 x 32, and the fused attention
# (scaled_dot_product_attention), which is many small products, becomes slower for small heads. On the fourth
# generation, which computes 512 bits in two halves, both libraries reach about 100 GFLOP/s.
set -euo pipefail
family=$(awk '/^cpu family/ { print $4; exit }' /proc/cpuinfo)
if ! grep -q AuthenticAMD /proc/cpuinfo || ! grep -q avx512f /proc/cpuinfo || [ "$family" -lt 26 ]; then
    echo "needs an AMD processor with AVX-512 of full width, as of Zen 5" >&2
    exit 2
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.1
OMP_NUM_THREADS=1 "$work/venv/bin/python" - <<'PYTHON'
import time

import torch

torch.manual_seed(0)
a, b = torch.randn(1024, 512), torch.randn(512, 2048)
exact = a.double() @ b.double()


def measured(precision):
    torch.set_float32_matmul_precision(precision)
    seconds = []
    for _ in range(50):
        start = time.perf_counter()
        product = a @ b
        seconds.append(time.perf_counter() - start)
    speed, error = 2 * 1024 * 512 * 2048 / min(seconds) / 1e9, (product - exact).square().mean().sqrt().item()
    print(f"{precision}: {speed:.0f} GFLOP/s, error {error:.0e}")
    return speed, error


slow, exactness = measured("highest")
fast, same = measured("medium")
rounded = ((a.bfloat16() @ b.bfloat16()).double() - exact).square().mean().sqrt().item()
print(f"bfloat16 throughout: error {rounded:.0e}")
assert fast > 1.6 * slow, "medium isn't that much faster any more"
assert same < 3 * exactness and exactness < rounded / 1000, "medium is less exact than highest"
PYTHON
