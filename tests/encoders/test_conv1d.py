"""Shares of dilated filters: any length and number of channels, and NaN after the end."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.utils import get_tags

import fewshot_sklearn
from fewshot_sklearn import (
    MAMLClassifier,
    MetaEmbedding,
    MetaTrainer,
    ProtoNetClassifier,
    RidgeHeadClassifier,
    few_shot_score,
)
from fewshot_sklearn.encoders import Conv1d, make_encoder, n_features_out, safe_under_vmap
from fewshot_sklearn.tasks import pad_series

SMALL = {"encoder": "conv1d", "encoder__n_dilations": 3, "encoder__n_thresholds": 2}
FEW = {"n_way": 3, "n_shot": 2, "n_query": 3, "n_episodes": 6, "max_epochs": 2}
FEW |= {"validation_fraction": 0, "random_state": 0, "verbose": 0, "device": "cpu"}
KINDS = [ProtoNetClassifier, RidgeHeadClassifier, MAMLClassifier]


def build(shape=(50,), **params):
    return make_encoder("conv1d", shape, params).eval()


def rows(n, *shape):
    return torch.as_tensor(np.random.default_rng(0).normal(size=(n, *shape)), dtype=torch.float32)


def waves(n_classes, n_times, n_channels=1, lowest=0.2, n_rows=8, seed=0):
    """Series of different length whose classes differ in frequency, and their classes."""
    rng, y = np.random.default_rng(seed), np.repeat(np.arange(n_classes), n_rows)
    made = []
    for c in y:
        t = np.arange(rng.integers(n_times - 8, n_times + 1))[:, None]
        x = np.sin((lowest + 0.2 * c) * t + rng.uniform(0, 6, n_channels))
        made.append(x + 0.3 * rng.normal(size=x.shape))
    return made, y


# ------------------------------------------------------------------ padding
@pytest.mark.parametrize("n_channels", [1, 3])
@pytest.mark.parametrize("n_times", [4, 5, 23, 60])
def test_a_series_alone_has_the_features_of_the_same_series_padded(n_times, n_channels):
    encoder, X = build(), rows(3, n_times, n_channels)
    wide = torch.full((3, 77, n_channels + 2), torch.nan)
    wide[:, :n_times, :n_channels] = X
    with torch.no_grad():
        torch.testing.assert_close(encoder(wide), encoder(X), rtol=0, atol=1e-6)


def test_features_of_a_row_do_not_depend_on_the_others():
    series, _ = waves(4, 40, 2)
    X, encoder = torch.tensor(pad_series(series), dtype=torch.float32), build()
    with torch.no_grad():
        alone = torch.cat([encoder(x[None]) for x in X])
        torch.testing.assert_close(encoder(X), alone, rtol=0, atol=1e-5)
        torch.testing.assert_close(encoder(X.flip(0)), alone.flip(0), rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(4,), (29, 12), (100,), (300, 2)])
def test_weights_do_not_depend_on_the_shape(shape):
    encoder, other = build((50,)), build(shape)
    n = 8064 + 1024
    assert n_features_out(encoder, (50,)) == n_features_out(other, shape) == n
    told, state = encoder.state_dict(), other.state_dict()
    assert told.keys() == state.keys()
    for name in told:
        torch.testing.assert_close(told[name], state[name], rtol=0, atol=0)
    X = rows(2, *shape)
    torch.testing.assert_close(encoder(X), other(X), rtol=0, atol=0)


def test_it_is_not_vmapped():
    assert not safe_under_vmap(build())


# ------------------------------------------------------------------ what it sees
def test_shares_are_those_above_thresholds():
    encoder = build((40,), n_dilations=1, n_thresholds=1)
    x = rows(1, 40)
    z = (x - x.mean()) / x.std(correction=0)
    wide = torch.nn.functional.pad(z, (4, 4))[0]
    out = torch.stack([wide[i : i + 40] for i in range(9)], -1) @ encoder.filters.T
    above = out > encoder.thresholds[0, 0, 0]
    shares = encoder(x)[0, :84] / (9 / 84**0.5) + 0.5
    assert (shares - above.float().mean(0)).abs().max() < 0.06  # near a threshold it is in part


def test_level_and_amplitude_are_seen_beside_the_shape():
    encoder, x = build(), rows(1, 50)
    Z, moved, louder = encoder(x), encoder(x + 1.0), encoder(3.0 * x)
    for other in (moved, louder):
        torch.testing.assert_close(other[:, :8064], Z[:, :8064], rtol=0, atol=5e-3)
        assert (other[:, 8064:] - Z[:, 8064:]).norm() > 0.1 * Z[:, 8064:].norm()


def test_channels_stay_apart():
    encoder, X = build(), rows(2, 50, 2)
    one, two, both = (encoder(X[..., c]) for c in ([0], [1], [0, 1]))
    swapped = encoder(X[..., [1, 0]])
    assert (swapped - both).norm() > 0.3 * both.norm()
    assert torch.isfinite(one).all() and torch.isfinite(two).all()
    kept = encoder(torch.stack([X[..., 0], torch.full_like(X[..., 0], torch.nan)], -1))
    torch.testing.assert_close(kept, one, rtol=0, atol=1e-6)


@pytest.mark.parametrize("value", [0.0, 5.0, -1e6])
def test_constant_series_have_finite_features(value):
    assert torch.isfinite(build()(torch.full((2, 30), value))).all()


def test_filters_are_learned_where_asked():
    for asked in (False, True):
        encoder = build((30,), n_dilations=2, n_thresholds=2, learn_filters=asked)
        encoder(rows(4, 30)).square().sum().backward()
        assert encoder.log_weights.grad.abs().max() > 0
        assert encoder.filters.requires_grad is asked
        if asked:
            assert encoder.filters.grad.abs().max() > 0
            assert encoder.thresholds.grad.abs().max() > 0


@pytest.mark.parametrize("shape", [(3,), (2, 500), (8, 8, 3)])
def test_what_is_no_series_is_refused(shape):
    with pytest.raises(ValueError, match="series"):
        ProtoNetClassifier(encoder="conv1d").fit(np.ones((4, *shape)), [0, 0, 1, 1])


# ------------------------------------------------------------------ in the estimators
@pytest.mark.parametrize("kind", KINDS)
def test_data_sets_of_other_shapes_are_the_past(kind, tmp_path):
    first, y_first = waves(4, 30)
    second, y_second = waves(4, 44, 2, lowest=0.3)
    X, y = pad_series([*first, *second]), np.r_[y_first, y_second + 10]
    groups = np.repeat(["a", "b"], [len(y_first), len(y_second)])
    trained = MetaTrainer(kind(**SMALL), **FEW).fit(X, y, groups=groups).estimator_
    new, y_new = waves(3, 70, 3, lowest=0.25)
    X_new = pad_series(new)
    clf = trained.fit(X_new[::2], y_new[::2])
    answers = clf.predict_proba(X_new[1::2])
    assert clf.score(X_new[1::2], y_new[1::2]) > 0.8
    wide = pad_series(new, n_times=90)
    padded = clone(clf).fit(wide[::2], y_new[::2]).predict_proba(wide[1::2])
    np.testing.assert_allclose(padded, answers, atol=1e-5)
    alone = np.concatenate([clf.predict_proba(X_new[i : i + 1]) for i in (1, 9, 17)])
    np.testing.assert_allclose(alone, answers[[0, 4, 8]], atol=1e-5)
    clf.meta_init.save(tmp_path / "waves.safetensors")
    loaded = kind(tmp_path / "waves.safetensors").fit(X_new[::2], y_new[::2])
    np.testing.assert_array_equal(loaded.predict_proba(X_new[1::2]), answers)
    score = few_shot_score(
        clone(clf), X_new, y_new, n_way=3, n_shot=1, n_query=2, n_episodes=5, random_state=0
    )
    assert score.mean > 0.6


def test_tags_say_whether_nan_is_taken(tmp_path):
    assert get_tags(ProtoNetClassifier(encoder="conv1d")).input_tags.allow_nan
    assert get_tags(ProtoNetClassifier(encoder=Conv1d((20,)))).input_tags.allow_nan
    assert not get_tags(ProtoNetClassifier(encoder="series")).input_tags.allow_nan
    assert not get_tags(ProtoNetClassifier("no such file")).input_tags.allow_nan
    series, y = waves(3, 20)
    X = pad_series(series)
    with pytest.raises(ValueError, match="NaN"):
        ProtoNetClassifier(encoder="series").fit(X, y)
    init = ProtoNetClassifier(**SMALL).fit(X, y).meta_init_
    assert get_tags(ProtoNetClassifier(init)).input_tags.allow_nan


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ((3, slice(None)), "Row 3 of X holds nothing but NaN"),
        ((3, slice(2, None)), "Row 3 of X holds 2 times"),
        ((3, 5), "Row 3 of X has NaN between other values"),
        ((3, slice(0, 2)), "Row 3 of X has NaN between other values"),
    ],
)
def test_nan_that_is_no_padding_is_refused(where, told):
    X, y = rows(6, 20).double().numpy(), [0, 0, 0, 1, 1, 1]
    fitted = ProtoNetClassifier(**SMALL).fit(X, y)
    wrong = X.copy()
    wrong[where] = np.nan
    for call in (fitted.predict, fitted.embed, lambda Z: clone(fitted).fit(Z, y)):
        with pytest.raises(ValueError, match=told):
            call(wrong)
    with pytest.raises(ValueError, match=told):
        MetaTrainer(ProtoNetClassifier(**SMALL), **FEW | {"n_way": 2, "n_shot": 1}).fit(wrong, y)
    with pytest.raises(ValueError, match="infinity"):
        fitted.predict(np.where(np.isnan(wrong), np.inf, wrong))


def test_other_channels_than_in_fit_are_refused():
    X = rows(6, 20, 3).numpy()
    clf = ProtoNetClassifier(**SMALL).fit(X, [0, 0, 0, 1, 1, 1])
    with pytest.raises(ValueError, match=r"rows of shape \(20, 2\), but fit saw .*\(20, 3\)"):
        clf.predict(X[..., :2])
    with pytest.raises(ValueError, match="10 features"):
        clf.predict(X[:, :10])


# ------------------------------------------------------------------ what ships
def test_what_ships_knows_series_better_than_untrained_weights(margin):
    series, y = waves(5, 40, n_rows=20, seed=3)
    X = np.array([x[:32, 0] * s for x, s in zip(series, np.linspace(1, 3, 100), strict=True)])
    X += np.random.default_rng(0).normal(0, 0.7, X.shape)
    clf = RidgeHeadClassifier("series-conv1d-ridge")
    asked = {"n_way": 5, "n_shot": 1, "n_query": 5, "n_episodes": 60, "random_state": 0}
    score = few_shot_score(clf, X, y, **asked).mean
    plain = few_shot_score(fewshot_sklearn.RidgeHeadClassifier(), X, y, **asked).mean
    margin.above(score - plain, 0.1)


def test_what_one_encoder_learns_is_not_in_the_next():
    one = build(learn_filters=True)
    untouched = {name: tensor.clone() for name, tensor in one.state_dict().items()}
    with torch.no_grad():
        for parameter in one.parameters():
            parameter.add_(1.0)
    for name, tensor in build(learn_filters=True).state_dict().items():
        torch.testing.assert_close(tensor, untouched[name], rtol=0, atol=0)


# ------------------------------------------------------------------ wrong turns
@pytest.mark.parametrize("fitted", [False, True])
def test_series_whose_course_is_rounded_away_are_refused(fitted):
    series, y = waves(3, 40)
    X = pad_series(series)
    clf = RidgeHeadClassifier(**SMALL, random_state=0, device="cpu", dtype="float32").fit(X, y)
    far = X + 1.7e9
    with pytest.raises(ValueError, match=r'such as X\.min\(\), or set dtype="float64"'):
        clf.predict(far) if fitted else clone(clf).fit(far, y)
    clf.fit(X + 1e4, y).predict(X + 1e4)
    clf.fit(np.where(np.isnan(X), X, 1.7e9), y)  # which are constant, and stay so
    clf.set_params(dtype="float64").fit(far, y).predict(far)


def test_series_are_not_altered_as_images_are():
    series, y = waves(3, 40, 3)
    clf = RidgeHeadClassifier(**SMALL, n_augment=2, random_state=0, device="cpu")
    with pytest.raises(ValueError, match=r"needs augment=.*for series"):
        clf.fit(pad_series(series), y)
    clf.set_params(augment=lambda X, rng: -X).fit(pad_series(series), y)


def test_frames_of_other_columns_are_refused():
    one = pd.DataFrame({"a": [0, 1, 2, 3], "b": 9})
    assert pad_series([one, one]).shape == (2, 4, 2)
    with pytest.raises(ValueError, match="whose columns differ"):
        pad_series([one, one[["b", "a"]]])
    with pytest.raises(TypeError, match="n_times must be an instance of int"):
        pad_series([one], n_times="5")


def test_features_of_series_of_another_length_than_a_meta_init_saw():
    series, _ = waves(3, 40, 3)
    X = pad_series(series)
    rows = MetaEmbedding("series-conv1d-ridge", device="cpu").fit(X).transform(X)
    assert len(rows) == len(X) and np.isfinite(rows).all()
