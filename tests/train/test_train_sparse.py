"""Sparse convolution on a CPU, held to spconv's Native algorithm and to the definition."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hicl.train import layers, sparse
from hicl.train.layers import ConvAlgo, spconv

CLOUDS = {
    "random": np.unique(np.random.default_rng(0).integers(0, 12, (500, 3)), axis=0),
    "one voxel": np.array([[3, 4, 5]]),
    "no neighbours": 4 * np.stack(np.meshgrid(*3 * [np.arange(4)], indexing="ij"), -1).reshape(-1, 3),
    "full grid": np.stack(np.meshgrid(*3 * [np.arange(6)], indexing="ij"), -1).reshape(-1, 3),
}


def test_a_map_of_voxels_by_either_way(monkeypatch):
    torch.manual_seed(0)
    linear, x = torch.nn.Linear(48, 40, bias=False), torch.randn(700, 48, requires_grad=True)
    gradient, results = torch.randn(700, 40), []
    for ours in (True, False):
        monkeypatch.setattr(layers, "products_by_onednn", lambda ours=ours: ours)
        found = layers.mapped(linear, x)
        results.append((found, *torch.autograd.grad(found, (x, linear.weight), gradient)))
    assert ["Convolution" in str(found.grad_fn) for found, *_ in results] == [True, False]
    for ours, theirs in zip(*results, strict=True):
        assert _close(ours, theirs)


@pytest.mark.parametrize("columns", [3, 4])
def test_voxels_are_ordered_by_their_columns(columns):
    cells = np.random.default_rng(0).integers(0, [3, 9, 1_000_000, 2][:columns], (500, columns)).astype(np.int32)
    cells = np.random.default_rng(1).permutation(np.unique(cells, axis=0))
    assert cells[layers.place_order(cells)].tolist() == sorted(cells.tolist())
    assert layers.place_order(cells[:0]).tolist() == []


def _close(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    return (ours - theirs).abs().max() <= 1e-5 * max(theirs.abs().max(), 1e-6)


@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize("widths", [(3, 16), (32, 48), (13, 7), (24, 40), (8, 286)])
def test_layers_equal_spconv_in_values_and_gradients(cloud, widths):
    """A layer of each kind, in the order of the network: one that keeps the voxels, one down, one up again."""
    torch.manual_seed(0)
    inputs, outputs = widths
    coords = np.random.default_rng(0).permutation(CLOUDS[cloud])
    coords = torch.from_numpy(np.insert(coords, 0, 0, axis=1).astype(np.int32))
    chain = torch.nn.ModuleList(
        [
            spconv.SubMConv3d(inputs, outputs, 3, bias=False, indice_key="same", algo=ConvAlgo.Native),
            spconv.SparseConv3d(outputs, inputs, 2, 2, bias=False, indice_key="scale", algo=ConvAlgo.Native),
            spconv.SparseInverseConv3d(inputs, outputs, 2, bias=False, indice_key="scale", algo=ConvAlgo.Native),
        ]
    )
    features = torch.randn(len(coords), inputs)
    found = []
    for run in (layers.convolve, lambda layer, x: layer(x)):
        chain.zero_grad()
        leaf = features.clone().requires_grad_()
        x, values = spconv.SparseConvTensor(leaf, coords, [16, 16, 16], 1), []
        for layer in chain:
            x = run(layer, x)
            order = np.lexsort(x.indices.T.numpy())  # spconv lists strided voxels as it meets them
            values += [x.features[order], x.indices[order], torch.tensor(x.spatial_shape)]
        torch.manual_seed(1)
        (x.features[order] * torch.randn_like(x.features)).sum().backward()
        found.append([*values, leaf.grad, *(layer.weight.grad for layer in chain)])
    for ours, theirs in zip(*found, strict=True):
        assert _close(ours, theirs) if ours.is_floating_point() else (ours == theirs).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 40))
def test_a_row_is_the_sum_over_its_pairs(seed, inputs, outputs):
    rng = np.random.default_rng(seed)
    rows_in, rows_out = (int(n) for n in rng.integers(1, 30, 2))
    most, offsets = min(rows_in, rows_out), 3
    counts = rng.integers(0, most + 1, offsets)
    first, second = (
        np.stack([rng.permutation(n)[:most] for _ in range(offsets)]).astype(np.int32) for n in (rows_in, rows_out)
    )
    x, weight = rng.normal(size=(rows_in, inputs)), rng.normal(size=(outputs, offsets, inputs))
    expected = np.zeros((rows_out, outputs))
    for k in range(offsets):
        for i, o in zip(first[k, : counts[k]], second[k, : counts[k]], strict=True):
            expected[o] += weight[:, k] @ x[i]
    pairs = sparse.Pairs(first, second, counts, rows_out)
    found = sparse.convolve(torch.from_numpy(x).float(), torch.from_numpy(weight).float(), pairs)
    assert np.allclose(found.numpy(), expected, atol=1e-4)


def test_the_number_of_threads_changes_no_bit(monkeypatch):
    rng, torch_rng = np.random.default_rng(0), torch.Generator().manual_seed(0)
    n = 1500
    rows = np.stack([np.stack([rng.permutation(n) for _ in range(27)]) for _ in range(2)]).astype(np.int32)
    pairs = sparse.Pairs(*rows, np.full(27, n), n)
    x, weight = (torch.randn(size, generator=torch_rng) for size in ((n, 40), (72, 27, 40)))
    found = []
    for threads in (1, 2, 5):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        leaves = x.clone().requires_grad_(), weight.clone().requires_grad_()
        out = sparse.convolve(*leaves, pairs)
        out.square().sum().backward()
        found.append([out, *(leaf.grad for leaf in leaves)])
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 120), st.integers(1, 3))
def test_pairs_are_all_neighbours_and_all_children(seed, n, scenes):
    rng = np.random.default_rng(seed)
    extent = rng.integers(1, 9, 3)
    coords = np.unique(np.c_[rng.integers(0, scenes, n), rng.integers(0, extent, (n, 3))], axis=0).astype(np.int32)
    coords = rng.permutation(coords)
    rows = {tuple(coord): row for row, coord in enumerate(coords.tolist())}

    def listed(pairs):
        return {
            (k, int(i), int(o))
            for k, count in enumerate(pairs.counts)
            for i, o in zip(pairs.inputs[k, :count], pairs.outputs[k, :count], strict=True)
        }

    expected = set()
    for (scene, x, y, z), row in rows.items():
        for k, (dx, dy, dz) in enumerate(itertools.product((-1, 0, 1), repeat=3)):
            other = rows.get((scene, x + dx, y + dy, z + dz))
            if other is not None:
                expected.add((k, other, row))
    same = sparse.same_pairs(coords)
    assert listed(same) == expected and same.rows == len(coords)
    halved, cells = sparse.halved_pairs(coords)
    cell_rows = {tuple(cell): row for row, cell in enumerate(cells.tolist())}
    assert len(cell_rows) == len(cells) == halved.rows and halved.counts.sum() == len(coords)
    assert listed(halved) == {
        (4 * (x % 2) + 2 * (y % 2) + z % 2, row, cell_rows[(scene, x // 2, y // 2, z // 2)])
        for (scene, x, y, z), row in rows.items()
    }
    for start, stop in ((0, len(cells)), (len(cells) // 3, len(cells) // 2)):
        some = halved.only(slice(start, stop))
        assert some.rows == stop - start
        assert listed(some) == {(k, i, o - start) for k, i, o in listed(halved) if start <= o < stop}
