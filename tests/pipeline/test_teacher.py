import pickle
import warnings
import zipfile
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from hicl.errors import HiclError
from hicl.pipeline.classes import ClassList
from hicl.pipeline.teacher.choice import TeacherConfig
from hicl.pipeline.teacher.clip import Teacher
from hicl.pipeline.teacher.prompts import fill_templates
from hicl.pipeline.teacher.weights import read_weights

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def teacher(tiny, **options):
    return Teacher(TeacherConfig(tiny.config, tiny.weights, **options))


def normalised(images):
    x = torch.from_numpy(np.stack(images)).float() / 255
    return ((x - torch.tensor(MEAN)) / torch.tensor(STD)).permute(0, 3, 1, 2)


def layer_norm(x, norm):
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * norm.weight + norm.bias


def mlp(x, block):
    x = x @ block.mlp.c_fc.weight.T + block.mlp.c_fc.bias
    x = x * torch.sigmoid(1.702 * x)  # QuickGELU
    return x @ block.mlp.c_proj.weight.T + block.mlp.c_proj.bias


def attention(query, key, value, heads):
    """Softmax attention, head by head and token by token."""
    out = torch.zeros_like(value)
    width = query.shape[-1] // heads
    for image in range(len(query)):
        for head in range(heads):
            own = slice(head * width, (head + 1) * width)
            for token in range(query.shape[1]):
                scores = key[image, :, own] @ query[image, token, own] / width**0.5
                out[image, token, own] = torch.softmax(scores, 0) @ value[image, :, own]
    return out


def qkv(x, attn):
    return torch.chunk(x @ attn.in_proj_weight.T + attn.in_proj_bias, 3, dim=-1)


def block_by_hand(x, block, read):
    q, k, v = qkv(layer_norm(x, block.ln_1), block.attn)
    x = x + read(q, k, v) @ block.attn.out_proj.weight.T + block.attn.out_proj.bias
    return x + mlp(layer_norm(x, block.ln_2), block)


READ = {
    "maskclip": lambda q, k, v: v,
    "kk": lambda q, k, v: attention(k, k, v, 4),
    "qq": lambda q, k, v: attention(q, q, v, 4),
}


def vit_by_hand(visual, images, dense):
    """METHOD 3.1 with plain tensor operations: the last block without its attention, then the joint space."""
    x = normalised(images)
    rows, columns = x.shape[2] // 8, x.shape[3] // 8
    # Patch embedding is a linear map of a patch's 3x8x8 numbers.
    patches = x.reshape(len(x), 3, rows, 8, columns, 8).permute(0, 2, 4, 1, 3, 5).reshape(len(x), rows * columns, -1)
    tokens = patches @ visual.conv1.weight.reshape(32, -1).T
    positions = visual.positional_embedding
    if (rows, columns) != (4, 4):
        grid = positions[1:].T.reshape(1, 32, 4, 4)
        grid = torch.nn.functional.interpolate(grid, (rows, columns), mode="bicubic", align_corners=False)
        positions = torch.cat([positions[:1], grid[0].reshape(32, -1).T])
    cls = visual.class_embedding.reshape(1, 1, -1).repeat(len(x), 1, 1)
    tokens = layer_norm(torch.cat([cls, tokens], dim=1) + positions, visual.ln_pre)
    first, second, last = visual.transformer.resblocks
    for block in (first, second):
        tokens = block_by_hand(tokens, block, lambda q, k, v: attention(q, k, v, 4))
    tokens = block_by_hand(tokens, last, READ[dense])
    out = (layer_norm(tokens, visual.ln_post) @ visual.proj)[:, 1:]
    return (out / out.norm(dim=-1, keepdim=True)).reshape(len(x), rows, columns, -1).numpy()


