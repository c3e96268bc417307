"""Random numbers of one's own are those that seeding torch would give, and no other's."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.func import vmap

from fewshot_sklearn.encoders import MLP, Conv4
from fewshot_sklearn.learners import OwnRandomNumbers, draws

DRAWN = {
    "layers": lambda: nn.Sequential(nn.Linear(3, 4), nn.Conv2d(1, 2, 3), nn.LSTM(2, 3)),
    "attention": lambda: nn.TransformerEncoderLayer(8, 2),
    "embedding": lambda: nn.Embedding(5, 3),
    "init": lambda: nn.init.orthogonal_(torch.empty(3, 3)) + nn.init.trunc_normal_(torch.empty(3)),
    "rand": lambda: torch.rand(4) + torch.rand_like(torch.zeros(4)),
    "randn": lambda: (
        torch.randn(4) + torch.randn_like(torch.zeros(4)) + torch.normal(0.0, 1.0, (4,))
    ),
    "randint": lambda: torch.randint(9, (4,)) + torch.randint(2, 9, (4,)) + torch.randperm(4),
    "in place": lambda: torch.empty(4).exponential_() + torch.empty(4).uniform_(),
    "bernoulli": lambda: torch.bernoulli(torch.full((9,), 0.5)),
    "multinomial": lambda: torch.multinomial(torch.ones(9), 3),
    "dropout": lambda: nn.Dropout(0.5)(torch.ones(20)),
    "dropout of tasks": lambda: vmap(nn.Dropout(0.5), randomness="different")(torch.ones(3, 9)),
}


def test_dropout_of_a_gpu_draws_from_its_own():
    x, before = torch.ones(10_000, requires_grad=True), torch.get_rng_state()
    with OwnRandomNumbers(0):
        out, kept = torch.ops.aten.native_dropout(x, 0.25, True)
    out.sum().backward()
    assert torch.equal(before, torch.get_rng_state())
    torch.testing.assert_close(out, kept / 0.75)
    torch.testing.assert_close(x.grad, kept / 0.75)
    assert kept.float().mean() == pytest.approx(0.75, abs=0.02)
    with OwnRandomNumbers(0):
        assert torch.equal(torch.ops.aten.native_dropout(x, 0.25, True)[0], out)
        assert torch.equal(torch.ops.aten.native_dropout(x, 0.25, False)[0], x)
        assert not torch.ops.aten.native_dropout(x, 1.0, True)[0].any()


def as_list(made):
    return list(made.parameters()) if isinstance(made, nn.Module) else [made]


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_they_are_those_of_the_seed_and_torch_is_left_alone(draw):
    torch.manual_seed(3)
    expected = as_list(draw())
    before = torch.get_rng_state()
    with OwnRandomNumbers(3):
        drawn = as_list(draw())
    assert all(map(torch.equal, expected, drawn))
    assert torch.equal(before, torch.get_rng_state())


def test_seeding_anew():
    numbers = OwnRandomNumbers(0)
    with numbers:
        first = torch.rand(3)
        assert not torch.equal(first, torch.rand(3))
        numbers.seed(0)
        assert torch.equal(first, torch.rand(3))


def test_tasks_have_numbers_of_their_own():
    cpu = torch.device("cpu")
    drawn = OwnRandomNumbers(7).of_each(5, (2, 3), cpu)
    assert drawn.shape == (5, 2, 3) and len(drawn.unique()) == 30
    assert torch.equal(drawn[2:], OwnRandomNumbers(9).of_each(3, (2, 3), cpu))


def test_a_generator_that_is_handed_in_is_used():
    with OwnRandomNumbers(0):
        drawn = torch.rand(3, generator=torch.Generator().manual_seed(8))
    torch.manual_seed(8)
    assert torch.equal(drawn, torch.rand(3))


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (MLP((4,)), False),
        (MLP((4,), dropout=0.1), True),
        (Conv4((8, 8)), False),
        (nn.Sequential(nn.Linear(2, 2), nn.GELU()), False),
        (nn.Dropout(0.0), False),
        (nn.Sequential(nn.Dropout2d(0.2)), True),
        (nn.LSTM(2, 2, num_layers=2, dropout=0.1), True),
        (nn.TransformerEncoderLayer(4, 2, dropout=0.1), True),
        (nn.TransformerEncoderLayer(4, 2, dropout=0.0), False),
        (nn.RReLU(), True),
        (type("Theirs", (nn.Module,), {"__module__": "elsewhere"})(), True),
    ],
    ids=lambda v: type(v).__name__,
)
def test_which_networks_draw(module, expected):
    assert draws(module) is expected
