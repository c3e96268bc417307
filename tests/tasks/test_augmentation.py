"""Turned images are new classes; random affine maps follow the generator they are given."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fewshot_sklearn import MetaTrainer, ProtoNetClassifier
from fewshot_sklearn.tasks import (
    ArrayTasks,
    Augmentation,
    ClassEpisodes,
    Episodes,
    RandomAffine,
    RandomElastic,
    add_rotations,
)

LIMITS = ("degrees", "scale", "shear", "translate")


def images(*shape):
    return np.random.default_rng(0).uniform(size=shape).astype(np.float32)


def only(**limit):
    """A map with all limits zero but those given."""
    return RandomAffine(**{name: limit.get(name, 0.0) for name in LIMITS})


# ---------------------------------------------------------------- add_rotations
@pytest.mark.parametrize("shape", [(3, 5, 5), (3, 5, 5, 2)])
def test_each_image_comes_back_turned_as_a_class_of_its_own(shape):
    X, y, groups = images(*shape), ["a", "b", "a"], [7, 8, 7]
    turned, labels, columns = add_rotations(X, y, groups)
    assert turned.shape == (12, *shape[1:])
    for k in range(4):
        part = slice(3 * k, 3 * k + 3)
        np.testing.assert_array_equal(turned[part], [np.rot90(x, k) for x in X])
        assert labels[part].tolist() == [f"{label}@{90 * k}" for label in y]
        assert columns[part].tolist() == groups
    assert turned.dtype == X.dtype


@pytest.mark.parametrize("labels", [[1, 2, 1], np.array(["x", "yy", "x"], dtype=object)])
def test_labels_of_any_kind_become_strings(labels):
    _, y = add_rotations(images(3, 2, 2), labels)
    assert len(set(y)) == 8


@pytest.mark.parametrize("shape", [(3, 4, 5), (3,), (3, 4, 5, 1), (3, 3, 8, 8), (3, 8, 6, 3)])
def test_what_is_not_square_is_an_error(shape):
    with pytest.raises(ValueError, match=r"square images .* channels last.*got \(3"):
        add_rotations(np.zeros(shape), np.zeros(3))


@pytest.mark.parametrize("channels", [1, 3])
def test_flat_rows_are_turned_as_their_pictures_are(channels):
    X = (255 * images(3, 5, 5, channels)).astype(np.uint8)
    y, groups, prices = ["a", "b", "a"], [7, 8, 7], np.array([0.5, 1.5, 2.5])
    flat = add_rotations(X.reshape(3, -1), y, groups, prices)
    whole = add_rotations(X, y, groups, prices)
    np.testing.assert_array_equal(flat[0].reshape(12, 5, 5, channels), whole[0])
    assert flat[0].dtype == np.uint8
    for column, expected in zip(flat[1:], whole[1:], strict=True):
        np.testing.assert_array_equal(column, expected)
    assert whole[3].tolist() == 4 * prices.tolist()


def test_flat_rows_that_are_no_square_pictures_say_what_to_do():
    with pytest.raises(ValueError, match=r"not images\. Pass X of shape"):
        add_rotations(np.zeros((3, 15)), np.zeros(3))


def test_columns_of_another_length_are_named():
    X = images(3, 4, 4, 3)
    with pytest.raises(ValueError, match=r"y must have 3 rows, as X has, got \(2,\)"):
        add_rotations(X, [0, 1])
    with pytest.raises(ValueError, match=r"others\[1\] must have 3 rows"):
        add_rotations(X, [0, 1, 1], [0, 0, 0], [1])


# ---------------------------------------------------------------- RandomAffine
@pytest.mark.parametrize("shape", [(4, 8, 8), (4, 6, 9), (4, 6, 9, 3), (4, 64), (4, 192)])
def test_with_all_limits_zero_nothing_moves(shape):
    X = images(*shape)
    moved = only()(X, np.random.default_rng(0))
    assert moved.shape == shape
    np.testing.assert_allclose(moved, X, atol=1e-5)


@pytest.mark.parametrize("limit", [{name: 0.4} for name in LIMITS[1:]] + [{"degrees": 30.0}])
def test_each_limit_moves_something_and_the_generator_says_how(limit):
    X, augment = images(3, 9, 9), only(**limit)
    moved = augment(X, np.random.default_rng(0))
    assert not np.allclose(moved, X, atol=0.01)
    assert np.array_equal(moved, augment(X, np.random.default_rng(0)))
    assert not np.allclose(moved, augment(X, np.random.default_rng(1)), atol=0.01)


def test_each_image_moves_in_its_own_way_and_all_its_channels_together():
    X = np.repeat(images(1, 9, 9, 1), 3, axis=0)
    moved = RandomAffine()(np.concatenate([X, X], axis=-1), np.random.default_rng(0))
    np.testing.assert_array_equal(moved[..., 0], moved[..., 1])
    assert not np.allclose(moved[0], moved[1], atol=0.01)


def test_flat_rows_move_as_their_images_do():
    X = images(3, 8, 8)
    flat = RandomAffine()(X.reshape(3, -1), np.random.default_rng(0))
    np.testing.assert_array_equal(
        flat.reshape(3, 8, 8), RandomAffine()(X, np.random.default_rng(0))
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.float64, bool])
def test_any_type_becomes_float32_and_the_input_is_left_alone(dtype):
    X = (images(2, 6, 6) > 0.5).astype(dtype)
    before = X.copy()
    moved = RandomAffine()(X, np.random.default_rng(0))
    assert moved.dtype == np.float32
    assert np.array_equal(X, before)
    assert 0 <= moved.min() <= moved.max() <= 1 + 1e-6


class Fixed:
    """A generator whose every draw is its largest."""

    def uniform(self, low, high, size):
        return np.full(size, high)


def test_a_turn_by_a_right_angle_is_exact():
    X = images(2, 6, 6)
    turned = only(degrees=90.0)(X, Fixed())
    options = [np.rot90(X, k, axes=(1, 2)) for k in (1, 3)]
    assert any(np.allclose(turned, option, atol=1e-5) for option in options)


def test_a_shift_of_half_the_image_is_exact_and_leaves_zeros():
    X = images(2, 8, 8)
    moved = only(translate=1.0)(X, Fixed())  # half of the image's side, in both directions
    np.testing.assert_allclose(moved[:, :4, :4], X[:, 4:, 4:], atol=1e-5)
    assert not moved[:, 4:].any()
    assert not moved[:, :, 4:].any()


def test_a_scale_changes_the_size_of_what_is_drawn():
    X = np.zeros((1, 32, 32), np.float32)
    X[:, 8:24, 8:24] = 1
    smaller = only(scale=0.5)(X, Fixed())  # the grid is stretched by 1.5
    assert smaller.sum() == pytest.approx(X.sum() / 1.5**2, rel=0.05)


def test_it_says_what_it_is():
    expected = "RandomAffine(degrees=5, scale=0.2, shear=0.2, translate=0.15, border='zeros')"
    assert repr(RandomAffine(5)) == expected


@pytest.mark.parametrize("kind", [RandomAffine, RandomElastic])
def test_a_border_takes_what_is_there_and_makes_no_new_colour(kind):
    X = np.full((4, 9, 9, 3), 200, np.uint8)
    X[:, 2:7, 2:7] = [10, 90, 250]
    for border in ("edge", "mirror"):
        moved = kind(translate=0.6, border=border)(X, np.random.default_rng(0))
        assert (moved >= X.min((0, 1, 2)) - 1e-3).all()
        assert (moved <= X.max((0, 1, 2)) + 1e-3).all()
    black = kind(translate=0.6)(X, np.random.default_rng(0))
    assert black.min() == 0 and black.max() <= 250 + 1e-3
    assert "border='mirror'" in repr(kind(border="mirror"))


def test_a_border_of_no_kind_is_an_error():
    with pytest.raises(ValueError, match=r"border must be 'zeros', .* got 'white'"):
        RandomAffine(border="white")


def test_edges_are_drawn_out():
    X = images(2, 8, 8, 3)
    moved = only(translate=1.0)
    moved.border = "edge"
    moved = moved(X, Fixed())
    np.testing.assert_allclose(moved[:, 4:, :4], np.repeat(X[:, -1:, 4:], 4, 1), atol=1e-5)


def test_meta_training_takes_it_and_stays_reproducible():
    y = np.repeat(np.arange(4), 6)
    X = (255 * images(24, 8, 8)).astype(np.uint8)

    def digest(augment, seed=0):
        trainer = MetaTrainer(
            ProtoNetClassifier(encoder="mlp", encoder__hidden=(4,)), augment=augment,
            n_way=2, n_shot=2, n_query=2, n_episodes=16, validation_fraction=0, max_epochs=1,
            random_state=seed, verbose=0,
        )  # fmt: skip
        return trainer.fit(X, y).meta_init_.digest

    assert digest(RandomAffine()) == digest(RandomAffine())
    assert digest(RandomAffine()) != digest(None)


# ---------------------------------------------------------------- RandomElastic
def bent(bend, **options):
    return RandomElastic(bend=bend, **{name: 0.0 for name in LIMITS}, **options)


def test_without_bends_it_is_the_affine_map():
    X = images(4, 9, 9)
    same = RandomElastic(bend=0.0)(X, np.random.default_rng(3))
    np.testing.assert_allclose(same, RandomAffine()(X, np.random.default_rng(3)), atol=1e-6)


def test_bends_are_smooth_and_of_the_size_asked_for():
    row, column = np.mgrid[-1:1:64j, -1:1:64j]
    ramps = np.repeat(column[None], 400, 0)  # an image whose value is where it is read
    moved = bent(0.05)(ramps, np.random.default_rng(0))
    inside = (np.abs(column) < 0.6) & (np.abs(row) < 0.6)
    shift = (moved - ramps)[:, inside]
    # a cubic spline between independent knots has about three quarters of their spread
    assert 0.025 < shift.std() < 0.06
    assert np.abs(np.diff(moved - ramps, axis=2)[:, 16:48, 16:48]).max() < 0.05
    assert shift.std(0).min() > 0.01


def test_every_image_is_bent_in_its_own_way_as_the_generator_says():
    X = np.repeat(images(1, 16, 16), 3, 0)
    first, again, other = (bent(0.1)(X, np.random.default_rng(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01
    assert np.abs(first[0] - first[1]).max() > 0.01


def test_finer_knots_bend_more_finely():
    ramps = np.tile(np.linspace(-1, 1, 64), (100, 64, 1))
    steps = [
        np.abs(np.diff(bent(0.02, knots=k)(ramps, np.random.default_rng(0)), 2, 2))[:, :, 9:-9]
        for k in (3, 9)
    ]
    assert steps[1].mean() > 4 * steps[0].mean()


def test_what_it_is_can_be_read():
    assert "bend=0.05" in repr(RandomElastic()) and repr(RandomElastic()).startswith(
        "RandomElastic"
    )


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda X, rng: X[:-1], "as many rows"),
        (lambda X, rng: None, "NoneType"),
        (lambda X, rng: X * np.nan, "gave NaN"),
    ],
)
def test_what_an_augmentation_gives_is_looked_at(wrong, told):
    X, y = np.random.default_rng(0).random((12, 8, 8)), np.repeat(np.arange(3), 4)
    sampler = ClassEpisodes(y, n_way=2, n_shot=1, n_query=1)
    with pytest.raises(ValueError, match=f"augment=.*{told}"):
        Episodes(ArrayTasks(X, None, sampler, wrong), 4, seed=0).__getitems__([0, 1])


class Halved(Augmentation):
    def of_images(self, images, rng, high):
        return images[:, :, ::2]


def test_images_keep_their_size():
    with pytest.raises(ValueError, match="of the same size"):
        Halved().of_rows(torch.zeros(2, 8, 8), np.random.default_rng(0), None)


WRONG = {"degrees": -5, "translate": -1, "shear": "a", "scale": 2, "bend": -1, "knots": 1}


@pytest.mark.parametrize("name", WRONG)
def test_parameters_are_checked(name):
    with pytest.raises(ValueError, match=name):
        RandomElastic(**{name: WRONG[name]})
