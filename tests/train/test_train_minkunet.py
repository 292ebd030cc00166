import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from hicl.errors import HiclError
from hicl.train import layers, minkunet, network
from hicl.train.config import PRESETS
from hicl.train.kernels import grid_shape
from hicl.train.minkunet import MinkUNet
from hicl.train.network import trunk_parameters
from hicl.train.spvcnn import SPVCNN

SMALL = dict(out_channels=6, stem=4, planes=(4, 6, 8, 10, 8, 6, 5, 5))


def _voxels(n: int = 300, extent: int = 20, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    rng = np.random.default_rng(seed)
    coords = np.unique(np.c_[rng.integers(0, 2, n), rng.integers(0, extent, (n, 3))], axis=0)
    coords = torch.from_numpy(rng.permutation(coords).astype(np.int32))
    return coords, torch.randn(len(coords), 3), grid_shape(coords[:, 1:].numpy())


class Dense:
    """The same network on dense grids by torch's own convolutions, with inactive cells held at zero."""

    def __init__(self, net: MinkUNet, coords: torch.Tensor, grid: list[int]):
        self.net, self.coords = net, coords.long()
        mask = torch.zeros(2, 1, *grid)
        mask[self.coords[:, 0], 0, *self.coords[:, 1:].T] = 1
        self.masks = [mask]
        for _ in range(4):
            self.masks.append(F.max_pool3d(self.masks[-1], 2))

    def norm(self, bn, x, level):
        active = self.masks[level][:, 0] > 0
        out = torch.zeros_like(x)
        rows = F.batch_norm(x.permute(0, 2, 3, 4, 1)[active], None, None, bn.weight, bn.bias, training=True)
        out.permute(0, 2, 3, 4, 1)[active] = rows
        return out

    def same(self, conv, x, level):
        return F.conv3d(x, conv.weight.permute(0, 4, 1, 2, 3), padding=1) * self.masks[level]

    def block(self, block, x, level):
        y = F.relu(self.norm(block.bn1, self.same(block.conv1, x, level), level))
        y = self.norm(block.bn2, self.same(block.conv2, y, level), level)
        if block.shortcut is not None:
            x = F.conv3d(x, block.shortcut[0].weight[:, :, None, None, None])
            x = self.norm(block.shortcut[1], x, level)
        return F.relu(y + x)

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        net = self.net
        x = torch.zeros(2, 3, *self.masks[0].shape[2:])
        x.permute(0, 2, 3, 4, 1)[tuple(self.coords.T)] = features
        x = F.relu(self.norm(net.stem_bn, self.same(net.stem, x, 0), 0))
        skips = []
        for level in range(4):
            skips.append(x)
            x = F.conv3d(x, net.down[level].weight.permute(0, 4, 1, 2, 3), stride=2)
            x = F.relu(self.norm(net.down_bn[level], x, level + 1))
            x = self.block(net.encoder[level], x, level + 1)
        for step in range(4):
            level = 3 - step
            x = F.conv_transpose3d(x, net.up[step].weight.permute(4, 0, 1, 2, 3), stride=2) * self.masks[level]
            x = F.relu(self.norm(net.up_bn[step], x, level))
            x = self.block(net.decoder[step], torch.cat([x, skips.pop()], 1), level)
        return net.head(x.permute(0, 2, 3, 4, 1)[tuple(self.coords.T)])


def test_sparse_network_equals_a_dense_one_in_values_and_gradients():
    torch.manual_seed(0)
    coords, features, grid = _voxels()
    net = MinkUNet(**SMALL)
    sparse = net(coords, features, 2, grid)
    target = torch.randn_like(sparse)
    names, parameters = zip(*net.named_parameters(), strict=True)
    ours = torch.autograd.grad((sparse * target).sum(), parameters)
    dense = Dense(net, coords, grid)(features)
    assert torch.allclose(sparse, dense, atol=1e-4)
    theirs = torch.autograd.grad((dense * target).sum(), parameters)
    for name, a, b in zip(names, ours, theirs, strict=True):
        assert torch.allclose(a, b, atol=2e-4 * max(1, b.abs().max().item())), name


def test_size_of_the_published_network():
    net = MinkUNet()
    assert trunk_parameters(net) == minkunet.PUBLISHED_TRUNK_PARAMETERS
    assert round(trunk_parameters(net) / 1e6, 2) == 8.01
    assert round(sum(p.numel() for p in net.parameters()) / 1e6, 2) == 8.06
    assert {m.momentum for m in net.modules() if isinstance(m, torch.nn.BatchNorm1d)} == {0.05}


def test_scenes_of_a_batch_do_not_touch_and_the_order_of_voxels_means_nothing():
    torch.manual_seed(0)
    coords, features, grid = _voxels()
    net = MinkUNet(**SMALL).eval()
    with torch.no_grad():
        both = net(coords, features, 2, grid)
        second = coords[:, 0] == 1
        alone = coords[second].clone()
        alone[:, 0] = 0
        assert torch.allclose(net(alone, features[second], 1, grid), both[second], atol=1e-5)
        order = torch.randperm(len(coords))
        assert torch.allclose(net(coords[order], features[order], 2, grid), both[order], atol=1e-5)


@pytest.mark.parametrize("kind", [MinkUNet, SPVCNN])
def test_inference_in_place_gives_what_norms_that_are_not_give(kind):
    torch.manual_seed(0)
    coords, features, grid = _voxels()
    net = kind(3, **SMALL)
    for _ in range(2):
        net(coords, features, 2, grid)  # running statistics other than 0 and 1
    net.eval()
    with_graph, before = net(coords, features, 2, grid), features.clone()
    with torch.no_grad():
        assert torch.allclose(net(coords, features, 2, grid), with_graph, rtol=1e-5, atol=1e-6)
    assert torch.equal(features, before)


@pytest.mark.parametrize("kind", [MinkUNet, SPVCNN])
def test_a_level_in_slabs_gives_what_it_gives_in_one_piece(kind, monkeypatch):
    torch.manual_seed(0)
    coords, features, grid = _voxels(2000, 40)
    net = kind(3, **SMALL).eval()
    with torch.no_grad():
        whole = net(coords, features, 2, grid)
        pieces = []
        monkeypatch.setattr(layers, "_SLAB", 100)
        cut = layers.slabs
        monkeypatch.setattr(layers, "slabs", lambda *how: [pieces.append(piece) or piece for piece in cut(*how)])
        assert torch.allclose(net(coords, features, 2, grid), whole, rtol=1e-5, atol=1e-6)
        assert len(pieces) > 5
        order = torch.from_numpy(layers.place_order(coords.numpy()))
        given = coords[order], features[order], 2, grid
        parts, at = list(net.trunk_parts(*given)), 0
        assert (len(parts) > 3) == (kind is MinkUNet)
        for rows, hidden in parts:
            assert (rows.start, rows.stop - rows.start) == (at, len(hidden))
            at = rows.stop
        assert at == len(coords)
        torch.testing.assert_close(torch.cat([hidden for _, hidden in parts]), net.trunk(*given))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 15)), max_size=60), st.integers(1, 20), st.integers(0, 5))
