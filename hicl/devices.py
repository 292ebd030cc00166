"""Where PyTorch computes."""

from hicl.errors import HiclError


def computes_bf16(device: str) -> bool:
    """Whether it is a GPU with units for bfloat16; older ones emulate it, slower than float32."""
    import torch

    return device == "cuda" and torch.cuda.get_device_capability() >= (8, 0)


def checked_device(device: str) -> str:
    """`cpu` or `cuda` for --device auto, cpu or cuda. Raises `HiclError` for another, or where there is no GPU."""
    import torch

    if device not in ("auto", "cpu", "cuda"):
        raise HiclError(f"--device {device}: unknown; known are auto, cpu, cuda")
    cuda = torch.cuda.is_available()
    if device == "cuda" and not cuda:
        raise HiclError("--device cuda: PyTorch sees no GPU here; use --device cpu")
    return "cuda" if cuda and device != "cpu" else "cpu"
