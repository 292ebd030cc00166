#!/usr/bin/env bash
# PyTorch 2.13.0 on a CPU with AVX-512: float32 products by oneDNN, asked for by set_float32_matmul_precision("medium"),
# of matrices whose number of rows differs from call to call, as that of voxels or tokens does from batch to batch.
#
# oneDNN compiles a program for each size and keeps 1,024 of them (ONEDNN_PRIMITIVE_CACHE_CAPACITY), so that a thousand
# sizes hold more than a gigabyte that no tensor accounts for. They also take many times as long as one size does over and
# over, which is what a benchmark repeats. By default, MKL does neither. Seen on an EPYC of the fifth generation, one
# thread, [rows, 48] times [48, 32], rows 12,000, then 11,000 to 11,999:
#
#     highest: one size 394 us; 1,000 sizes 382 us, -3 MB
#     medium: one size 193 us; 1,000 sizes 5019 us, +1476 MB
#
# With 2.14.1 they took 571 us and 581 MB.
set -euo pipefail
if ! grep -q avx512f /proc/cpuinfo; then
    echo "needs a processor with AVX-512" >&2
    exit 2
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.1
cat > "$work/sizes.py" <<'PYTHON'
import sys
import time

import torch

torch.set_num_threads(1)
torch.set_float32_matmul_precision(sys.argv[1])
many, few = torch.randn(12_000, 48), torch.randn(48, 32)


def held():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 1e6


def measured(sizes):
    before, start = held(), time.process_time()
    for rows in sizes:
        many[:rows] @ few
    return 1e6 * (time.process_time() - start) / len(sizes), held() - before


measured([12_000] * 50)
(one, _), (each, kept) = measured([12_000] * 1000), measured(range(11_000, 12_000))
print(f"{sys.argv[1]}: one size {one:.0f} us; 1,000 sizes {each:.0f} us, {kept:+.0f} MB")
by_default = sys.argv[1] == "highest"
assert (kept < 50) if by_default else (kept > 200), "memory that sizes hold has changed"
assert (each < 1.5 * one) if by_default else (each > 1.7 * one), "time that sizes take has changed"
PYTHON
"$work/venv/bin/python" "$work/sizes.py" highest
"$work/venv/bin/python" "$work/sizes.py" medium
