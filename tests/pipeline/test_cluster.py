"""Scenes on a Dask cluster into a cache on S3, both on loopback: a worker is killed and nothing is lost."""

import os
import shutil
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest
import torch
from scans import tree, write_labels, write_scan
from typer.testing import CliRunner

from hicl import commands
from hicl.cache.opening import open_cache
from hicl.cache.writer import CacheWriter
from hicl.errors import HiclError
from hicl.pipeline import relabel, run, workers
from hicl.pipeline.classes import ClassList
from hicl.pipeline.config import PreprocessConfig
from hicl.pipeline.datasets import rgbd
from hicl.train import stream
from hicl.train.config import load
from hicl.train.taught import Needs

distributed = pytest.importorskip("distributed")
s3fs = pytest.importorskip("s3fs")
moto = pytest.importorskip("moto.server")

SCENES = 6
CLASSES = ClassList.of(tuple(f"class {index}" for index in range(20)))


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """The URL of an empty bucket."""
    server = moto.ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    settings = {"ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret", "DEFAULT_REGION": "us-east-1"}
    for name, value in (settings | {"ENDPOINT_URL": f"http://{host}:{port}"}).items():
        monkeypatch.setenv(f"AWS_{name}", value)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1,localhost")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    s3fs.S3FileSystem.clear_instance_cache()
    name = tmp_path.name.replace("_", "-")
    s3fs.S3FileSystem().mkdir(name)
    yield f"s3://{name}"
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture
def cluster(bucket):
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as found:
        yield found


@pytest.fixture
def root(tmp_path) -> Path:
    for index in range(SCENES):
        write_scan(tmp_path / "scans" / f"corner{index}", seed=index)
        write_labels(tmp_path / "labels" / f"corner{index}", seed=index)
    return tmp_path / "scans"


def preprocess(root: Path, out, executor=None):
    config = rgbd.Settings(teacher="labels", labels_dir=str(root.parent / "labels"))
    source = run.Source("rgbd", root, [(scene, "train") for scene in rgbd.find_scenes(root)], ())
    return run.preprocess(source, out, config, CLASSES, 1, "cpu", lambda _: None, executor)


def objects(url: str) -> dict[str, bytes]:
    fs, top = fsspec.core.url_to_fs(url)
    fs.invalidate_cache()
    return {name.removeprefix(f"{top}/"): fs.cat_file(name) for name in fs.find(top)}


def test_a_killed_worker_loses_nothing(bucket, cluster, root, tmp_path, monkeypatch):
    url, published, killed = f"{bucket}/some/cache", CacheWriter.publish, []

    def kill_and_publish(writer, scene, staged):
        if not killed:  # the first scene is there, the others are under way
            with distributed.Client(cluster, set_as_default=False) as client:
                pids = client.run(os.getpid)
                busy = next(worker for worker, tasks in client.processing().items() if tasks)
            os.kill(pids[busy], signal.SIGKILL)
            killed.append(busy)
        published(writer, scene, staged)

    with monkeypatch.context() as patch, workers.DaskExecutor(cluster.scheduler_address) as executor:
        patch.setattr(CacheWriter, "publish", kill_and_publish)
        summary = preprocess(root, url, executor)
    assert len(summary.done) == SCENES and not summary.failed
    moves = {(start, finish) for _, start, finish, *_ in cluster.scheduler.transition_log}
    assert ("processing", "released") in moves  # what the killed worker had begun was taken from it

    local = tmp_path / "local"
    preprocess(root, local)
    assert objects(url) == tree(local)

    command = ["preprocess", "rgbd", "--root", str(root), "--out", url, "--scheduler", cluster.scheduler_address]
    classes = tmp_path / "classes.txt"
    classes.write_text("\n".join(CLASSES.names))
    command += ["--teacher", "labels", "--labels-dir", str(root.parent / "labels"), "--classes", str(classes)]
    before = objects(url)
    result = CliRunner().invoke(commands.app, command)
    assert result.exit_code == 0 and f"0 scenes done, {SCENES} up to date" in result.output
    assert objects(url) == before

    ours, theirs = (training_batch(location) for location in (url, local))
    for name in ("coords", "features", "histogram", "tokens", "token_label"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name))


def training_batch(location):
    cache, settings = open_cache(location), load("miniature", None, {"experiment": "V"})
    source = stream.make_source(cache, Needs("refined"), settings.heads, 0, settings.stream)
    return next(stream.batches(source, [(0, [0, 3, 5])]))


def test_relabelling_on_a_cluster(bucket, cluster, root, tmp_path, tiny_clip):
    """The features stay where they are: in the cluster's cache and in a local one come the same new labels."""
    teacher = {"clip": tiny_clip.vit.config, "weights": tiny_clip.vit.weights}
    url, local = f"{bucket}/cache", tmp_path / "local"
    scenes = [(scene, "val") for scene in rgbd.find_scenes(root)[:2]]
    for location in (url, local):
        source, config = run.Source("rgbd", root, scenes, ()), PreprocessConfig(**teacher)
        run.preprocess(source, location, config, CLASSES, 1, "cpu", lambda _: None)
    shutil.rmtree(root)
    words = ClassList.of(("plant", "lamp"))
    with workers.DaskExecutor(cluster.scheduler_address) as executor:
        assert len(relabel.relabel(url, words, **teacher, device="cpu", executor=executor).done) == 2
    relabel.relabel(local, words, **teacher, workers=1, device="cpu")
    assert objects(url) == tree(local)


def test_a_cluster_that_is_not_there(root, tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "CONNECT_S", 0.5)
    with pytest.raises(HiclError, match="--scheduler tcp://127.0.0.1:9: no Dask scheduler answers .* running"):
        workers.DaskExecutor("tcp://127.0.0.1:9")
    with pytest.raises(HiclError, match="--scheduler nonsense://x: no Dask scheduler"):
        workers.DaskExecutor("nonsense://x")
    monkeypatch.setattr(workers, "WITHOUT_WORKERS_S", 0.1)
    with distributed.LocalCluster(n_workers=0, dashboard_address=None, processes=False) as empty:
        executor = workers.DaskExecutor(empty.scheduler_address)
        with executor, pytest.raises(HiclError, match="no worker is left; start some"):
            preprocess(root, tmp_path / "cache", executor)
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(HiclError, match=r"needs Dask: pip install 'hicl\[dask\]'"):
        workers.DaskExecutor("tcp://127.0.0.1:9")


def test_any_executor_will_do(root, tmp_path):
    with ThreadPoolExecutor(3) as threads:
        assert len(preprocess(root, tmp_path / "threads", threads).done) == SCENES
    preprocess(root, tmp_path / "one")
    assert tree(tmp_path / "threads") == tree(tmp_path / "one")
