"""Encoders: by name, by class, as a module; a row's features are its own."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fewshot_sklearn import MetaTrainer, ProtoNetClassifier
from fewshot_sklearn.encoders import ENCODERS, make_encoder, n_features_out
from fewshot_sklearn.tasks import image_shape

#: Encoders of single numbers, which refuse rows of several axes.
OF_NUMBERS = ("residual", "spline")
SMALL = {
    "identity": {},
    "mlp": {"hidden": [8, 5], "norm": "layer"},
    "fourier": {"width": 6},
    "residual": {},
    "spline": {},
    "conv4": {"width": 8},
    "resnet8": {"widths": [4, 8, 8]},
    "resnet12": {"widths": [4, 4, 8, 8]},
    "series": {"width": 8},
    "conv1d": {"n_dilations": 3, "n_thresholds": 2},
}


def build(encoder, shape, **params):
    torch.manual_seed(0)
    return make_encoder(encoder, shape, params).eval()


def rows(n, *shape):
    return torch.as_tensor(np.random.default_rng(0).normal(size=(n, *shape)), dtype=torch.float32)


class Summed(nn.Module):
    """An encoder of a user's own, which need not know the shape of its rows."""

    def __init__(self, factor=1.0):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(float(factor)))

    def forward(self, x):
        return self.factor * x.flatten(1).sum(1, keepdim=True)


# ---------------------------------------------------------------- building
@pytest.mark.parametrize("name", ENCODERS)
def test_a_name_gives_an_encoder_of_that_kind(name):
    shape = (64,) if name in OF_NUMBERS else (8, 8)
    encoder = build(name, shape, **SMALL[name])
    assert type(encoder) is ENCODERS[name]
    assert encoder(rows(3, *shape)).shape == (3, n_features_out(encoder, shape))


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("shape", [(2,), (8, 8), (8, 8, 3), (4, 4, 4, 2)])
def test_rows_of_a_wrong_rank_are_refused_or_flattened_as_is_said(name, shape):
    flattens, is_list = name in ("identity", "mlp", "fourier"), len(shape) == 1
    fits = flattens or (is_list and name in OF_NUMBERS)
    fits |= name in ("series", "conv1d") and shape == (8, 8)
    fits |= name in ("conv4", "resnet8", "resnet12") and len(shape) in (2, 3)
    if fits:
        assert n_features_out(build(name, shape, **SMALL[name]), shape) >= 1
        return
    with pytest.raises(ValueError, match=r"shape .*(X of shape|pass X\.|Pass X)"):
        build(name, shape, **SMALL[name])


def test_params_reach_the_constructor():
    encoder = build("mlp", (3,), hidden=[7, 5], dropout=0.5, activation="tanh")
    kinds = [type(layer) for layer in encoder.layers]
    assert kinds == [nn.Linear, nn.Tanh, nn.Dropout] * 2
    assert n_features_out(encoder, (3,)) == 5
    assert n_features_out(build("conv4", (8, 8), width=4), (8, 8)) == 4


@pytest.mark.parametrize("params", [{}, {"factor": 3.0}])
def test_a_class_is_built_with_its_params_and_a_shape_only_if_it_takes_one(params):
    encoder = make_encoder(Summed, (4,), params)
    assert encoder.factor.item() == params.get("factor", 1.0)
    assert isinstance(make_encoder(ENCODERS["mlp"], (4,), {"hidden": [2]}), ENCODERS["mlp"])


def test_a_module_is_copied():
    module = nn.Linear(4, 2)
    encoder = make_encoder(module, (4,), {})
    assert encoder is not module
    assert torch.equal(encoder.weight, module.weight)
    assert encoder.weight.data_ptr() != module.weight.data_ptr()


def unchanged(module, act):
    before, mode = copy.deepcopy(module.state_dict()), module.training
    strides = [p.stride() for p in module.parameters()]
    act(module)
    assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())
    assert module.training == mode
    assert all(p.requires_grad and p.grad is None for p in module.parameters())
    assert strides == [p.stride() for p in module.parameters()]


@pytest.mark.parametrize("training", [True, False])
def test_fit_and_meta_training_never_change_a_module_of_the_user(training):
    y = np.repeat(np.arange(6), 8)
    X = np.random.default_rng(0).normal(size=(48, 1, 4, 4)).astype(np.float32)
    convolving = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Flatten())

    def fit(module):
        ProtoNetClassifier(encoder=module).fit(X, y).predict(X)

    def meta_train(module):
        estimator = ProtoNetClassifier(encoder=module)
        MetaTrainer(
            estimator, n_way=2, n_shot=2, n_query=2, n_episodes=16, max_epochs=1, lr=0.1,
            verbose=0, random_state=0,
        ).fit(X, y)  # fmt: skip
        assert estimator.encoder is module

    unchanged(convolving.train(training), fit)
    unchanged(convolving.train(training), meta_train)


