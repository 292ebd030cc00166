"""`hicl export`: a labelled point cloud for other programs."""

from pathlib import Path

import numpy as np

from hicl.cache.reader import open_cache


def export(cache_path: Path, scene_id: str | None, out: Path, run: Path | None, device: str) -> str:
    """Write a scene's points with a class each as a binary PLY, and return a line that says so.

    The class is what the voted pseudo-labels say (255 where no camera saw a point), or, with a trained run, what its
    network says. Properties: x y z in metres, red green blue of the class, label; the comments name the classes.
    Raises `HiclError`.
    """
    from plyfile import PlyData, PlyElement

    from hicl.pipeline.picture import class_colors

    cache = open_cache(cache_path)
    scene = cache.scene(scene_id or cache.scene_ids()[0])
    xyz = scene.read("points/xyz")
    if run is None:
        from hicl.pipeline.refine import majority

        label = majority(scene.read("pairs/refined"), scene.read("pairs/point"), len(xyz))
    else:
        from hicl.train import distributed, evaluate, inference

        model = inference.load(run, distributed.start(device).device)
        evaluate.assert_fits(model, cache)
        label = model.predict(xyz, scene.read("points/rgb")).label
    kinds = [(axis, "<f4") for axis in "xyz"] + [(color, "u1") for color in ("red", "green", "blue")]
    vertex = np.empty(len(xyz), [*kinds, ("label", "u1")])
    for column, axis in enumerate("xyz"):
        vertex[axis] = xyz[:, column]
    for column, color in enumerate(("red", "green", "blue")):
        vertex[color] = class_colors(cache.classes)[label][:, column]
    vertex["label"] = label
    names = [f"label {index} is {name}" for index, name in enumerate(cache.classes)] + ["label 255 is none"]
    out.parent.mkdir(parents=True, exist_ok=True)
    PlyData([PlyElement.describe(vertex, "vertex")], byte_order="<", comments=names).write(str(out))
    return f"{out}: {len(xyz):,} points of {scene.id}, {(label != 255).mean():.1%} with a class"