@pytest.mark.parametrize("size", [(32, 32), (32, 56), (48, 32)])
@pytest.mark.parametrize("dense", ["maskclip", "kk", "qq"])
@torch.no_grad()
def test_vit_is_the_formula(tiny_clip, dense, size):
    images = [noise(*size, seed) for seed in range(2)]  # short side 32: nothing is resized
    features = teacher(tiny_clip.vit, dense=dense).encode_images(images)
    assert features.dtype == np.float32 and features.shape == (2, size[0] // 8, size[1] // 8, 12)
    np.testing.assert_allclose(np.linalg.norm(features, axis=-1), 1, rtol=1e-5)
    np.testing.assert_allclose(features, vit_by_hand(tiny_clip.vit.model.visual, images, dense), atol=2e-5)


def test_the_formula_is_clip_where_attention_is_kept(tiny_clip):
    """The hand-written tower, with ordinary attention, gives what open_clip says of its class token."""
    visual, image = tiny_clip.vit.model.visual, noise(32, 32)
    with torch.no_grad():
        READ["plain"] = lambda q, k, v: attention(q, k, v, 4)
        x = normalised([image])
        expected = visual(x)[0].numpy()
        tokens = visual._embeds(x)
        for block in visual.transformer.resblocks:
            tokens = block_by_hand(tokens, block, READ["plain"])
        found = (layer_norm(tokens, visual.ln_post) @ visual.proj)[0, 0].numpy()
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("dense", ["maskclip", "kk", "qq"])
@torch.no_grad()
def test_resnet_is_the_formula(tiny_clip, dense):
    visual, images = tiny_clip.resnet.model.visual, [noise(64, 96, seed) for seed in range(2)]
    found = teacher(tiny_clip.resnet, dense=dense).encode_images(images)
    assert found.shape == (2, 2, 3, 12)
    x = visual.layer4(visual.layer3(visual.layer2(visual.layer1(visual.stem(normalised(images))))))
    x = x.permute(0, 2, 3, 1).reshape(2, 6, -1)
    pool = visual.attnpool
    q, k, v = (x @ each.weight.T + each.bias for each in (pool.q_proj, pool.k_proj, pool.v_proj))
    out = READ[dense](q, k, v) @ pool.c_proj.weight.T + pool.c_proj.bias
    out = (out / out.norm(dim=-1, keepdim=True)).reshape(2, 2, 3, 12).numpy()
    np.testing.assert_allclose(found, out, atol=2e-5)
    assert pool.num_heads == 4


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_bfloat16_reads_about_the_same(tiny_clip, kind):
    tiny = getattr(tiny_clip, kind)
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3)).astype(np.uint8)
    exact, rounded = (
        Teacher(TeacherConfig(tiny.config, tiny.weights), bf16=bf16).encode_images([image]) for bf16 in (None, True)
    )
    assert rounded.dtype == np.float32 and not np.array_equal(exact, rounded)
    assert (exact * rounded).sum(axis=-1).min() > 0.999


def test_grid_and_size(tiny_clip):
    model = teacher(tiny_clip.vit)
    assert (model.dim, model.patches.patch, model.patches.short_side) == (12, (8, 8), 32)
    assert model.patches.shape(480, 640) == (4, 5)  # 32 x 42.7 pixels
    assert model.patches.shape(640, 480) == (5, 4)
    assert teacher(tiny_clip.vit, short_side=64).patches.shape(480, 640) == (8, 11)
    assert teacher(tiny_clip.resnet).patches.shape(100, 1000) == (2, 20)
    assert model.encode_images([noise(48, 64)]).shape == (1, 4, 5, 12)


def test_a_resized_image(tiny_clip):
    """A plain colour is the same at any size."""
    model, plain = teacher(tiny_clip.vit), np.full((32, 40, 3), (10, 200, 90), np.uint8)
    large = np.full((96, 120, 3), (10, 200, 90), np.uint8)
    np.testing.assert_allclose(model.encode_images([large]), model.encode_images([plain]), atol=1e-6)