# ---------------------------------------------------------------- waves
def test_waves_are_random_features_of_a_gaussian_kernel():
    encoder = build("fourier", (3,), width=60_000, scale=0.7)
    X = rows(5, 3)
    with torch.no_grad():
        similarity = encoder(X) @ encoder(X).T
    expected = torch.exp(-0.5 * 0.7**2 * torch.cdist(X, X).square())
    torch.testing.assert_close(similarity, expected, atol=0.03, rtol=0)


def test_waves_take_rows_of_any_shape_and_learn_both_parts():
    encoder = build("fourier", (2, 4), width=6)
    encoder(rows(3, 2, 4)).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in encoder.parameters())


# ---------------------------------------------------------------- images
@pytest.mark.parametrize("name", ["conv4", "resnet8", "resnet12"])
@pytest.mark.parametrize("shape", [(8, 8, 1), (8, 8, 3), (9, 7, 3)])
def test_flat_rows_and_images_have_the_same_features(name, shape):
    images = rows(4, *shape)
    encoder = build(name, shape, **SMALL[name])
    expected = encoder(images)
    flat = build(name, (math.prod(shape),), image_shape=shape, **SMALL[name])
    torch.testing.assert_close(flat(images.flatten(1)), expected)
    if shape[0] == shape[1]:  # a square needs no telling
        square = build(name, (math.prod(shape),), **SMALL[name])
        torch.testing.assert_close(square(images.flatten(1)), expected)
    if shape[2] == 1:
        grey = build(name, shape[:2], **SMALL[name])
        torch.testing.assert_close(grey(images[..., 0]), expected)


