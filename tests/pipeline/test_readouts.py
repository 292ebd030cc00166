"""Each dense read-out against its formula, written out a patch and a head at a time, on a small tower of twelve."""

import math

import open_clip
import pytest
import torch

from hicl.errors import HiclError
from hicl.pipeline.teacher import readouts, towers
from hicl.pipeline.teacher.choice import TeacherConfig
from hicl.pipeline.teacher.clip import Teacher

HEADS, WIDTH, ROWS, COLUMNS = 2, 16, 6, 7
PATCHES = [(row, column) for row in range(ROWS) for column in range(COLUMNS)]


@pytest.fixture(scope="module")
def visual():
    torch.manual_seed(3)
    tower = open_clip.transformer.VisionTransformer(
        image_size=48, patch_size=8, width=WIDTH, layers=12, heads=HEADS, mlp_ratio=2, output_dim=5, output_tokens=False
    )
    for parameter in tower.parameters():
        parameter.requires_grad_(False).add_(0.1 * torch.randn(parameter.shape))
    return tower.double().eval()


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(4)
    smooth = torch.randn(2, 3, 4, 4, generator=generator, dtype=torch.float64)
    return torch.nn.functional.interpolate(smooth, (8 * ROWS, 8 * COLUMNS), mode="bilinear")


@pytest.fixture(scope="module")
def outputs(visual, images):
    """outputs[n][image]: the tokens [L, D] after n blocks, the class token first, of open_clip's own forward pass."""
    tower = towers.of(visual, "tiny")
    embedded = tower.see(images).tokens[0]  # positions for 6x7 patches: test_teacher.py
    after = [embedded]
    for block in visual.transformer.resblocks[:-1]:
        after.append(block(after[-1]))
    return after


def heads_of(block, x):
    """(q, k, v) of each head: [L, d] each."""
    x = block.ln_1(x) @ block.attn.in_proj_weight.T + block.attn.in_proj_bias
    size = WIDTH // HEADS
    parts = [x[:, i * WIDTH : (i + 1) * WIDTH] for i in range(3)]
    return [[part[:, h * size : (h + 1) * size] for part in parts] for h in range(HEADS)]


def softmax_rows(scores):
    return torch.stack([row.exp() / row.exp().sum() for row in scores])


def alike(a, b):
    return softmax_rows(a @ b.T / math.sqrt(a.shape[1]))


def project(block, gathered):
    return torch.cat(gathered, dim=1) @ block.attn.out_proj.weight.T + block.attn.out_proj.bias


def whole(block, x, gathered):
    x = x + project(block, gathered)
    return x + block.mlp(block.ln_2(x))


def omega():
    near = torch.zeros(1 + len(PATCHES), 1 + len(PATCHES), dtype=torch.float64)
    for i, (row, column) in enumerate(PATCHES):
        for j, (other_row, other_column) in enumerate(PATCHES):
            near[1 + i, 1 + j] = math.exp(-((row - other_row) ** 2 + (column - other_column) ** 2) / (2 * 25))
    return near


def sclip(last, outputs, image):
    x = outputs[-1][image]
    return whole(last, x, [(alike(q, q) + alike(k, k)) @ v for q, k, v in heads_of(last, x)])[1:]


def clearclip(last, outputs, image):
    x = outputs[-1][image]
    return project(last, [alike(q, q) @ v for q, k, v in heads_of(last, x)])[1:]


def near_and_alike(k):
    return softmax_rows(k @ k.T / math.sqrt(k.shape[1]) + omega())


def naclip(last, outputs, image):
    return project(last, [near_and_alike(k) @ v for q, k, v in heads_of(last, outputs[-1][image])])[1:]


def resclip(blocks, outputs, image):
    gathered = []
    for head, (_, k, v) in enumerate(heads_of(blocks[-1], outputs[-1][image])):
        earlier = [heads_of(blocks[n - 1], outputs[n - 1][image])[head] for n in (6, 7, 8, 9)]
        mean = sum(alike(query, key) for query, key, _ in earlier) / 4
        gathered.append(2.0 * (0.6 * near_and_alike(k) + 0.4 * mean) @ v)
    return project(blocks[-1], gathered)[1:]


def outliers(x):
    """The 5 % of patches [N, D] whose density, one by the squared distance from the 30th neighbour, is lowest beside
    the mean of those neighbours'."""
    neighbours, density = [], []
    for i in range(len(x)):
        distances = [(float(((x[i] - x[j]) ** 2).sum()), j) for j in range(len(x)) if j != i]
        nearest = sorted(distances)[:30]
        neighbours.append([j for _, j in nearest])
        density.append(1 / nearest[-1][0])
    factor = [sum(density[j] for j in neighbours[i]) / 30 / density[i] for i in range(len(x))]
    place = 0.95 * (len(x) - 1)
    low, ordered = math.floor(place), sorted(factor)
    threshold = ordered[low] + (place - low) * (ordered[low + 1] - ordered[low])
    return {i for i, value in enumerate(factor) if value > threshold}


