"""The encoder of series: what it sees of them, their layout, and one scale a channel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.base import clone

import fewshot_sklearn
from fewshot_sklearn import (
    MAMLClassifier,
    MetaTrainer,
    ProtoNetClassifier,
    RidgeHeadClassifier,
)
from fewshot_sklearn.algorithms.protonet import ProtoNet
from fewshot_sklearn.encoders import make_encoder, n_features_out

SMALL = {"encoder": "series", "encoder__width": 8, "encoder__n_blocks": 2}
FEW = {"n_way": 3, "n_shot": 2, "n_query": 3, "n_episodes": 8, "max_epochs": 1}
FEW |= {"validation_fraction": 0, "random_state": 0, "verbose": 0, "device": "cpu"}


def build(shape, **params):
    torch.manual_seed(0)
    return make_encoder("series", shape, params).eval()


def rows(n, *shape):
    return torch.as_tensor(np.random.default_rng(0).normal(size=(n, *shape)), dtype=torch.float32)


def waves(n_classes, n_rows=12, n_times=32, seed=0):
    """Series of classes that differ in frequency, each at a random time, and their classes."""
    rng, t = np.random.default_rng(seed), np.arange(n_times)
    y = np.repeat(np.arange(n_classes), n_rows)
    phase = rng.uniform(0, 2 * np.pi, (len(y), 1))
    X = np.sin((0.2 + 0.18 * y[:, None]) * t + phase) + 0.3 * rng.normal(size=(len(y), n_times))
    return X, y


# ------------------------------------------------------------------ which rows
@pytest.mark.parametrize("shape", [(4,), (7,), (24,), (128,), (500,), (4, 1), (7, 12), (100, 6)])
def test_series_of_any_length_and_number_of_channels(shape):
    encoder = build(shape, width=8)
    features = encoder(rows(3, *shape))
    assert features.shape == (3, n_features_out(encoder, shape)) == (3, 8 * 4)
    assert torch.isfinite(features).all() and features.std(0).max() > 1e-3


def test_it_is_small():
    encoder = build((128,))
    assert 100_000 < sum(p.numel() for p in encoder.parameters()) < 130_000
    assert n_features_out(encoder, (128,)) == 256


def test_flat_rows_and_series_have_the_same_features():
    X, params = rows(4, 20, 3), {"width": 8}
    expected = build((20, 3), **params)(X)
    flat = build((60,), series_shape=(20, 3), **params)
    torch.testing.assert_close(flat(X.flatten(1)), expected)
    one = X[..., :1]
    expected = build((20, 1), **params)(one)
    torch.testing.assert_close(build((20,), **params)(one[..., 0]), expected)
    torch.testing.assert_close(build((20,), series_shape=(20,), **params)(one[..., 0]), expected)


@pytest.mark.parametrize("shape", [(3,), (3, 500), (1, 8)])
def test_series_too_short_say_what_the_layout_is(shape):
    with pytest.raises(ValueError, match=r"\(n_times, n_channels\).*X\.transpose\(0, 2, 1\)"):
        ProtoNetClassifier(encoder="series").fit(np.ones((4, *shape)), [0, 0, 1, 1])


def test_images_are_no_series():
    with pytest.raises(ValueError, match="are not series"):
        build((8, 8, 3))


# ------------------------------------------------------------------ what it sees
def test_filters_run_over_time_and_not_over_channels():
    X, encoder = rows(2, 64, 3), build((64, 3), width=8)
    other = X.clone()
    other[:, 60:] += 1.0  # late times
    seen = encoder.filters[0](X.reshape(2, 1, 64, 3).permute(0, 3, 1, 2))
    then = encoder.filters[0](other.reshape(2, 1, 64, 3).permute(0, 3, 1, 2))
    moved = (seen - then).abs().amax((0, 1, 2)) > 1e-6
    assert moved[60:].all() and not moved[:58].any()  # the shortest filter reaches two times back
    swapped = encoder(X[..., [1, 0, 2]])
    assert (swapped - encoder(X)).abs().max() > 1e-3


def test_a_shape_is_known_wherever_it_is():
    bump = torch.exp(-0.5 * (torch.arange(256.0) - 80).square() / 16)
    early, late, wider = bump, bump.roll(64), bump[::2].repeat_interleave(4)[:256]
    encoder = build((256,))
    a, b, c = encoder(torch.stack([early, late, wider]))
    assert (a - b).norm() < 0.05 * (a - c).norm()


def test_level_and_amplitude_count():
    X, encoder = rows(6, 64), build((64,))
    Z = encoder(X)
    for other in (X + 1.0, 3.0 * X):
        assert (encoder(other) - Z).norm() > 0.1 * Z.norm()


def test_norms_of_one_channel_take_no_notice_of_amplitude():
    X, encoder = rows(6, 64), build((64,), norm="instance")
    torch.testing.assert_close(encoder(3.0 * X), encoder(X), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("norm", ["group", "layer", "instance", None])
@pytest.mark.parametrize("shape", [(33,), (4, 2)])
def test_features_of_a_row_do_not_depend_on_the_others(norm, shape):
    encoder, X = build(shape, width=8, norm=norm), rows(5, *shape)
    for mode in (True, False):
        encoder.train(mode)
        with torch.no_grad():
            alone = torch.cat([encoder(x[None]) for x in X])
            torch.testing.assert_close(encoder(X), alone, rtol=1e-4, atol=1e-5)


def test_features_have_the_length_asked_for():
    X = rows(3, 40)
    plain, scaled = build((40,), width=8), build((40,), width=8, rms=0.5)
    torch.testing.assert_close(scaled(X).square().mean(1).sqrt(), torch.full((3,), 0.5))
    torch.testing.assert_close(torch.cosine_similarity(plain(X), scaled(X)), torch.ones(3))


# ------------------------------------------------------------------ one scale a channel
@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_each_channel_has_a_scale_of_its_own(flat, weighted):
    X = rows(50, 9, 2).double() * torch.tensor([1e-3, 50.0]) + torch.tensor([1.0, 1e5])
    w = torch.arange(50.0) if weighted else torch.ones(50)
    given = X.flatten(1) if flat else X
    params = {"width": 8} | ({"series_shape": (9, 2)} if flat else {})
    shape = tuple(given.shape[1:])
    learner = ProtoNet(build(shape, **params), shape)
    learner.fit_scale(given, None, w if weighted else None)
    every, weights = X.reshape(-1, 2).numpy(), np.repeat(w.numpy(), 9)
    mean = np.average(every, axis=0, weights=weights)
    std = np.sqrt(np.average((every - mean) ** 2, axis=0, weights=weights))
    expected = torch.as_tensor((X.numpy() - mean) / std, dtype=torch.float32).reshape(given.shape)
    torch.testing.assert_close(learner.scaled(given), expected, rtol=1e-4, atol=1e-4)


def test_a_channel_in_large_units_hides_no_other():
    X, y = waves(9, n_rows=16)
    both = np.stack([X, np.random.default_rng(1).normal(1e5, 1e2, X.shape)], -1)
    past = y < 6
    clf = MetaTrainer(ProtoNetClassifier(**SMALL), **FEW).fit(both[past], y[past]).estimator_
    assert clf.meta_init.tensors["x_scale"].shape == (2,)
    new, names = both[~past], y[~past]
    features = clf.fit(new[::4], names[::4]).embed(new)
    other = new.copy()
    other[..., 0] = other[::-1, :, 0]
    assert np.abs(clf.embed(other) - features).max() > 0.05 * np.abs(features).max()


# ------------------------------------------------------------------ in the estimators
@pytest.mark.parametrize("name", ["ProtoNetClassifier", "MAMLClassifier", "RidgeHeadRegressor"])
def test_a_meta_init_is_rebuilt_from_its_file(name, tmp_path):
    X, y = waves(6)
    kind = getattr(fewshot_sklearn, name)
    options = FEW | ({"n_way": None} if name.endswith("Regressor") else {})
    groups = {"groups": y} if name.endswith("Regressor") else {}
    target = X[:, 3] if groups else y
    X = np.stack([X, X[:, ::-1]], -1)
    trained = MetaTrainer(kind(**SMALL), **options).fit(X, target, **groups).estimator_
    trained.meta_init.save(tmp_path / "series.safetensors")
    told = trained.fit(X[::5], target[::5]).predict(X)
    loaded = kind(tmp_path / "series.safetensors").fit(X[::5], target[::5])
    np.testing.assert_array_equal(loaded.predict(X), told)
    alone = np.concatenate([trained.predict(X[i : i + 1]) for i in range(9)])
    assert np.allclose(alone, told[:9], rtol=1e-5)
    with pytest.raises(ValueError, match=r"rows of shape \(31, 2\)"):
        clone(trained).fit(X[:6, :31], target[:6])


def test_second_order_gradients_are_those_of_finite_differences():
    X, y = waves(2, n_rows=3, n_times=12)
    clf = MAMLClassifier(**SMALL, encoder__kernel_sizes=(3,), n_steps=2, inner_lr=0.1)
    learner = clf._new_learner((12,), None, seed=0).double()
    X, y = torch.tensor(X), torch.eye(2)[torch.tensor(y)].double()
    w = torch.ones(6).double()
    weight = learner.encoder.blocks[0].first.weight

    def loss():
        return learner.training_loss(X[None, ::2], y[None, ::2], w[None, ::2], X[None], y[None])[0]

    (gradient,) = torch.autograd.grad(loss(), [weight])
    at = np.unravel_index(int(gradient.abs().argmax()), gradient.shape)
    told = []
    for step in (1e-6, -1e-6):
        with torch.no_grad():
            weight[at] += step
            told.append(loss().item())
            weight[at] -= step
    assert gradient[at].item() == pytest.approx((told[0] - told[1]) / 2e-6, rel=1e-4)


@pytest.mark.parametrize("kind", [ProtoNetClassifier, RidgeHeadClassifier])
def test_it_learns_from_past_classes(kind, margin):
    X, y = waves(14, n_rows=20)
    past = y % 2 == 0
    options = FEW | {"n_episodes": 60, "max_epochs": 4, "lr": 3e-3}
    trained = MetaTrainer(kind(**SMALL), **options).fit(X[past], y[past]).estimator_
    asked = {"n_way": 5, "n_shot": 1, "n_query": 5, "n_episodes": 60, "random_state": 0}
    scores = [
        fewshot_sklearn.few_shot_score(one, X[~past], y[~past], **asked).mean
        for one in (trained, kind())
    ]
    margin.above(scores[0] - scores[1], 0.15)
