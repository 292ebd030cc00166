"""The notebook of docs/ runs from its first cell to its last, on a scan of a user's."""

import json
import sys
from pathlib import Path

import numpy as np
from plyfile import PlyData

sys.path.insert(0, str(Path(__file__).parent.parent / "docs"))
sys.path.insert(0, str(Path(__file__).parent / "pipeline"))
import notebook
import scans

DOCS = Path(notebook.__file__).parent


def test_from_a_capture_to_labelled_objects(tmp_path, monkeypatch):
    scans.write_scan(tmp_path / "my-scan")
    monkeypatch.chdir(tmp_path)
    content = json.loads((DOCS / "scan.ipynb").read_text())
    shown = [cell["outputs"] for cell in content["cells"] if cell["cell_type"] == "code"]
    assert any("image/png" in output.get("data", {}) for outputs in shown for output in outputs)  # as readers see it
    names = notebook.run(content)
    assert names["summary"].done == ["my-scan"] and len(names["labelled"].label) == 3 * 14 * 14
    label = PlyData.read("my-scan.ply")["vertex"]["label"]
    np.testing.assert_array_equal(label, names["labelled"].label)
    assert Path("my-scan.glb").stat().st_size > 1000
    faults = [verdict for verdict in names["verdicts"] if verdict.state == "fault"]
    assert not faults and "floors are within" in str(names["verdicts"])
