import os
import re
import subprocess
import sys
from pathlib import Path


def test_the_gpu_s_script_runs_to_its_end_on_a_cpu():
    script = Path(__file__).parent / "benchmarks" / "gpu.py"
    words = [sys.executable, str(script), "--small", "--device", "cpu"]
    run = subprocess.run(words, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert run.returncode == 0, run.stderr
    # Against itself: equal in fp32, and the losses in bf16 others, but near.
    for network in ("MinkUNet", "SPVCNN"):
        losses = dict(re.findall(rf"{network} +(fp32|bf16): (\S+), ", run.stdout))
        assert float(losses["fp32"]) == 0 and 0 < float(losses["bf16"]) < 0.05
        assert re.search(rf"{network} +fp32: +\d+\.\d+ scenes/s", run.stdout)
    assert len(re.findall(r"all of ScanNet, .* min", run.stdout)) == 2
    assert run.stdout.splitlines()[-1].endswith("s in all")
