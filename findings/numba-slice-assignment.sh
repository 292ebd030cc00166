#!/usr/bin/env bash
# numba 0.68.1 (llvmlite as it asks for, NumPy 2.4.6) compiles `a[:] = b[:]` many times as long as the loop that does the
# same, and to several times the machine code. Assigning an array to a slice compiles the error for shapes that differ,
# and that formats both shapes: numba's whole string formatting, integers to text and all, goes into each such kernel.
# On a cold cache this was a sixth of what some 60 kernels took to compile.
#
# Seen (the factors differ from machine to machine, here 35 and 7):
#   a slice takes more than 5 times the loop's time to compile: True
#   a slice takes more than 3 times the loop's machine code: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check numba==0.68.1 numpy==2.4.6
cat > "$folder/compile.py" <<'PY'
import sys
import time

import numba
import numpy as np


def by_slice(a, b):
    a[:] = b[:]


def by_loop(a, b):
    for i in range(len(a)):
        a[i] = b[i]


numba.njit(lambda x: x.sum())(np.zeros(4))  # what the first compilation of a process takes is no kernel's
seconds, code = {}, {}
for function in (by_loop, by_slice):
    compiled = numba.njit(function)
    start = time.process_time()
    compiled(np.zeros(4), np.ones(4))
    seconds[function] = time.process_time() - start
    code[function] = sum(map(len, compiled.inspect_asm().values()))
print(f"time {seconds[by_slice] / seconds[by_loop]:.0f}, code {code[by_slice] / code[by_loop]:.0f}", file=sys.stderr)
print("a slice takes more than 5 times the loop's time to compile:", seconds[by_slice] > 5 * seconds[by_loop])
print("a slice takes more than 3 times the loop's machine code:", code[by_slice] > 3 * code[by_loop])
PY
expected="a slice takes more than 5 times the loop's time to compile: True
a slice takes more than 3 times the loop's machine code: True"
found=$("$folder/venv/bin/python" "$folder/compile.py")
echo "$found"
[ "$found" = "$expected" ]
