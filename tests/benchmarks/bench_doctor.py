"""The doctor's verdicts: on captures gone wrong, each made of several miniature rooms, and on sound ones.

    python tests/benchmarks/bench_doctor.py --root work/miniature --rooms 3 --sound 20 [CAPTURE …]

For each kind of fault: of how many rooms it is named, with the figure of the last one. Then false alarms, of so many of
the root's rooms as they are and of any other captures.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from captures_gone_wrong import CASES, of_scene, write

from hicl.pipeline import doctor
from hicl.pipeline.datasets import rgbd, scannet
from hicl.pipeline.datasets.scene import Scene
from hicl.pipeline.warmup import compile_kernels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="a miniature")
    parser.add_argument("--rooms", type=int, default=3, help="that each fault is made of")
    parser.add_argument("--sound", type=int, default=20, help="rooms that are looked at as they are")
    parser.add_argument("captures", type=Path, nargs="*", help="other sound captures")
    options = parser.parse_args()
    compile_kernels()
    rooms = [scene for scene, _ in scannet.find_scenes(options.root)[0]]
    bases = [of_scene(room) for room in rooms[: options.rooms]]
    right = 0
    for case in CASES:
        named, said = 0, ""
        for base in bases:
            with tempfile.TemporaryDirectory() as folder:
                (scene,) = rgbd.find_scenes(write(case.change(base), Path(folder) / "room"))
                wrong = doctor.faults(_examined(scene))
            named += [verdict.check for verdict in wrong] == [case.check] and case.remedy in str(wrong[0])
            said = "; ".join(str(verdict).replace(f"{folder}/", "") for verdict in wrong)
        right += named == len(bases)
        print(f"{named}/{len(bases)}  {case.name:<48}{said[:240]}", flush=True)
    print(f"{right} of {len(CASES)} kinds are named in each of {len(bases)} rooms")
    sound: list[Scene] = list(rooms[: options.sound])
    sound += [scene for capture in options.captures for scene in rgbd.find_scenes(capture)]
    alarms, seconds = 0, []
    for scene in sound:
        start = time.perf_counter()
        wrong = doctor.faults(_examined(scene))
        seconds.append(time.perf_counter() - start)
        alarms += bool(wrong)
        for verdict in wrong:
            print(f"false alarm in {scene.id}: {verdict}")
    print(f"{alarms} false alarms in {len(sound)} sound captures, {sum(seconds) / len(seconds):.1f} s each")


def _examined(scene: Scene) -> list[doctor.Verdict]:
    own = any(file.suffix.lower() == ".ply" for file in scene.point_files())
    return doctor.examine(scene, scene.points() if own else None)


if __name__ == "__main__":
    main()
