"""All scenes below a folder, one after the other."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hicl.errors import HiclError
from hicl.pipeline import doctor
from hicl.pipeline.config import build
from hicl.pipeline.datasets import rgbd, scannet
from hicl.pipeline.doctor.verdict import Verdict
from hicl.pipeline.warmup import compile_kernels


def examined(
    folder: Path, given: dict[str, Any], say: Callable[[str], None] = lambda _: None
) -> Iterator[tuple[str, list[Verdict]]]:
    """(a scene's id, its verdicts) for each below a folder: a capture, captures, or ScanNet's layout.

    given: settings of an own scan, None for those that aren't. say: gets a line about what is passed over. Raises
    `HiclError`.
    """
    scenes: list[Any]
    if scannet.miniature_settings(folder) or (folder / "scans").is_dir():
        scenes = [scene for scene, _ in scannet.find_scenes(folder)[0]]
    else:
        source = rgbd.source(folder, build(rgbd.Settings, None, given))
        for note in source.notes:
            say(note)
        scenes = [scene for scene, _ in source.scenes]
    compile_kernels()
    for scene in scenes:
        try:
            surface = scene.points() if any(file.suffix.lower() == ".ply" for file in scene.point_files()) else None
        except HiclError as error:
            yield scene.id, [Verdict("surface", "fault", str(error)), *doctor.examine(scene)]
        else:
            yield scene.id, doctor.examine(scene, surface)
