import subprocess
import sys

import pytest
import torch
from synthetic_rooms import TINY, make_cache

from hicl.train import optimisers
from hicl.train.config import OptimConfig

OPTIM = OptimConfig(lr=0.2, momentum=0.9, dampening=0.1, weight_decay=0.01, head_lr=0.05, head_weight_decay=0.1)
SGD = {"lr": 0.2, "momentum": 0.9, "dampening": 0.1, "weight_decay": 0.01}


@pytest.mark.parametrize(
    ("make", "pytorchs"),
    [
        (optimisers.sgd, lambda parameters: torch.optim.SGD(parameters, **SGD, fused=True)),
        (optimisers.adamw, lambda parameters: torch.optim.AdamW(parameters, lr=0.05, weight_decay=0.1, fused=True)),
    ],
)
def test_steps_are_pytorchs_own_to_the_bit(make, pytorchs):
    results = []
    for maker in (lambda parameters: make(parameters, OPTIM, torch.device("cpu")), pytorchs):
        torch.manual_seed(0)
        layer = torch.nn.Linear(5, 3)
        optimiser = maker(layer.parameters())
        for step in range(4):
            optimiser.param_groups[0]["lr"] = 0.1 / (1 + step)
            optimiser.zero_grad(set_to_none=True)
            assert layer.weight.grad is None
            layer(torch.randn(7, 5)).square().sum().backward()
            optimiser.step()
        assert layer.weight.requires_grad and layer.weight.is_leaf
        results.append([layer.weight, layer.bias, *optimiser.state[layer.weight].values()])
    assert all(torch.equal(*pair) for pair in zip(*results, strict=True))


def test_training_does_without_pytorchs_compiler(tmp_path):
    cache = make_cache(tmp_path / "cache", n_points=300, width=8)
    program = (
        "import sys\nfrom pathlib import Path\nfrom hicl.train import loop\nfrom hicl.train.config import load\n"
        f"config = load('miniature', None, {TINY | {'experiment': 'V', 'heads.layers': 1, 'schedule.epochs': 2}!r})\n"
        f"loop.train(Path({str(cache)!r}), config, Path({str(tmp_path / 'run')!r}))\n"
        "assert 'torch._dynamo' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    assert (tmp_path / "run" / "model.safetensors").exists()
