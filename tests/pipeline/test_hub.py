"""A published teacher without a network: found at once, by a hub that plays dead on loopback."""

import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import open_clip
import pytest
from huggingface_hub import constants
from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME
from scans import write_scan

from hicl.errors import HiclError
from hicl.pipeline.teacher import hub as weights_hub


def test_what_open_clip_says_of_the_default():
    assert open_clip.get_pretrained_cfg(*weights_hub.DEFAULT)["hf_hub"] == weights_hub.DEFAULT_ENTRY
    assert weights_hub.FILES == (HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A function that makes huggingface_hub use another hub, and an empty cache."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)

    def use(port: int) -> None:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
        template = f"http://127.0.0.1:{port}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)

    return use


def refused(reason: str, seconds: float) -> None:
    begun = time.monotonic()
    with pytest.raises(HiclError, match=reason) as error:
        weights_hub.fetch(weights_hub.DEFAULT_ENTRY, "openai", patience=0.5)
    assert time.monotonic() - begun < seconds
    line = str(error.value)
    for word in ("open_clip_model.safetensors of timm/vit_base_patch16_clip_224.openai", "--weights FILE"):
        assert word in line
    assert "--clip hicl-miniature --weights hicl-miniature" in line and "--teacher labels" in line and "\n" not in line


def test_a_hub_that_never_answers(hub):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hub(silent.getsockname()[1])
        refused("no answer|timed out", 2)


def test_a_hub_that_is_not_there(hub):
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    hub(port)
    refused("refused", 2)


@pytest.mark.parametrize(("status", "reason"), [(200, "isn't a hub"), (403, "403"), (407, "407"), (503, "503")])
def test_a_network_that_answers_in_its_place(hub, status, reason):
    """A log-in page, or a proxy that won't."""

    class Page(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        hub(server.server_port)
        answering = threading.Thread(target=server.serve_forever)
        answering.start()
        try:
            refused(reason, 3)
        finally:
            server.shutdown()
            answering.join()


def test_told_to_stay_offline(hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    refused("HF_HUB_OFFLINE is set", 1)


def in_cache(folder, name):
    repository = folder / "models--timm--vit_base_patch16_clip_224.openai"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text("c0ffee")
    (repository / "snapshots/c0ffee").mkdir(parents=True)
    path = repository / "snapshots/c0ffee" / name
    path.write_bytes(b"weights")
    return path


@pytest.mark.parametrize("name", weights_hub.FILES)
def test_what_is_in_the_cache_needs_no_network(hub, tmp_path, name):
    hub(1)
    path = in_cache(tmp_path, name)
    assert weights_hub.fetch(weights_hub.DEFAULT_ENTRY, "openai") == path


def test_preprocess_says_so_before_torch_is_loaded(tmp_path):
    """Nothing is compiled, started or left behind."""
    write_scan(tmp_path / "scan")
    code = (
        "import sys; from hicl.commands import main\n"
        "sys.argv = ['hicl', 'preprocess', 'rgbd', '--root', 'scan', '--out', 'cache']\n"
        "try: main()\n"
        "finally: print([name for name in ('torch', 'open_clip', 'numba') if name in sys.modules])\n"
    )
    surroundings = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub"), "HOME": str(tmp_path), "PATH": ""}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=surroundings, capture_output=True, text=True, check=False
    )
    assert "\nhicl: error: --weights openai: can't be fetched" in result.stderr and result.returncode == 1
    assert len(result.stderr.splitlines()) == 2  # what the folder was taken for, and the error
    assert result.stdout.strip() == "[]" and not list((tmp_path / "cache").glob("*"))