def test_slabs_hold_every_voxel_once_and_all_that_are_near(places, most, halo):
    place, rows = np.array(sorted(places), np.int32).reshape(-1, 2), []
    for own, near in layers.slabs(place, most, halo):
        rows += range(own.start, own.stop)
        within = set(range(near.start, near.stop))
        for scene, x in place[own]:
            beside = (place[:, 0] == scene) & (abs(place[:, 1] - x) <= halo)
            assert within >= set(np.flatnonzero(beside).tolist())
        last = place[own.stop - 1]  # whose plane is taken whole
        assert (place[own] != last).any(axis=1).sum() < most
    assert rows == list(range(len(place)))


def test_no_voxel_is_lost_at_an_odd_edge(monkeypatch):
    """Two voxels, each alone in its neighbourhood, must get the same feature; on an odd grid spconv forgets one."""
    monkeypatch.setattr(layers, "convolve", lambda layer, x: layer(x))  # as on a GPU
    torch.manual_seed(0)
    net = MinkUNet(**SMALL).eval()
    coords = torch.tensor([[0, 16, 0, 0], [0, 0, 0, 0]], dtype=torch.int32)
    with torch.no_grad():
        rounded = net(coords, torch.ones(2, 3), 1, grid_shape(coords[:, 1:].numpy()))
        odd = net(coords, torch.ones(2, 3), 1, [17, 16, 16])
    assert torch.allclose(rounded[0], rounded[1], atol=1e-6)
    assert not torch.allclose(odd[0], odd[1], atol=1e-5)


def test_the_miniature_is_the_same_network_in_narrow():
    net = network.build(PRESETS["miniature"], 96, torch.device("cpu"))
    assert len(net.encoder) == len(net.decoder) == 4 and net.head.out_features == 96


def test_an_spconv_that_crashes_beside_numpy_is_an_error_with_the_way_out(monkeypatch, tmp_path):
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\nkill -FPE $$\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    with pytest.raises(HiclError, match="spconv-cu126"):
        layers.assert_spconv_survives_numpy.__wrapped__()


@pytest.mark.parametrize("gpu", [False, True])
def test_spconv_describes_its_gpu_kernels_only_where_there_is_a_gpu(gpu):
    """Describing them takes longer than all else that `hicl predict` does for a room."""
    code = f"""
import sys, types, torch
torch.cuda.is_available = lambda: {gpu}
descriptions = types.ModuleType("spconv.algo")
descriptions.GEMM = descriptions.CONV = descriptions.GEMM_CPP = descriptions.CONV_CPP = None
sys.modules["spconv.algo"] = descriptions  # they would be made here
from hicl.train import layers
import spconv.core
assert bool(spconv.core.ALL_IMPGEMM_PARAMS) is bool(spconv.core.ALL_NATIVE_PARAMS) is {gpu}
"""
    subprocess.run([sys.executable, "-c", code], check=True)
