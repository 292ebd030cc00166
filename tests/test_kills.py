"""A few of the kills that `stress/kills.py` deals out by the hundred."""

import subprocess
import sys
from pathlib import Path


def test_a_killed_export_is_done_again_with_the_same_bytes():
    command = [sys.executable, Path(__file__).parent / "stress/kills.py", "--seed", "5", "--kills", "export=6"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "export: seed 5: 6 killed" in done.stdout
