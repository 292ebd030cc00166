"""CLIP's image towers, taken apart for dense reading: a feature for each patch instead of one for the image.

CLIP pools its last tokens: a class token attends to the patches, or a learnt query, or they are averaged. What a patch
would contribute is its value, or for an average the patch itself; sent on as the pooled vector is, it lands in the
text's space at every patch (MaskCLIP). One file a family; `of` knows which.
"""

from hicl.errors import HiclError
from hicl.pipeline.teacher.towers.tower import Tower, Visual


def of(visual: Visual, name: str) -> Tower:
    """The tower of an open_clip model. Raises `HiclError` where its architecture has no dense reading."""
    import open_clip

    if isinstance(visual, open_clip.transformer.VisionTransformer):
        from hicl.pipeline.teacher.towers import vit

        return vit.tower(visual, name)
    if isinstance(visual, open_clip.modified_resnet.ModifiedResNet):
        from hicl.pipeline.teacher.towers import resnet

        return resnet.tower(visual)
    if isinstance(visual, open_clip.timm_model.TimmModel):
        kind = type(visual.trunk).__name__
        if kind in ("VisionTransformer", "Eva"):
            from hicl.pipeline.teacher.towers import timm_vit

            return timm_vit.tower(visual, name)
        if kind in ("VisionTransformerRelPos", "SwinTransformer"):
            raise HiclError(f"--clip {name}: a {kind}, whose positions fit one size of images; use another model")
        from hicl.pipeline.teacher.towers import maps

        return maps.tower(visual)
    raise HiclError(f"--clip {name}: a {type(visual).__name__} can't be read densely; use a ViT or an RN model")


def short_side(visual: Visual) -> int:
    """Pixels of the shorter side of the images that a tower was trained on."""
    size = visual.image_size
    return size if isinstance(size, int) else min(size)