@pytest.mark.parametrize("name", ["conv4", "resnet8", "resnet12"])
@pytest.mark.parametrize(("turns", "shape"), [(4, (8, 8)), (4, (8, 8, 3)), (2, (8, 6, 3))])
@pytest.mark.parametrize("mirrored", [False, True])
def test_views_are_turned_and_mirrored_images_side_by_side(name, turns, shape, mirrored):
    images = rows(3, *shape)
    one = build(name, shape, **SMALL[name])
    several = build(name, shape, turns=turns, mirrored=mirrored, **SMALL[name])
    for a, b in zip(one.parameters(), several.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    views = [torch.rot90(images, k, (1, 2)) for k in range(0, 4, 4 // turns)]
    views += [view.flip(2) for view in views] * mirrored
    torch.testing.assert_close(several(images), torch.cat([one(view) for view in views], 1))
    assert several.n_views == len(views)
    assert n_features_out(several, shape) == len(views) * n_features_out(one, shape)


@pytest.mark.parametrize("name", ["conv4", "resnet8", "resnet12"])
def test_features_of_every_view_have_the_length_asked_for(name):
    images = rows(3, 8, 8)
    plain, scaled = (build(name, (8, 8), turns=2, rms=r, **SMALL[name]) for r in (None, 0.5))
    for before, after in zip(plain(images).chunk(2, 1), scaled(images).chunk(2, 1), strict=True):
        torch.testing.assert_close(after.square().mean(1).sqrt(), torch.full((3,), 0.5))
        torch.testing.assert_close(F.cosine_similarity(before, after), torch.ones(3))


OF_IMAGES = ["conv4", "resnet8", "resnet12"]


@pytest.mark.parametrize("name", OF_IMAGES)
@pytest.mark.parametrize("shape", [(33, 45, 3), (40, 40)])
def test_maps_are_pooled_as_asked(name, shape):
    images = rows(3, *shape)
    whole, mean, moments = (
        build(name, shape, pool=pool, **SMALL[name])(images) for pool in (None, "mean", "moments")
    )
    maps = whole.unflatten(1, (8, -1))
    torch.testing.assert_close(mean, maps.mean(2))
    expected = torch.cat([maps.mean(2), (maps.var(2, correction=0) + 1e-6).sqrt()], 1)
    torch.testing.assert_close(moments, expected)
    given = build(name, shape, **SMALL[name])(images)
    torch.testing.assert_close(given, mean if name == "resnet12" else whole)


@pytest.mark.parametrize("name", OF_IMAGES)
@pytest.mark.parametrize("shape", [(12, 9, 3), (8, 8, 1)])
def test_moments_of_colors_stand_beside_the_rest(name, shape):
    images = rows(4, *shape)
    plain = build(name, shape, **SMALL[name])(images)
    encoder = build(name, shape, color_moments=True, **SMALL[name])
    both = encoder(images)
    torch.testing.assert_close(both[:, :-32], plain)
    x = images.flatten(1, 2)
    mean, variance = x.mean(1), x.var(1, correction=0) + 1e-6
    third = (x - x.mean(1, keepdim=True)).pow(3).mean(1) / (variance + 0.01)
    layer = encoder.color_moments.layer
    torch.testing.assert_close(both[:, -32:], layer(torch.cat([mean, variance.sqrt(), third], 1)))


@pytest.mark.parametrize("name", OF_IMAGES)
def test_moments_of_colors_are_of_the_picture_not_of_its_views(name):
    images = rows(3, 8, 8, 3)
    params = SMALL[name] | {"color_moments": True, "rms": 0.5}
    one, several = (build(name, (8, 8, 3), turns=turns, **params) for turns in (1, 4))
    first, second = one(images)[:, -32:], several(images)[:, -32:]
    torch.testing.assert_close(first, second)
    torch.testing.assert_close(first.square().mean(1).sqrt(), torch.full((3,), 0.5))
    assert n_features_out(several, (8, 8, 3)) == 4 * (n_features_out(one, (8, 8, 3)) - 32) + 32


def test_moments_of_colors_tell_what_norms_take_away(margin):
    """Plain pictures of one colour each differ by nothing but that."""
    rng = np.random.default_rng(0)
    colors = rng.uniform(0.2, 0.8, (12, 3))
    y = np.repeat(np.arange(12), 12)
    X = 255 * (colors[y][:, None, None] + rng.normal(0, 0.02, (144, 12, 12, 3))).clip(0, 1)
    X, past = X.astype(np.uint8), y < 8
    scores = []
    for moments in (False, True):
        made = ProtoNetClassifier(
            encoder="conv4", encoder__width=8, encoder__pool="mean", encoder__color_moments=moments
        )
        trainer = MetaTrainer(
            made, n_way=4, n_shot=1, n_query=3, n_episodes=32, batch_size=4, max_epochs=5, lr=5e-3,
            validation_fraction=0, random_state=0, verbose=0,
        ).fit(X[past], y[past])  # fmt: skip
        scores.append(trainer.meta_init_.provenance["scores"]["train_loss"])
    margin.below(scores[1], 0.3)


@pytest.mark.parametrize("name", OF_IMAGES)
@pytest.mark.parametrize("moments", [False, True])
def test_gradients_are_finite_on_plain_pictures(name, moments):
    encoder = build(name, (16, 16, 3), pool="moments", color_moments=moments, **SMALL[name])
    images = torch.full((2, 16, 16, 3), 0.3, requires_grad=True)
    encoder(images).square().sum().backward()
    assert torch.isfinite(images.grad).all()
    assert all(torch.isfinite(p.grad).all() for p in encoder.parameters())


@pytest.mark.parametrize("name", OF_IMAGES)
@pytest.mark.parametrize("size", [32, 33, 84])
def test_bytes_and_floats_in_color_are_learned_from_alike(name, size):
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(4), 3)
    X = rng.integers(0, 256, (12, size, size, 3), dtype=np.uint8)

    def fitted(rows):
        made = ProtoNetClassifier(
            encoder=name, **{f"encoder__{k}": v for k, v in SMALL[name].items()}
        )
        trainer = MetaTrainer(
            made, n_way=2, n_shot=1, n_query=1, n_episodes=2, batch_size=2, max_epochs=1,
            validation_fraction=0, random_state=0, verbose=0,
        )  # fmt: skip
        clf = trainer.fit(rows, y).estimator_.fit(rows, y)
        alone = np.concatenate([clf.predict_proba(rows[i : i + 1]) for i in range(4)])
        np.testing.assert_allclose(alone, clf.predict_proba(rows)[:4], atol=1e-4)
        return clf.predict_proba(rows)

    np.testing.assert_allclose(fitted(X), fitted(X / 255), atol=5e-3)


def test_resnet12_learns_to_tell_colors_and_shapes_apart(margin):
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(6), 16)
    X = rng.normal(0, 0.05, (96, 21, 21, 3)) + 0.5
    for i, c in enumerate(y):  # a bar that stands or lies, in one of three colours, anywhere
        at = rng.integers(4, 16)
        bar = (slice(None), slice(at, at + 3)) if c < 3 else (slice(at, at + 3), slice(None))
        X[i][(*bar, c % 3)] += 0.4
    trainer = MetaTrainer(
        ProtoNetClassifier(encoder="resnet12", encoder__widths=(8, 16, 16, 32)),
        n_way=5, n_shot=1, n_query=3, n_episodes=16, batch_size=2, max_epochs=6, lr=3e-3,
        validation_fraction=0, random_state=0, verbose=0,
    )  # fmt: skip
    losses = trainer.fit(X.clip(0, 1), y).history[:, "train_loss"]
    margin.below(losses[-1], 0.5 * np.log(5))


@pytest.mark.parametrize(
    ("shape", "n_features"),
    [
        ((28, 28), 8), ((16, 16), 8), ((84, 84), 8 * 25), ((5, 7), 8), ((32, 8), 8 * 4),
        ((1, 1), 8), ((3, 1, 2), 8 * 3), ((33, 20, 3), 8 * 2),
    ],
)  # fmt: skip
def test_conv4_of_any_size(shape, n_features):
    encoder = build("conv4", shape, width=8)
    features = encoder(rows(2, *shape))
    assert features.shape == (2, n_features)
    assert torch.isfinite(features).all()


@pytest.mark.parametrize(("name", "params"), [("conv4", {"width": 8}), ("resnet8", {})])
@pytest.mark.parametrize(("pools", "side"), [(4, 1), (3, 3), (2, 7), (1, 14), (0, 28)])
def test_fewer_poolings_leave_a_larger_map(name, params, pools, side):
    encoder = build(name, (28, 28), pools=pools, **params)
    assert n_features_out(encoder, (28, 28)) == encoder.map_channels * side**2
    parameters = build(name, (28, 28), **params).state_dict()
    encoder.load_state_dict(parameters)  # the same ones


@pytest.mark.parametrize("shape", [(28, 28), (84, 84, 3), (5, 9), (1, 1), (17, 3, 3)])
def test_resnet12_has_as_many_features_as_its_last_width(shape):
    features = build("resnet12", shape, **SMALL["resnet12"])(rows(2, *shape))
    assert features.shape == (2, 8)
    assert torch.isfinite(features).all()


def test_resnet12_is_the_usual_one():
    encoder = build("resnet12", (8, 8, 3))
    assert n_features_out(encoder, (8, 8, 3)) == 640
    assert sum(isinstance(m, nn.Conv2d) for m in encoder.modules()) == 16  # 12 and 4 shortcuts
    assert sum(p.numel() for p in encoder.parameters()) == pytest.approx(12.4e6, rel=0.02)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((5, 7), (5, 7, 1)), ((5, 7, 2), (5, 7, 2)), ((784,), (28, 28, 1)),
        ((3072,), (32, 32, 3)), ((1,), (1, 1, 1)),
    ],
)  # fmt: skip
def test_image_shape(given, expected):
    assert image_shape(given) == expected