def mended(x, odd):
    out = x.clone()
    for i in odd:
        row, column = PATCHES[i]
        around = [j for j, (r, c) in enumerate(PATCHES) if max(abs(r - row), abs(c - column)) == 1 and j not in odd]
        if around:
            out[i] = x[around].mean(dim=0)
    return out


def cosine(x):
    x = x / x.norm(dim=1, keepdim=True)
    return x @ x.T


def averaged(similar, x):
    out = torch.zeros_like(x)
    for i in range(len(x)):
        weights = [float(value) if value >= 0.4 else 0.0 for value in similar[i]]
        out[i] = sum(weight * x[j] for j, weight in enumerate(weights)) / (sum(weights) + 1e-6)
    return out


def scclip(last, outputs, image):
    x = outputs[11][image][1:]
    odd = outliers(x)
    assert len(odd) == 3
    similar = cosine(mended(outputs[9][image][1:], odd))
    sharp = 3 * (similar - similar.mean())
    focus = softmax_rows(torch.where(sharp < 0, -math.inf, sharp))

    def gather(x):
        return project(last, [(focus + alike(k, k)) / 2 @ v for q, k, v in heads_of(last, x)])

    coarse = cosine(outputs[4][image][1:])
    fine = gather(averaged(similar, mended(x, odd))) + 0.3 * outputs[11][image][0]
    levels = sum(outputs[n][image] for n in range(4, 11))
    return averaged(coarse, fine) + averaged(coarse, gather(levels[1:]) + 0.3 * levels[0])


ORACLES = {"sclip": sclip, "clearclip": clearclip, "naclip": naclip, "resclip": resclip, "scclip": scclip}


@pytest.mark.parametrize("name", ORACLES)
@torch.no_grad()
def test_a_read_out_is_its_formula(visual, images, outputs, name):
    blocks = visual.transformer.resblocks
    expected = [ORACLES[name](blocks if name == "resclip" else blocks[-1], outputs, image) for image in range(2)]
    tower = towers.of(visual, "tiny")
    found = tower.grid(images, readouts.load(name, tower.depth, "tiny"))
    wanted = visual.ln_post(torch.stack(expected)) @ visual.proj
    assert found.shape == (2, ROWS, COLUMNS, 5)
    # One in six digits: SC-CLIP seeks its outliers, and NACLIP its neighbourhood, in float32.
    torch.testing.assert_close(found.flatten(1, 2), wanted, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_an_image_is_read_alike_beside_any_other(visual, images):
    tower = towers.of(visual, "tiny")
    for name in readouts.READ_OUTS:
        read = readouts.load(name, tower.depth, "tiny")
        torch.testing.assert_close(tower.grid(images, read)[:1], tower.grid(images[:1], read))


@pytest.mark.parametrize("name", readouts.READ_OUTS)
@pytest.mark.parametrize("size", [(48, 56), (8, 8), (8, 64)])
def test_plain_images_of_any_shape_have_finite_features(visual, name, size):
    tower = towers.of(visual, "tiny")
    found = tower.grid(torch.zeros(1, 3, *size, dtype=torch.float64), readouts.load(name, 12, "tiny"))
    assert found.shape == (1, size[0] // 8, size[1] // 8, 5) and found.isfinite().all()


@pytest.mark.parametrize("name", ["resclip", "scclip"])
def test_a_resnet_has_no_earlier_blocks(tiny_clip, name):
    config = TeacherConfig(tiny_clip.resnet.config, tiny_clip.resnet.weights, name)
    with pytest.raises(HiclError, match=f"^--dense {name}: reads blocks before the last, and --clip .* has none"):
        Teacher(config)


@torch.no_grad()
def test_an_attention_pool_has_no_residual_to_keep(tiny_clip):
    """So what SCLIP has beyond ClearCLIP is the keys' half."""
    tower = towers.of(tiny_clip.resnet.model.visual, "tiny")
    image = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    both, queries, keys = (tower.grid(image, readouts.load(name, 1, "tiny")) for name in ("sclip", "qq", "kk"))
    bias = tiny_clip.resnet.model.visual.attnpool.c_proj.bias
    torch.testing.assert_close(both + bias, queries + keys, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(tower.grid(image, readouts.load("clearclip", 1, "tiny")), queries)


@torch.no_grad()
def test_key_smoothing_sums_what_is_similar(visual, images, outputs):
    tower = towers.of(visual, "tiny")
    plain = tower.grid(images, readouts.load("maskclip", 12, "tiny")).flatten(1, 2)
    found = tower.grid(images, readouts.load("maskclip", 12, "tiny"), smooth=True).flatten(1, 2)
    last = visual.transformer.resblocks[-1]
    for image in range(2):
        x = outputs[-1][image]
        keys = project(last, [k for _, k, _ in heads_of(last, x)])[1:]
        for i in range(0, len(PATCHES), 5):
            total = torch.zeros(5, dtype=torch.float64)
            for j, feature in enumerate(plain[image]):
                cosine_of_keys = keys[i] @ keys[j] / (keys[i].norm() * keys[j].norm())
                total += cosine_of_keys * feature / feature.norm()
            torch.testing.assert_close(found[image, i], total, rtol=1e-5, atol=1e-5)
