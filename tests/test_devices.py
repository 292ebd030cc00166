import functools
import threading

import numpy as np
import pytest
import torch

from hicl.devices import fastest_products, products_by_onednn


@pytest.mark.parametrize("shape", [(1024, 512, 2048), (7, 33, 5), (3000, 32, 48), (1, 768, 768)], ids=str)
def test_products_are_as_exact_by_either_library(shape):
    """Where oneDNN is chosen, it is by a precision that would allow bfloat16, off by some thousandths."""
    rows, inner, columns = shape
    torch.manual_seed(0)
    a, b = torch.randn(rows, inner), torch.randn(columns, inner)
    batch_a, batch_b = torch.randn(3, rows // 4 + 1, inner), torch.randn(3, inner, columns)
    products = {
        "a bᵀ": (a, b.T),
        "aᵀ c": (a.T, torch.randn(rows, columns)),
        "c b": (torch.randn(rows, columns), b),
        "batched": (batch_a, batch_b),
    }
    for name, (left, right) in products.items():
        exact = left.double() @ right.double()
        size = left.double().abs() @ right.double().abs()
        with fastest_products():
            found = left @ right
        assert ((found - exact).abs() <= 1e-6 * size).all(), name


def test_onednn_is_asked_on_amds_processors_with_all_of_avx512_alone(monkeypatch):
    for name, features, gpu, asked in (
        ("znver5", {"avx512f": True}, False, True),
        ("znver4", {"avx512f": True}, False, False),
        ("znver3", {"avx2": True}, False, False),
        ("sapphirerapids", {"avx512f": True, "amx-tile": True}, False, False),
        ("znver9", {"avx512f": True, "amx-tile": True}, False, False),
        ("znver5", {"avx512f": True}, True, False),
    ):
        monkeypatch.setattr("llvmlite.binding.get_host_cpu_name", functools.partial(str, name))
        monkeypatch.setattr("llvmlite.binding.get_host_cpu_features", functools.partial(dict, features))
        monkeypatch.setattr(torch.cuda, "is_available", functools.partial(bool, gpu))
        assert products_by_onednn.__wrapped__() is asked, (name, gpu)


def test_products_are_as_before_afterwards(monkeypatch):
    monkeypatch.setattr("hicl.devices.products_by_onednn", lambda: True)
    with pytest.raises(KeyError), fastest_products():
        assert torch.get_float32_matmul_precision() == "medium"
        raise KeyError
    assert torch.get_float32_matmul_precision() == "highest"


def test_products_are_as_before_after_threads_that_overlapped(monkeypatch):
    """The two readers of a teacher's service, say: the first leaves while the second is still inside."""
    monkeypatch.setattr("hicl.devices.products_by_onednn", lambda: True)
    first_is_in, second_is_in, first_is_out = threading.Event(), threading.Event(), threading.Event()
    seen = []

    def second() -> None:
        first_is_in.wait(10)
        with fastest_products():
            second_is_in.set()
            first_is_out.wait(10)
            seen.append(torch.get_float32_matmul_precision())

    thread = threading.Thread(target=second)
    thread.start()
    with fastest_products():
        first_is_in.set()
        second_is_in.wait(10)
    first_is_out.set()
    thread.join()
    assert seen == ["medium"] and torch.get_float32_matmul_precision() == "highest"


def test_the_bound_of_exactness_would_notice_bfloat16():
    left, right = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 64, 64)).astype(np.float32))
    exact, size = left.double() @ right.double(), left.double().abs() @ right.double().abs()
    assert ((left.bfloat16() @ right.bfloat16()).double() - exact).abs().max() > 1e-6 * size.max()
