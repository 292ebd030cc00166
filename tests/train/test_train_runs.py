import os
import signal
import subprocess
import sys

import pytest

from hicl.errors import HiclError
from hicl.train import runs
from hicl.train.config import Config


def killed(task: runs.Task) -> str:
    os.kill(os.getpid(), signal.SIGKILL)
    return ""


def test_a_run_that_was_killed_is_one_line(tmp_path):
    tasks = [runs.Task("cache", Config(), tmp_path / name, "cpu", False) for name in "abc"]
    with pytest.raises(HiclError, match=r"^table 2: a run was killed, likely for memory; use fewer --jobs \(now 2\)\."):
        list(runs.each_done("table 2", tasks, killed, 2, 10))


def test_the_parent_of_a_tables_runs_loads_no_pytorch():
    """It would hold half a gigabyte for nothing, beside each of the runs."""
    code = "import sys, hicl.commands, hicl.train.ablation\nprint([m for m in ('torch', 'numba') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
