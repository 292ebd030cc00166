"""Where a published model's weights are: in huggingface_hub's cache, or on its hub, which is tried once and shortly."""

import threading
from pathlib import Path

from hicl.errors import HiclError

# What open_clip takes of a repository without a file name (`open_clip/constants.py`), the first that is there.
FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
# open_clip's entry for the default teacher, so that its absence shows before torch and open_clip are imported.
DEFAULT = ("ViT-B-16-quickgelu", "openai")
DEFAULT_ENTRY = "timm/vit_base_patch16_clip_224.openai/"
PATIENCE = 2.0  # seconds that a hub has to answer


def fetch(entry: str, tag: str, patience: float = PATIENCE) -> Path:
    """The file of weights behind open_clip's `hf_hub` entry, repository/ or repository/file; downloaded where missing.

    What is in the cache needs no network. Raises `HiclError`, within `patience` seconds and a few tenths where the hub
    doesn't answer, that says which file to bring.
    """
    from huggingface_hub import hf_hub_download

    found = cached(entry)
    if found:
        return found
    repository, names = _files(entry)
    assert_reachable(entry, tag, patience)
    reason = ""
    for name in names:
        try:
            return Path(hf_hub_download(repository, name))
        except Exception as error:  # hub, network and file errors alike
            reason = first_line(error)
    raise HiclError(_unreachable(entry, tag, reason))


def cached(entry: str) -> Path | None:
    """The same file, if it is in huggingface_hub's cache."""
    from huggingface_hub import try_to_load_from_cache

    repository, names = _files(entry)
    for name in names:
        path = try_to_load_from_cache(repository, name)
        if isinstance(path, str):
            return Path(path)
    return None


def assert_reachable(entry: str, tag: str, patience: float = PATIENCE) -> None:
    """Raise `HiclError` unless the hub answers for an entry. One try: libraries repeat theirs for minutes."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError

    repository, names = _files(entry)
    if constants.HF_HUB_OFFLINE:
        raise HiclError(_unreachable(entry, tag, "HF_HUB_OFFLINE is set"))
    reasons = [f"no answer in {patience:g} s"]

    def ask() -> None:
        try:
            found = get_hf_file_metadata(hf_hub_url(repository, names[0]), timeout=patience)
            whose = found.commit_hash and found.etag  # a network's own log-in page has neither
            reasons[0] = "" if whose else "what answers isn't a hub"
        except EntryNotFoundError:  # the hub itself says so; the other file may be there
            reasons[0] = ""
        except Exception as error:  # of whichever HTTP library it is
            reasons[0] = first_line(error)

    # A name server that doesn't answer has no timeout that Python could set.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(patience)
    if reasons[0]:
        raise HiclError(_unreachable(entry, tag, reasons[0]))


def _files(entry: str) -> tuple[str, tuple[str, ...]]:
    repository, _, name = entry.rpartition("/")
    return repository, (name,) if name else FILES


def _unreachable(entry: str, tag: str, reason: str) -> str:
    repository, names = _files(entry)
    return (
        f"--weights {tag}: can't be fetched from the Hugging Face hub ({reason}); bring {names[0]} of {repository} and "
        f"give it: --weights FILE; no download is needed with --clip hicl-miniature --weights "
        f"hicl-miniature, nor with --teacher labels"
    )


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