@pytest.mark.parametrize("given", [(2,), (785,), (1, 2, 3, 4)])
def test_what_is_no_image_is_an_error(given):
    with pytest.raises(ValueError, match="not images"):
        image_shape(given)


# ---------------------------------------------------------------- a row's features are its own
@pytest.mark.parametrize("norm", ["group", "layer", "instance", None])
@pytest.mark.parametrize("name", ["conv4", "resnet8", "resnet12"])
def test_image_features_do_not_depend_on_the_other_rows(name, norm):
    encoder = build(name, (32, 32), norm=norm, **SMALL[name])
    for mode in (True, False):
        alone_and_together(encoder.train(mode), rows(4, 32, 32))


@pytest.mark.parametrize("norm", ["group", "layer", "instance", None])
@pytest.mark.parametrize("name", ["conv4", "resnet8", "resnet12"])
def test_a_map_of_one_pixel_is_not_normalised_away(name, norm):
    encoder = build(name, (12, 12), norm=norm, **SMALL[name])
    alone_and_together(encoder, rows(4, 12, 12))
    assert encoder(rows(4, 12, 12)).std(0).max() > 1e-3  # rows differ


@pytest.mark.parametrize("norm", ["layer", None])
@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu", "silu"])
def test_mlp_features_do_not_depend_on_the_other_rows(norm, activation):
    encoder = build("mlp", (5,), hidden=[8, 8], norm=norm, activation=activation)
    for mode in (True, False):
        alone_and_together(encoder.train(mode), rows(6, 5))


