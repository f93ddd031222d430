import ctypes
import os
import sys

import pytest
import torch
from torch import nn

from attar import precision
from attar.errors import AttarError
from attar.precision import (
    auto_precision,
    autocast,
    cpu_multiplies_bfloat16,
    keep_freed_memory,
    resolve_precision,
)


@pytest.fixture(params=[False, True], ids=["slow", "quick"])
def quick_at_bfloat16(request, monkeypatch):
    monkeypatch.delenv("ATTAR_PRECISION", raising=False)
    monkeypatch.setattr(precision, "cpu_multiplies_bfloat16", lambda: request.param)
    return request.param


def product_type(network, chosen, dtype=torch.float32):
    with autocast(network, chosen):
        return network(torch.ones(2, 3, dtype=dtype)).dtype


def test_auto_is_bfloat16_only_where_that_is_quick(quick_at_bfloat16):
    expected = torch.bfloat16 if quick_at_bfloat16 else torch.float32
    assert product_type(nn.Linear(3, 2), "auto") == expected


@pytest.mark.parametrize("wanted", ["float32", "bfloat16"])
def test_the_environment_variable_says_what_auto_means(quick_at_bfloat16, monkeypatch, wanted):
    monkeypatch.setenv("ATTAR_PRECISION", wanted)
    assert product_type(nn.Linear(3, 2), "auto") == getattr(torch, wanted)
    assert auto_precision(torch.device("cpu")) == wanted
    assert resolve_precision(nn.Linear(3, 2), "float32") == "float32"
    monkeypatch.setenv("ATTAR_PRECISION", "float16")
    with pytest.raises(AttarError, match=r"ATTAR_PRECISION to be auto, .*, got 'float16'; unset"):
        auto_precision(torch.device("cpu"))


def test_a_named_precision_is_what_it_says_on_every_processor(quick_at_bfloat16):
    assert product_type(nn.Linear(3, 2), "float32") == torch.float32
    assert product_type(nn.Linear(3, 2), "bfloat16") == torch.bfloat16


@pytest.mark.parametrize("chosen", ["auto", "float32", "bfloat16"])
def test_a_float64_network_runs_as_it_is(quick_at_bfloat16, chosen):
    assert product_type(nn.Linear(3, 2).double(), chosen, torch.float64) == torch.float64


@pytest.mark.parametrize("chosen", ["auto", "float32", "bfloat16"])
def test_a_network_without_weights_runs_as_it_is(quick_at_bfloat16, chosen):
    assert product_type(nn.ReLU(), chosen) == torch.float32


def test_weights_stay_float32():
    network = nn.Linear(3, 2)
    product_type(network, "bfloat16")
    assert network.weight.dtype == torch.float32
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True, "avx2": True}, True),
        ({"avx2": True, "avx512_bf16": False}, False),
        ({"cpu_name": "Z80"}, False),
    ],
)
def test_processors_are_told_apart_by_their_instructions(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert cpu_multiplies_bfloat16.__wrapped__() is expected


@pytest.mark.parametrize("expected", [False, True])
def test_older_releases_of_torch_are_asked_in_their_way(monkeypatch, expected):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: expected, raising=False)
    assert cpu_multiplies_bfloat16.__wrapped__() is expected


class FakeC:
    def __init__(self):
        self.calls = []

    def mallopt(self, parameter, value):
        self.calls.append((parameter, value))
        return 1


@pytest.fixture
def fake_c(monkeypatch):
    for key in [key for key in os.environ if key.startswith("MALLOC_")]:
        monkeypatch.delenv(key)
    library = FakeC()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    monkeypatch.setattr(sys, "platform", "linux")
    return library


def test_glibc_is_asked_to_keep_memory(fake_c):
    keep_freed_memory()
    m_trim_threshold, m_mmap_threshold = -1, -3  # malloc.h
    assert sorted(fake_c.calls) == [(m_mmap_threshold, 32 << 20), (m_trim_threshold, 256 << 20)]


def test_what_the_user_has_set_stays(fake_c, monkeypatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1000")
    keep_freed_memory()
    assert fake_c.calls == []


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_other_systems_are_left_alone(fake_c, monkeypatch, platform):
    monkeypatch.setattr(sys, "platform", platform)
    keep_freed_memory()
    assert fake_c.calls == []


def test_a_c_library_without_mallopt_is_left_alone(fake_c, monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    keep_freed_memory()