@torch.no_grad()
def test_classes(tiny_clip):
    """Every template to unit length, their mean, and that to unit length; synonyms are more templates."""
    classes = ClassList(("sofa", "wall"), (("sofa", "couch"), ("wall",)))
    found = teacher(tiny_clip.vit).encode_classes(classes)
    assert found.shape == (2, 12) and found.dtype == np.float32
    for row, names in zip(found, classes.prompts, strict=True):
        tokens = open_clip.tokenize([text for name in names for text in fill_templates(name)])
        assert len(tokens) == 85 * len(names)
        embedding = tiny_clip.vit.model.encode_text(tokens).numpy()
        total = sum(vector / np.linalg.norm(vector) for vector in embedding)
        np.testing.assert_allclose(row, total / np.linalg.norm(total), atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("words", [["a chair"], ["a chair! and a table!", "x"], ["word " * 30], ["word " * 60, "x"]])
def test_texts_are_read_as_open_clip_reads_them(tiny_clip, words):
    """Whatever their length; "!" is token 0, as padding is."""
    expected = tiny_clip.vit.model.encode_text(open_clip.tokenize(words)).numpy()
    np.testing.assert_allclose(teacher(tiny_clip.vit).encode_texts(words), expected, atol=1e-5)


def refuse(tiny, said, **options):
    with pytest.raises(HiclError, match=said) as error:
        Teacher(TeacherConfig(**({"clip": tiny.config, "weights": tiny.weights} | options)))
    assert "\n" not in str(error.value)


def test_unknown_names(tiny_clip):
    refuse(tiny_clip.vit, "--dense slip: unknown; known are maskclip", dense="slip")
    refuse(
        tiny_clip.vit, "--clip ViT-Z-99: neither hicl-miniature, hicl-street nor an open_clip model", clip="ViT-Z-99"
    )
    refuse(tiny_clip.vit, "--weights laion9b: neither a file nor a tag", weights="laion9b")
    refuse(tiny_clip.vit, "--short-side 7: less than one patch of 8x8", short_side=7)


@pytest.mark.parametrize(
    "text, said",
    [
        (None, "no such model config"),
        ("{", "not readable JSON"),
        ("[]", "not an open_clip model config"),
        ('{"embed_dim": 4}', "not an open_clip model config"),
        ('{"embed_dim": 4, "vision_cfg": {"legs": 4}, "text_cfg": {}}', "open_clip can't build it"),
    ],
)
def test_a_model_config_that_will_not_do(tiny_clip, tmp_path, text, said):
    if text is not None:
        (tmp_path / "odd.json").write_text(text)
    refuse(tiny_clip.vit, f"odd.*{said}", clip=str(tmp_path / "odd.json"))
    teacher(tiny_clip.vit)  # and the next one is none the worse for it


def changed(tiny, path, **changes):
    state = load_file(tiny.weights)
    for name, value in changes.items():
        name = name.replace("__", ".")
        if value is None:
            del state[name]
        else:
            state[name] = value
    (save_file if path.suffix == ".safetensors" else torch.save)(state, path)
    return str(path)


def test_weights_must_match(tiny_clip, tmp_path):
    path, vit = tmp_path / "w.safetensors", tiny_clip.vit
    refuse(vit, "w.safetensors: .*: lacks visual.proj$", weights=changed(vit, path, visual__proj=None))
    refuse(vit, "w.safetensors: .*: has too extra$", weights=changed(vit, path, extra=torch.zeros(1)))
    other = torch.zeros(32, 13)
    refuse(vit, "w.safetensors: .*: has in another shape visual.proj$", weights=changed(vit, path, visual__proj=other))
    refuse(vit, "lacks visual.class_embedding, .* and [0-9]+ more; has too", weights=tiny_clip.resnet.weights)


@torch.no_grad()
def test_forms_of_weights(tiny_clip, tmp_path):
    image = noise(32, 32)
    expected = teacher(tiny_clip.vit).encode_images([image])
    state = load_file(tiny_clip.vit.weights)
    one_number = {**state, "logit_scale": state["logit_scale"].reshape(1)}
    wrapped = {"state_dict": {f"module.{name}": value for name, value in state.items()}, "epoch": 3}
    compiled = {f"module._orig_mod.{name}": value for name, value in state.items()}
    sizes = {"input_resolution": torch.tensor(32), "context_length": torch.tensor(77), "vocab_size": 49408}
    beside = {"attn_mask": torch.zeros(77, 77), "logit_bias": torch.zeros([]), "text.position_ids": torch.arange(77)}
    forms = {"a.pt": state, "b.pt": one_number, "c.pth": wrapped, "d.bin": state, "e.pt": compiled}
    for name, content in (forms | {"f.pt": state | sizes, "g.pt": state | beside, "h.pt": wrapped | sizes}).items():
        torch.save(content, tmp_path / name)
        found = Teacher(TeacherConfig(tiny_clip.vit.config, str(tmp_path / name))).encode_images([image])
        np.testing.assert_array_equal(found, expected)


class _Bare(torch.nn.Module):
    """Modules within modules that hold tensors, and forward nothing."""

    def put(self, name, value):
        head, _, rest = name.partition(".")
        if rest:
            if not hasattr(self, head):
                setattr(self, head, _Bare())
            getattr(self, head).put(rest, value)
        elif value.is_floating_point():
            self.register_parameter(head, torch.nn.Parameter(value, requires_grad=False))
        else:
            self.register_buffer(head, value)


def script(path, state):
    """A TorchScript archive, as OpenAI's own files are, with the integers that those have beside the weights."""
    module = _Bare()
    for name, value in (state | {"input_resolution": torch.tensor(32), "vocab_size": torch.tensor(49408)}).items():
        module.put(name, value)
    module.sizes, module.text = [1, 2], "some"
    with warnings.catch_warnings(action="ignore"):  # TorchScript is deprecated
        torch.jit.save(torch.jit.script(module), path)
    return path


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_a_torchscript_file(tiny_clip, tmp_path, kind):
    tiny = getattr(tiny_clip, kind)
    state = load_file(tiny.weights)
    if kind == "vit":  # laid out otherwise in memory, and two tensors in one storage
        state["visual.proj"] = state["visual.proj"].t().contiguous().t()
        state["ln_final.weight"], state["ln_final.bias"] = torch.stack(
            [state["ln_final.weight"], state["ln_final.bias"]]
        )
    found = read_weights(script(tmp_path / "w.pt", state))
    assert {name for name in state} <= set(found)
    for name, value in state.items():
        assert torch.equal(found[name], value) and found[name].dtype == value.dtype
    image = noise(64, 64)
    expected = teacher(tiny).encode_images([image])
    halves = {k: v.half() if v.is_floating_point() and k.startswith("visual") else v for k, v in state.items()}
    for path, exact in ((script(tmp_path / "w.pt", state), True), (script(tmp_path / "half.pt", halves), False)):
        found = Teacher(TeacherConfig(tiny.config, str(path))).encode_images([image])
        np.testing.assert_allclose(found, expected, atol=0 if exact else 0.02)


def test_nothing_in_a_torchscript_file_is_run(tiny_clip, tmp_path):
    whole, evil, trace = (
        script(tmp_path / "w.pt", load_file(tiny_clip.vit.weights)),
        tmp_path / "evil.pt",
        tmp_path / "t",
    )
    with zipfile.ZipFile(whole) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    data = next(name for name in entries if name.endswith("/data.pkl"))
    for packing, content in (
        (zipfile.ZIP_STORED, pickle.dumps(Malicious(str(trace)), protocol=2)),
        (zipfile.ZIP_STORED, b"\x80\x02cos\nsystem\n."),
        (zipfile.ZIP_STORED, entries[data][:200]),
        (zipfile.ZIP_STORED, pickle.dumps([1, 2])),
        (zipfile.ZIP_DEFLATED, entries[data]),
    ):
        with zipfile.ZipFile(evil, "w", packing) as archive:
            for name, old in entries.items():
                archive.writestr(name, content if name == data else old)
        refuse(tiny_clip.vit, "evil.pt: not a ", weights=str(evil))
        assert not trace.exists()


@pytest.mark.parametrize(
    "content, said",
    [
        (b"", "an empty file"),
        (b"<!doctype html>\n<title>404</title>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 350000000\n", "a Git LFS pointer"),
    ],
)
@pytest.mark.parametrize("ending", ["safetensors", "pt"])
def test_what_a_failed_download_leaves_is_named(tiny_clip, tmp_path, content, said, ending):
    (tmp_path / f"w.{ending}").write_bytes(content)
    refuse(tiny_clip.vit, f"w.{ending}: not a file of weights .{said}", weights=str(tmp_path / f"w.{ending}"))


class Malicious:
    """Unpickling it would leave a file behind."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (Path(self.trace),)


@pytest.mark.parametrize("container", ["raw", "torch", "legacy"])
def test_a_pickle_with_code_in_it_is_not_run(tiny_clip, tmp_path, container):
    path, trace = tmp_path / "evil.pt", tmp_path / "trace"
    content = {"state_dict": {"visual.proj": torch.zeros(2)}, "x": Malicious(str(trace))}
    if container == "raw":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=container == "torch")
    refuse(tiny_clip.vit, "evil.pt: not a plain file of weights", weights=str(path))
    assert not trace.exists()
    pickle.loads(pickle.dumps(Malicious(str(trace))))  # it is as bad as it says
    assert trace.exists()


@pytest.mark.parametrize("ending", ["safetensors", "pt"])
@pytest.mark.parametrize("content", [None, b"", b"junk", b"\xff" * 64, bytes(64), "folder"])
def test_weights_that_cannot_be_read(tiny_clip, tmp_path, ending, content):
    path = tmp_path / f"w.{ending}"
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    refuse(tiny_clip.vit, f"w.{ending}: ", weights=str(path))


@pytest.mark.parametrize("ending", ["safetensors", "pt"])
def test_truncated_weights(tiny_clip, tmp_path, ending):
    path = tmp_path / f"w.{ending}"
    whole = Path(changed(tiny_clip.vit, path)).read_bytes()
    for share in (0.001, 0.5, 0.999):
        path.write_bytes(whole[: int(share * len(whole))])
        refuse(tiny_clip.vit, f"w.{ending}: ", weights=str(path))


@pytest.mark.parametrize("content", [5, [1], {}, {"a": 5}, {0: torch.zeros(1)}, torch.zeros(3), {"state_dict": 5}])
def test_a_file_of_something_else(tiny_clip, tmp_path, content):
    torch.save(content, tmp_path / "w.pt")
    refuse(tiny_clip.vit, "w.pt: not a file of weights", weights=str(tmp_path / "w.pt"))


def known_as(monkeypatch, tiny, quick_gelu, download):
    """Let open_clip know the tag `lab` for a tiny model, as it knows `openai` for OpenAI's."""
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda name, tag: {"quick_gelu": quick_gelu, "url": "x"})
    monkeypatch.setattr(open_clip, "download_pretrained", download)