def alone_and_together(encoder, X):
    with torch.no_grad():
        together = encoder(X)
        alone = torch.cat([encoder(x[None]) for x in X])
    assert together.std() > 0
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_dropout_is_for_training_only():
    encoder, X = build("mlp", (5,), hidden=[64], dropout=0.5), rows(3, 5)
    assert torch.equal(encoder(X), encoder(X))
    encoder.train()
    assert not torch.equal(encoder(X), encoder(X))


# ---------------------------------------------------------------- errors
@pytest.mark.parametrize("encoder", ["resnet", "", 3, None, dict, [nn.Linear(2, 2)]])
def test_what_is_no_encoder_is_an_error(encoder):
    with pytest.raises(ValueError, match="encoder must be"):
        make_encoder(encoder, (4,), {})


@pytest.mark.parametrize(
    ("name", "params", "told"),
    [
        ("mlp", {"width": 3}, "width"),
        ("mlp", {"hidden": 3}, "hidden"),
        ("mlp", {"norm": "batch"}, "norm"),
        ("mlp", {"activation": "step"}, "activation"),
        ("identity", {"hidden": [3]}, "hidden"),
        ("fourier", {"scale": 0.0}, "encoder__scale must be a positive"),
        ("conv4", {"norm": "batch"}, "norm"),
        ("conv4", {"turns": 3}, "turns must be 1, 2 or 4"),
        ("resnet12", {"image_shape": [8, 2], "turns": 4}, "square images"),
        ("conv4", {"rms": 0.0}, "encoder__rms must be a positive"),
        ("conv4", {"pool": "max"}, "encoder__pool must be 'mean', 'moments' or None"),
        ("resnet12", {"color_moments": 3}, "encoder__color_moments must be"),
        ("conv4", {"image_shape": [3, 3]}, "image_shape"),
        ("conv4", {"image_shape": "4x4"}, "image_shape"),
        ("resnet12", {"norm": "batch"}, "norm"),
        ("resnet12", {"width": 8}, "width"),
        ("series", {"norm": "batch"}, "norm"),
        ("series", {"kernel_sizes": (3, 4)}, r"kernel_sizes must be odd, got \[4\]"),
        ("series", {"width": 3}, "width must be at least the number of kernel_sizes, 4"),
        ("series", {"n_blocks": 0}, "encoder__n_blocks must be"),
        ("series", {"series_shape": (3, 3)}, "encoder__series_shape"),
    ],
)
def test_bad_arguments_are_named(name, params, told):
    with pytest.raises(ValueError, match=told):
        make_encoder(name, (4, 4), params)


def test_a_module_takes_no_params():
    with pytest.raises(ValueError, match="already built"):
        make_encoder(nn.Linear(4, 2), (4,), {"bias": False})


def test_rows_that_are_no_images_say_what_to_do():
    with pytest.raises(ValueError, match="encoder__image_shape"):
        ProtoNetClassifier(encoder="conv4").fit(np.ones((4, 10)), [0, 0, 1, 1])


@pytest.mark.parametrize(
    "module", [nn.Identity(), nn.Sequential(nn.Flatten(0), nn.Unflatten(0, (1, -1)))]
)
def test_an_encoder_must_give_one_vector_a_row(module):
    with pytest.raises(ValueError, match=r"must map \(n, \*input_shape\) to \(n, n_features\)"):
        n_features_out(module, (4, 4))


def test_a_module_for_rows_of_another_shape_is_a_clear_error():
    with pytest.raises(ValueError, match="encoder"):
        ProtoNetClassifier(encoder=nn.Linear(3, 2)).fit(np.ones((4, 10)), [0, 0, 1, 1])


def test_counting_the_features_leaves_the_encoder_in_its_mode():
    for mode in (True, False):
        encoder = build("mlp", (5,), hidden=[4]).train(mode)
        n_features_out(encoder, (5,))
        assert encoder.training == mode


def test_a_shape_of_images_against_that_of_the_rows_is_refused():
    make_encoder("conv4", (12, 9, 3), {"image_shape": (12, 9, 3)})
    with pytest.raises(ValueError, match=r"image_shape=\(9, 12, 3\) is for flat rows"):
        make_encoder("conv4", (12, 9, 3), {"image_shape": (9, 12, 3)})
