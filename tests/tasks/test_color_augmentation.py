"""Crops, mirror images and other colours: of the range and shape that pictures had."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from fewshot_sklearn import MetaTrainer, ProtoNetClassifier
from fewshot_sklearn.tasks import RandomColorCrop

STRENGTHS = ("crop", "flip", "brightness", "contrast", "saturation", "hue", "grey")
GREY = np.array([0.299, 0.587, 0.114])


def pictures(*shape):
    return np.random.default_rng(0).uniform(0.2, 0.8, size=shape).astype(np.float32)


def only(**strength):
    """With all strengths zero but those given."""
    return RandomColorCrop(**{name: strength.get(name, 0.0) for name in STRENGTHS})


def rng(seed=0):
    return np.random.default_rng(seed)


SHAPES = [(4, 8, 8), (4, 7, 9, 3), (4, 6, 9, 1), (4, 64), (4, 192)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64, int])
def test_without_strength_pictures_stay_as_they_are(shape, dtype):
    X = pictures(*shape)
    X = (255 * X).astype(dtype) if np.dtype(dtype).kind in "iu" else X.astype(dtype)
    same = only()(X, rng())
    assert same.shape == shape and same.dtype == np.float32
    np.testing.assert_array_equal(same, X.astype(np.float32))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("high", [255, 255.0, 1.0])
def test_pixels_stay_in_their_range_and_seeds_say_how(shape, high):
    X = pictures(*shape) * high
    X = X.astype(np.uint8) if isinstance(high, int) else X
    before = X.copy()
    strong = RandomColorCrop(brightness=1, contrast=1, saturation=1, hue=0.5, grey=0.2)
    altered = strong(X, rng(3))
    assert altered.shape == shape and altered.dtype == np.float32
    assert altered.min() >= 0 and 0.5 * high < altered.max() <= high
    np.testing.assert_array_equal(altered, strong(X, rng(3)))
    assert np.abs(altered - strong(X, rng(4))).max() > 0.05 * high
    np.testing.assert_array_equal(X, before)


def test_bytes_and_floats_are_altered_alike():
    X = (255 * pictures(5, 8, 8, 3)).astype(np.uint8)
    altered = RandomColorCrop()
    of_bytes, of_floats = altered(X, rng()), altered(X / 255, rng())
    np.testing.assert_allclose(of_bytes / 255, of_floats, atol=1e-5)


@pytest.mark.parametrize("strength", [{name: 0.5} for name in STRENGTHS])
def test_each_strength_does_something(strength):
    X = pictures(8, 9, 9, 3)
    altered = only(**strength)(X, rng())
    assert np.abs(altered - X).max() > 0.01
    assert not np.array_equal(altered, only(**strength)(X, rng(1)))


def test_flips_are_mirror_images_of_about_as_many_as_asked_for():
    X = pictures(300, 5, 4, 3)
    np.testing.assert_array_equal(only(flip=1.0)(X, rng()), X[:, :, ::-1])
    some = only(flip=0.3)(X, rng())
    mirrored = (some == X[:, :, ::-1]).all((1, 2, 3))
    np.testing.assert_array_equal(some[~mirrored], X[~mirrored])
    assert 60 < mirrored.sum() < 120


def test_crops_are_parts_of_the_picture():
    row, column = np.mgrid[0:1:33j, 0:1:33j]
    ramps = np.repeat(np.stack([row, column, 0 * row], -1)[None], 200, 0)
    down, across, none = np.moveaxis(only(crop=0.7)(ramps, rng()), -1, 0)
    assert not none.any()
    heights = down[:, -1, 0] - down[:, 0, 0]
    widths = across[:, 0, -1] - across[:, 0, 0]
    area = heights * widths
    assert area.min() > 0.25 and area.max() < 1.001
    assert np.abs(np.log(heights / widths)).max() < np.log(4 / 3) + 0.05
    assert down[:, 0].max() > 0.2 and down[:, -1].min() < 0.8  # they lie anywhere
    np.testing.assert_allclose(np.diff(down[:, 2:-2, 0], 2, axis=1), 0, atol=1e-4)


def test_brightness_multiplies():
    X = pictures(60, 5, 5, 3)
    factors = only(brightness=0.2)(X, rng()) / X
    of_each = np.broadcast_to(factors[:, :1, :1, :1], X.shape)
    np.testing.assert_allclose(factors, of_each, rtol=1e-5)
    assert 0.8 <= factors.min() < 0.95 and 1.05 < factors.max() <= 1.2


def test_contrast_keeps_the_mean_grey():
    X = pictures(6, 5, 5, 3)
    altered = only(contrast=0.2)(X, rng())
    grey = [(Z @ GREY).mean((1, 2)) for Z in (X, altered)]
    np.testing.assert_allclose(*grey, atol=1e-5)
    assert np.abs(altered.std((1, 2, 3)) / X.std((1, 2, 3)) - 1).max() > 0.05


def test_saturation_keeps_every_grey_and_grey_is_none_at_all():
    X = pictures(6, 5, 5, 3)
    np.testing.assert_allclose(only(saturation=0.2)(X, rng()) @ GREY, X @ GREY, atol=1e-5)
    grey = only(grey=1.0)(X, rng())
    np.testing.assert_allclose(grey, np.repeat((X @ GREY)[..., None], 3, -1), atol=1e-5)


def test_hue_turns_the_circle_of_colours_and_leaves_greys():
    X = pictures(300, 4, 4, 3)
    turned = only(hue=0.5)(X, rng())
    inside = ((turned > 0) & (turned < 1)).all((1, 2, 3))
    np.testing.assert_allclose(turned.mean(-1)[inside], X.mean(-1)[inside], atol=1e-5)
    far = [np.linalg.norm(Z - Z.mean(-1, keepdims=True), axis=-1) for Z in (X, turned)]
    np.testing.assert_allclose(far[0][inside], far[1][inside], atol=1e-5)
    plain = np.repeat(pictures(3, 4, 4, 1), 3, -1)
    np.testing.assert_allclose(only(hue=0.5)(plain, rng()), plain, atol=1e-5)


def test_of_one_channel_colours_do_not_count():
    X = pictures(4, 6, 6, 1)
    coloured = only(saturation=1, hue=0.5, grey=0.5)
    np.testing.assert_array_equal(coloured(X, rng()), X)
    assert np.abs(RandomColorCrop()(X, rng()) - X).max() > 0.01


def test_no_pictures_are_no_error():
    assert RandomColorCrop()(np.zeros((0, 8, 8, 3)), rng()).shape == (0, 8, 8, 3)


# ---------------------------------------------------------------- errors
@pytest.mark.parametrize(
    "bad", [{"crop": 1.0}, {"crop": -0.1}, {"flip": 2}, {"hue": 0.6}, {"grey": "no"},
            {"contrast": np.nan}, {"saturation": None}, {"brightness": True}],
)  # fmt: skip
def test_bad_strengths_are_named(bad):
    (name,) = bad
    with pytest.raises(ValueError, match=f"^{name} must be a finite number"):
        RandomColorCrop(**bad)


@pytest.mark.parametrize("shape", [(2, 8, 8, 2), (2, 8, 8, 4), (2, 3, 8, 8)])
def test_other_channels_are_an_error(shape):
    with pytest.raises(ValueError, match=r"1 or 3 channels, got|channels first"):
        RandomColorCrop()(pictures(*shape), rng())


def test_standardised_pixels_are_an_error():
    with pytest.raises(ValueError, match="before they are standardised"):
        RandomColorCrop()(pictures(2, 8, 8, 3) - 0.5, rng())


def test_rows_that_are_no_pictures_are_an_error():
    with pytest.raises(ValueError, match="not images"):
        RandomColorCrop()(np.zeros((2, 10)), rng())


# ---------------------------------------------------------------- in a meta-training
def test_it_says_what_it_is_and_can_be_pickled():
    augment = RandomColorCrop(crop=0.2)
    assert repr(augment).startswith("RandomColorCrop(crop=0.2, flip=0.5, brightness=0.3")
    again = pickle.loads(pickle.dumps(augment))
    X = pictures(3, 8, 8, 3)
    np.testing.assert_array_equal(again(X, rng()), augment(X, rng()))


@pytest.mark.parametrize(
    "encoder",
    [{"encoder": "conv4", "encoder__width": 4}, {"encoder": "resnet12", "encoder__widths": (4, 4)}],
)
@pytest.mark.parametrize("flat", [False, True])
def test_meta_training_takes_it_and_stays_reproducible(encoder, flat):
    y = np.repeat(np.arange(4), 6)
    X = (255 * pictures(24, 9, 9, 3)).astype(np.uint8)
    X = X.reshape(24, -1) if flat else X

    def digest(augment):
        trainer = MetaTrainer(
            ProtoNetClassifier(**encoder), augment=augment, n_way=2, n_shot=2, n_query=2,
            n_episodes=4, batch_size=2, validation_fraction=0, max_epochs=1, random_state=0,
            verbose=0,
        )  # fmt: skip
        return trainer.fit(X, y).meta_init_.digest

    assert digest(RandomColorCrop()) == digest(RandomColorCrop())
    assert digest(RandomColorCrop()) != digest(None)
