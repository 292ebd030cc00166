#!/usr/bin/env bash
# nuscenes-devkit 1.2.0 (numpy 1.26.4, shapely 2.0.7): a data set may name splits of its own in <version>/splits.json, and
# `get_scenes_of_split` finds their scenes; but lidarseg's evaluation of the same release looks its split up in the list
# of official ones only, so that a valid submission for one's own split can't be scored.
#
# Seen: "get_scenes_of_split: ['scene-own']", then "get_samples_in_eval_set: KeyError 'own_val'".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --no-deps nuscenes-devkit==1.2.0
"$folder/venv/bin/pip" install -q numpy==1.26.4 pyquaternion==0.9.9 cachetools==5.5.2 opencv-python-headless==4.11.0.86 \
    shapely==2.0.7 matplotlib scikit-learn tqdm pillow
cat > "$folder/find.py" <<'PY'
import json
import sys
from pathlib import Path

root = Path(sys.argv[1])
tables = {name: [] for name in (
    "category attribute visibility instance sensor calibrated_sensor ego_pose log scene sample sample_data"
    " sample_annotation map"
).split()}
tables["log"] = [{"token": "log", "logfile": "", "vehicle": "", "date_captured": "", "location": ""}]
tables["map"] = [{"token": "map", "log_tokens": ["log"], "category": "", "filename": ""}]
tables["scene"] = [{"token": "scene", "name": "scene-own", "log_token": "log", "nbr_samples": 1,
                    "first_sample_token": "sample", "last_sample_token": "sample", "description": ""}]
tables["sample"] = [{"token": "sample", "timestamp": 0, "prev": "", "next": "", "scene_token": "scene"}]
version = root / "v1.0-own"
version.mkdir(parents=True)
(root / "maps").mkdir()
for name, rows in tables.items():
    (version / f"{name}.json").write_text(json.dumps(rows))
(version / "splits.json").write_text(json.dumps({"own_val": ["scene-own"]}))

from nuscenes import NuScenes
from nuscenes.eval.lidarseg.utils import get_samples_in_eval_set
from nuscenes.utils.splits import get_scenes_of_split

known = NuScenes("v1.0-own", str(root), verbose=False)
print("get_scenes_of_split:", get_scenes_of_split("own_val", known))
try:
    print("get_samples_in_eval_set:", get_samples_in_eval_set(known, "own_val"))
except KeyError as error:
    print("get_samples_in_eval_set: KeyError", error)
PY
"$folder/venv/bin/python" "$folder/find.py" "$folder/root" | tee "$folder/said"
diff "$folder/said" - <<'END'
get_scenes_of_split: ['scene-own']
get_samples_in_eval_set: KeyError 'own_val'
END
