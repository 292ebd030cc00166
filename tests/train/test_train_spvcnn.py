"""SPVCNN against plain loops: its size, its points between voxels, and the whole network on dense grids."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_train_minkunet import Dense, _voxels
from torch.nn import functional as F

from hicl.train import network, spvcnn
from hicl.train.config import PRESETS, Config, ModelConfig, StreamConfig
from hicl.train.minkunet import MinkUNet
from hicl.train.spvcnn import SPVCNN
from hicl.train.voxelpoints import Corners

SMALL = dict(in_channels=3, out_channels=6, stem=4, planes=(4, 6, 8, 10, 8, 6, 5, 5))


def _strided(points: np.ndarray, stride: int) -> np.ndarray:
    """The voxels of a stride that hold points, in some order."""
    cells = np.unique(np.c_[points[:, :1], points[:, 1:] // stride], axis=0)
    return np.random.default_rng(0).permutation(cells)


def _at_points(points: np.ndarray, cells: np.ndarray, x: np.ndarray, stride: int) -> np.ndarray:
    """Trilinear interpolation between the lower corners of voxels, point by point and corner by corner."""
    rows = {tuple(cell): row for row, cell in enumerate(cells)}
    out = np.zeros((len(points), x.shape[1]))
    for n, (scene, *place) in enumerate(points):
        total = 0.0
        for offset in itertools.product((0, 1), repeat=3):
            corner, weight = [scene], 1.0
            for p, o in zip(place, offset, strict=True):
                corner.append(p // stride + o)
                weight *= 1 - abs(p / stride - corner[-1])
            if tuple(corner) in rows:
                out[n] += weight * x[rows[tuple(corner)]]
                total += weight
        out[n] /= total
    return out


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 4, 16]), st.integers(1, 60), st.integers(1, 3))
def test_points_between_voxels_equal_a_loop_over_corners(seed, stride, n, scenes):
    rng = np.random.default_rng(seed)
    points = np.unique(np.c_[rng.integers(0, scenes, n), rng.integers(0, rng.integers(1, 50), (n, 3))], axis=0)
    points = rng.permutation(points)
    cells = _strided(points, stride)
    x, z = rng.normal(size=(len(cells), 5)), rng.normal(size=(len(points), 5))
    corners = Corners(torch.from_numpy(points), torch.from_numpy(cells), stride)
    expected = _at_points(points, cells, x, stride)
    assert np.allclose(corners.devoxelise(torch.from_numpy(x)).numpy(), expected, atol=1e-12)
    assert np.allclose(corners.devoxelise(torch.from_numpy(x).float()).numpy(), expected, atol=1e-5)
    if stride == 1:
        assert np.allclose(expected, x[[np.flatnonzero((cells == p).all(1))[0] for p in points]])
    means = corners.voxelise(torch.from_numpy(z)).numpy()
    for cell, mean in zip(cells, means, strict=True):
        inside = (np.c_[points[:, :1], points[:, 1:] // stride] == cell).all(axis=1)
        assert np.allclose(mean, z[inside].mean(axis=0), atol=1e-12)


def test_gradients_between_points_and_voxels():
    points = np.unique(np.random.default_rng(0).integers(0, (2, 9, 9, 9), (40, 4)), axis=0)
    cells = _strided(points, 4)
    corners = Corners(torch.from_numpy(points), torch.from_numpy(cells), 4)
    x = torch.randn(len(cells), 3, dtype=torch.float64, requires_grad=True)
    z = torch.randn(len(points), 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(corners.devoxelise, x) and torch.autograd.gradcheck(corners.voxelise, z)


class DensePoints(Dense):
    """The same network on dense grids: convolutions by torch's own, points by the loop above."""

    def blocks(self, blocks, x, level):
        for block in blocks:
            x = self.block(block, x, level)
        return x

    def branch(self, branch, z):
        linear, bn, _ = branch
        return F.relu(F.batch_norm(linear(z), None, None, bn.weight, bn.bias, training=True))

    def at_points(self, x, stride):
        """Interpolation as a matrix [points, cells], which has gradients: the loop applied to unit vectors."""
        points = self.coords.numpy()
        cells = _strided(points, stride)
        matrix = torch.from_numpy(_at_points(points, cells, np.eye(len(cells)), stride)).float()
        return matrix @ x.permute(0, 2, 3, 4, 1)[tuple(torch.from_numpy(cells).T)]

    def at_voxels(self, z, x, stride):
        points = self.coords.numpy()
        own = np.c_[points[:, :1], points[:, 1:] // stride]
        means = torch.zeros_like(x)
        for cell in np.unique(own, axis=0):
            means[cell[0], :, *cell[1:]] = z[torch.from_numpy((own == cell).all(axis=1))].mean(dim=0)
        return means

    def up(self, x, step, skips):
        net, level = self.net, 3 - step
        x = F.conv_transpose3d(x, net.up[step].weight.permute(4, 0, 1, 2, 3), stride=2) * self.masks[level]
        x = F.relu(self.norm(net.up_bn[step], x, level))
        return self.blocks(net.decoder[step], torch.cat([x, skips.pop()], 1), level)

    def __call__(self, features):
        net, at = self.net, tuple(self.coords.T)
        x = torch.zeros(2, 3, *self.masks[0].shape[2:])
        x.permute(0, 2, 3, 4, 1)[at] = features
        for conv, bn in zip(net.stem, net.stem_bn, strict=True):
            x = F.relu(self.norm(bn, self.same(conv, x, 0), 0))
        z0, skips = x.permute(0, 2, 3, 4, 1)[at], []
        for level in range(4):
            skips.append(x)
            x = F.conv3d(x, net.down[level].weight.permute(0, 4, 1, 2, 3), stride=2)
            x = F.relu(self.norm(net.down_bn[level], x, level + 1))
            x = self.blocks(net.encoder[level], x, level + 1)
        z1 = self.at_points(x, 16) + self.branch(net.points[0], z0)
        x = self.up(self.up(self.at_voxels(z1, x, 16), 0, skips), 1, skips)
        z2 = self.at_points(x, 4) + self.branch(net.points[1], z1)
        x = self.up(self.up(self.at_voxels(z2, x, 4), 2, skips), 3, skips)
        z3 = x.permute(0, 2, 3, 4, 1)[at] + self.branch(net.points[2], z2)
        return net.head(torch.cat([z1, z2, z3], dim=1))


def test_the_network_equals_a_dense_one_in_values_and_gradients():
    torch.manual_seed(0)
    coords, features, grid = _voxels(extent=36)
    net = SPVCNN(**SMALL)
    sparse = net(coords, features, 2, grid)
    target = torch.randn_like(sparse)
    names, parameters = zip(*net.named_parameters(), strict=True)
    ours = torch.autograd.grad((sparse * target).sum(), parameters)
    dense = DensePoints(net, coords, grid)(features)
    assert torch.allclose(sparse, dense, atol=1e-3)
    theirs = torch.autograd.grad((dense * target).sum(), parameters)
    for name, a, b in zip(names, ours, theirs, strict=True):
        assert torch.allclose(a, b, atol=2e-3 * max(1, b.abs().max().item())), name


def _published(channels: int) -> int:
    """The number of the trunk's weights, from CLIP2Scene's widths; norms have two a channel."""
    c0, c1, c2, c3, c4, c5, c6, c7, c8 = 32, 32, 64, 128, 256, 256, 128, 96, 96

    def conv(kernel, inputs, outputs):
        return kernel * inputs * outputs + 2 * outputs

    def block(inputs, outputs):
        shortcut = conv(1, inputs, outputs) if inputs != outputs else 0
        return conv(27, inputs, outputs) + conv(27, outputs, outputs) + shortcut

    total = conv(27, channels, c0) + conv(27, c0, c0)
    for inputs, outputs in ((c0, c1), (c1, c2), (c2, c3), (c3, c4)):
        total += conv(8, inputs, inputs) + block(inputs, outputs) + block(outputs, outputs)
    for inputs, outputs, skip in ((c4, c5, c3), (c5, c6, c2), (c6, c7, c1), (c7, c8, c0)):
        total += conv(8, inputs, outputs) + block(outputs + skip, outputs) + block(outputs, outputs)
    for inputs, outputs in ((c0, c4), (c4, c6), (c6, c8)):
        total += inputs * outputs + outputs + 2 * outputs  # with a bias
    return total


def test_size_of_the_published_network():
    net = SPVCNN()
    assert network.trunk_parameters(net) == spvcnn.PUBLISHED_TRUNK_PARAMETERS == _published(1)
    assert round(network.trunk_parameters(net) / 1e6, 2) == 21.77
    assert round(sum(p.numel() for p in net.parameters()) / 1e6, 2) == 22.02
    assert net.head.in_features == 480


def test_the_order_of_voxels_and_the_other_scene_mean_nothing():
    torch.manual_seed(0)
    coords, features, grid = _voxels(extent=40)
    net = SPVCNN(**SMALL).eval()
    with torch.no_grad():
        both = net(coords, features, 2, grid)
        second = coords[:, 0] == 1
        alone = coords[second].clone()
        alone[:, 0] = 0
        assert torch.allclose(net(alone, features[second], 1, grid), both[second], atol=1e-5)
        order = torch.randperm(len(coords))
        assert torch.allclose(net(coords[order], features[order], 2, grid), both[order], atol=1e-5)


@pytest.mark.parametrize("offset", [16, 48])
def test_a_shift_by_whole_cells_of_the_coarsest_level_changes_nothing(offset):
    torch.manual_seed(0)
    coords, features, _ = _voxels(extent=30)
    net = SPVCNN(**SMALL).eval()
    moved = coords + torch.tensor([0, offset, 0, offset], dtype=torch.int32)
    with torch.no_grad():
        assert torch.allclose(net(coords, features, 2, [80] * 3), net(moved, features, 2, [80] * 3), atol=1e-6)


def test_the_network_is_a_setting():
    config = Config(model=ModelConfig("spvcnn", 4, (4,) * 8), stream=StreamConfig(features="intensity"))
    net = network.build(config, 7, torch.device("cpu"))
    assert isinstance(net, SPVCNN) and net.stem[0].in_channels == 1 and net.head.out_features == 7
    assert isinstance(network.build(PRESETS["miniature"], 7, torch.device("cpu")), MinkUNet)
