"""A smaller step on the encoder than on the head."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fewshot_sklearn import ESMetaTrainer, MAMLRegressor, MetaTrainer, RidgeHeadRegressor
from fewshot_sklearn.datasets import make_sinusoid_tasks

FEW = {"n_episodes": 16, "max_epochs": 1, "verbose": 0, "random_state": 0, "device": "cpu"}


def trained(kind=RidgeHeadRegressor, trainer=MetaTrainer, **options):
    past = make_sinusoid_tasks(20, random_state=0)
    made = trainer(kind(encoder="mlp", encoder__hidden=(8,)), **FEW | options)
    return made.fit(past.data, past.target, groups=past.groups)


@pytest.mark.parametrize("kind", [RidgeHeadRegressor, MAMLRegressor])
def test_the_encoder_takes_its_own_steps(kind):
    with torch.random.fork_rng():
        still = trained(kind, encoder_lr=0.0, max_epochs=2)
    start = trained(kind, max_epochs=0)
    for key, t in start.meta_init_.tensors.items():
        if key.startswith("encoder."):
            np.testing.assert_array_equal(still.meta_init_.tensors[key], t)
    moved = [k for k in start.meta_init_.tensors if k.startswith(("head.", "prior_"))]
    assert any(
        np.abs(still.meta_init_.tensors[k] - start.meta_init_.tensors[k]).max() > 0 for k in moved
    )


def test_what_is_the_rate_of_all_is_no_other_training():
    # groups of parameters are differentiated alike
    one, two = trained(lr=3e-3), trained(lr=3e-3, encoder_lr=3e-3)
    for key, t in one.meta_init_.tensors.items():
        np.testing.assert_allclose(two.meta_init_.tensors[key], t, rtol=1e-5, atol=1e-7)


def test_rates_of_all_groups_are_as_asked():
    groups = trained(lr=1e-2, encoder_lr=1e-3).optimizer_.param_groups
    assert sorted(group["lr"] for group in groups) == pytest.approx([1e-3, 1e-2, 1e-1])


def test_evolution_has_it_too():
    made = trained(trainer=ESMetaTrainer, n_perturbations=2, encoder_lr=1e-4)
    assert 1e-4 in [group["lr"] for group in made.optimizer_.param_groups]


def test_groups_of_the_users_own_are_not_mixed_with_it():
    with pytest.raises(ValueError, match=r"encoder_lr=.* and optimizer__param_groups both say"):
        trained(encoder_lr=1e-3, optimizer__param_groups=[("encoder.*", {"lr": 1e-4})])