def test_what_open_clip_says_of_openai():
    for name in ("ViT-B-16", "ViT-B-16-quickgelu", "RN50"):
        assert open_clip.get_pretrained_cfg(name, "openai")["quick_gelu"] is True


def test_activation_and_weights_must_agree(tiny_clip, tmp_path, monkeypatch):
    config = tmp_path / "tiny-gelu.json"
    config.write_text(Path(tiny_clip.vit.config).read_text().replace('"quick_gelu": true', '"quick_gelu": false'))
    known_as(monkeypatch, tiny_clip.vit, True, lambda settings: tiny_clip.vit.weights)
    Teacher(TeacherConfig(tiny_clip.vit.config, "lab"))
    refuse(tiny_clip.vit, "need QuickGELU; use --clip tiny-gelu-quickgelu", clip=str(config), weights="lab")
    known_as(monkeypatch, tiny_clip.vit, False, lambda settings: tiny_clip.vit.weights)
    Teacher(TeacherConfig(str(config), "lab"))
    refuse(tiny_clip.vit, "need GELU; use --clip tiny-vit$", weights="lab")


@pytest.mark.parametrize("message", ["no route to host\nand more", ""])
def test_a_tag_without_a_network(tiny_clip, monkeypatch, message):
    def download(settings):
        raise ConnectionError(message)

    known_as(monkeypatch, tiny_clip.vit, True, download)
    refuse(tiny_clip.vit, "--weights lab: can't be downloaded for tiny-vit-quickgelu .*--weights FILE", weights="lab")


