import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

TINY_TEXT = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
TINY_VISION = {
    "vit": {"image_size": 32, "patch_size": 8, "width": 32, "layers": 3, "head_width": 8},
    "resnet": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 64},
}


@pytest.fixture(autouse=True)
def products_are_as_before():
    """The precision of PyTorch's products is the process's: what one test leaves of it, the next ones compute by."""
    yield
    torch = sys.modules.get("torch")
    assert torch is None or torch.get_float32_matmul_precision() == "highest"


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory):
    """Of each kind a small open_clip model with all its numbers drawn at random: .config, .weights and .model."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    folder: Path = tmp_path_factory.mktemp("clip")
    made = {}
    for kind, vision in TINY_VISION.items():
        config = folder / f"tiny-{kind}-quickgelu.json"
        settings = {"embed_dim": 12, "quick_gelu": True, "vision_cfg": vision, "text_cfg": TINY_TEXT}
        config.write_text(json.dumps(settings))
        open_clip.add_model_config(config)
        model = open_clip.create_model(config.stem, load_weights=False).eval()
        random = torch.Generator().manual_seed(5)
        state = model.state_dict()
        for name, value in state.items():
            if value.is_floating_point() and name != "logit_scale" and "running_var" not in name:
                spread = 0.1 if value.ndim == 1 else value[0].numel() ** -0.5
                value.copy_(torch.randn(value.shape, generator=random) * spread)
                if name.endswith("weight") and value.ndim == 1:
                    value += 1
        weights = folder / f"tiny-{kind}.safetensors"
        save_file({name: value.contiguous().clone() for name, value in state.items()}, weights)
        made[kind] = SimpleNamespace(config=str(config), weights=str(weights), model=model, name=config.stem)
    return SimpleNamespace(**made)
