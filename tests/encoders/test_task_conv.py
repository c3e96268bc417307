"""Convolutions of patches: they are torch's."""

import pytest
import torch
from torch import nn

from fewshot_sklearn.encoders import written_out
from fewshot_sklearn.encoders._task_conv import TaskConv

KINDS = {
    "3 x 3": {"kernel_size": 3, "padding": 1},
    "1 x 1": {"kernel_size": 1},
    "over time": {"kernel_size": (1, 5), "padding": (0, 2)},
    "no bias": {"kernel_size": 3, "padding": 1, "bias": False},
    "nothing around": {"kernel_size": (3, 2)},
}


@pytest.mark.parametrize("kind", KINDS)
def test_patches_give_what_torch_gives(kind):
    torch.manual_seed(0)
    conv, x = TaskConv(3, 5, **KINDS[kind]).double(), torch.randn(4, 3, 7, 6).double()
    torch.testing.assert_close(conv._of_patches(x), nn.Conv2d.forward(conv, x))


@pytest.mark.parametrize(
    ("more", "patches"),
    [
        ({}, True),
        ({"stride": 2}, False),
        ({"groups": 2}, False),
        ({"padding_mode": "reflect"}, False),
    ],
)
def test_patches_are_for_gpus_where_tasks_go_at_once(monkeypatch, more, patches):
    asked = []
    monkeypatch.setattr(TaskConv, "_of_patches", lambda self, x: asked.append(x.device.type) or x)
    conv = TaskConv(2, 2, 3, padding=1, device="meta", **more)
    conv(torch.ones(1, 2, 4, 4, device="meta"))
    assert not asked
    with written_out():
        conv(torch.ones(1, 2, 4, 4, device="meta"))
        TaskConv(2, 2, 3)(torch.ones(1, 2, 4, 4))
    assert asked == ["meta"] * patches
