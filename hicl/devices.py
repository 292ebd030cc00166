"""Where PyTorch computes."""

from hicl.errors import HiclError


def checked_device(device: str) -> str:
    """`cpu` or `cuda` for --device auto, cpu or cuda. Raises `HiclError` for another, or where there is no GPU."""
    import torch

    if device not in ("auto", "cpu", "cuda"):
        raise HiclError(f"--device {device}: unknown; known are auto, cpu, cuda")
    cuda = torch.cuda.is_available()
    if device == "cuda" and not cuda:
        raise HiclError("--device cuda: PyTorch sees no GPU here; use --device cpu")
    return "cuda" if cuda and device != "cpu" else "cpu"
