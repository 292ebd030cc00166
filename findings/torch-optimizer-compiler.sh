#!/usr/bin/env bash
# PyTorch 2.13.0 on a CPU: what making an optimiser costs a process that compiles nothing.
#
# `import torch` leaves out torch._dynamo, the front end of torch.compile, and SymPy, to be quick. The first optimiser that
# is made, of whatever kind, imports both: Optimizer.add_param_group is kept from being compiled by a wrapper that asks
# torch._dynamo to disable it. (zero_grad and step are wrapped likewise.) So every process of data-parallel or side-by-side
# training holds them, as memory of its own that processes don't share. Seen, with byte code present:
#
#     import torch: 1.4 s, 220 MB
#     first parameter: +0.0 s, +1 MB
#     first optimiser: +1.0 s, +75 MB, with torch._dynamo, sympy
#     second optimiser: +0.0 s, +0 MB, with torch._dynamo, sympy
#
# (2.14.1 with CUDA: +1.1 s, +157 MB.)
# Neither TORCH_COMPILE_DISABLE=1 nor TORCHDYNAMO_DISABLE=1 changes that. The function inside the wrapper, as
# inspect.unwrap(Optimizer.add_param_group) finds it, does the same without either.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.1
cat > "$work/measure.py" <<'PYTHON'
import sys
import time


def held():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 1e6


last = [time.process_time(), held()]


def since(what, sign="+"):
    now = [time.process_time(), held()]
    took, grew = (new - old for new, old in zip(now, last))
    last[:] = now
    found = [name for name in ("torch._dynamo", "sympy") if name in sys.modules]
    print(f"{what}: {sign}{took:.1f} s, {sign}{grew:.0f} MB" + (f", with {', '.join(found)}" if found else ""))
    return took, grew, found


import torch

_, _, at_first = since("import torch", "")
parameter = torch.zeros(3, requires_grad=True)
since("first parameter")
torch.optim.SGD([parameter], 0.1)
took, grew, found = since("first optimiser")
torch.optim.AdamW([parameter], 0.1)
again, _, _ = since("second optimiser")
assert not at_first, "torch._dynamo is part of import torch"
assert len(found) == 2 and took > 0.3 and grew > 30 and again < took / 5, "an optimiser imports no compiler any more"
PYTHON
env -u PYTHONDONTWRITEBYTECODE "$work/venv/bin/python" "$work/measure.py" >/dev/null # makes byte code
"$work/venv/bin/python" "$work/measure.py"
echo "with TORCH_COMPILE_DISABLE=1 TORCHDYNAMO_DISABLE=1:"
TORCH_COMPILE_DISABLE=1 TORCHDYNAMO_DISABLE=1 "$work/venv/bin/python" "$work/measure.py"
"$work/venv/bin/python" - <<'PYTHON'
import inspect
import sys

import torch


class Bare(torch.optim.SGD):
    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)


Bare([torch.zeros(3, requires_grad=True)], 0.1)
assert "torch._dynamo" not in sys.modules
print("made by the function inside the wrapper: without torch._dynamo")
PYTHON