@torch.no_grad()
def test_preprocessing_of_a_tag(tiny_clip, monkeypatch):
    """A tag that was trained with another mean and spread is read with those."""
    settings = {"quick_gelu": True, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda name, tag: settings)
    monkeypatch.setattr(open_clip, "download_pretrained", lambda _: tiny_clip.vit.weights)
    image = noise(32, 32)
    found = Teacher(TeacherConfig(tiny_clip.vit.config, "lab")).encode_images([image])
    monkeypatch.setattr(f"{__name__}.MEAN", settings["mean"])
    monkeypatch.setattr(f"{__name__}.STD", settings["std"])
    np.testing.assert_allclose(found, vit_by_hand(tiny_clip.vit.model.visual, [image], "maskclip"), atol=2e-5)


def test_a_model_that_has_no_dense_reading(tiny_clip, tmp_path):
    config = tmp_path / "tiny-pooled.json"
    text = Path(tiny_clip.vit.config).read_text()
    config.write_text(
        text.replace('"head_width": 8', '"head_width": 8, "attentional_pool": "parallel", "attn_pooler_heads": 4')
    )
    open_clip.add_model_config(config)
    model = open_clip.create_model(config.stem, load_weights=False)
    save_file(
        {name: value.contiguous().clone() for name, value in model.state_dict().items()}, tmp_path / "w.safetensors"
    )
    refuse(tiny_clip.vit, "no dense reading", clip=str(config), weights=str(tmp_path / "w.safetensors"))


def test_identity_knows_the_files(tiny_clip, tmp_path):
    """A fingerprint takes in what is in the files, not what they are called."""
    config = TeacherConfig(tiny_clip.vit.config, tiny_clip.vit.weights)
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(Path(tiny_clip.vit.weights).read_bytes())
    assert TeacherConfig(tiny_clip.vit.config, str(copy)).identity() == config.identity()
    changed(tiny_clip.vit, copy, visual__proj=torch.ones(32, 12))
    assert TeacherConfig(tiny_clip.vit.config, str(copy)).identity() != config.identity()
    assert TeacherConfig().identity()["weights"] == "openai"
    with pytest.raises(HiclError, match="none.safetensors"):
        TeacherConfig(weights=str(tmp_path / "none.safetensors")).identity()
