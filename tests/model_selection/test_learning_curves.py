"""How many labels are saved: in words, never beyond what was measured, and as a picture."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits
from sklearn.dummy import DummyClassifier
from sklearn.neighbors import KNeighborsClassifier

from fewshot_sklearn import compare_few_shot, labels_saved
from fewshot_sklearn.model_selection import FewShotCurveDisplay
from fewshot_sklearn.model_selection.learning_curves import shots_for

SHOTS = [1, 2, 4, 8]


def comparison(ours, *rivals, half=0.001, shots=SHOTS, **attrs):
    """A table of the curves given, with intervals of that half width."""
    lines = [
        {
            "estimator": name, "baseline": name != "ours", "n_shots": k,
            "mean": mean, "ci_low": mean - half, "ci_high": mean + half,
        }
        for name, means in (("ours", ours), *((f"rival {i}", r) for i, r in enumerate(rivals)))
        for k, mean in zip(shots, means, strict=True)
    ]  # fmt: skip
    table = pd.DataFrame(lines)
    table.attrs = attrs
    return table


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


# ---------------------------------------------------------------- in words
@pytest.mark.parametrize(
    ("score", "expected"),
    [
        (0.4, ("<", 1)),
        (0.5, ("=", 1)),
        (0.6, ("=", 2)),
        (0.65, ("=", 2 * 2**0.5)),  # half way in log shots
        (0.9, ("=", 8)),
        (0.91, (">", 8)),
    ],
)
def test_curves_are_followed_in_log_shots_and_not_beyond(score, expected):
    bound, needed = shots_for(score, SHOTS, [0.5, 0.6, 0.7, 0.9])
    assert (bound, needed) == (expected[0], pytest.approx(expected[1]))


def test_a_curve_that_falls_is_left_where_it_first_reaches_the_score():
    assert shots_for(0.65, SHOTS, [0.5, 0.8, 0.6, 0.9])[1] == pytest.approx(2**0.5)
    assert shots_for(0.95, SHOTS, [0.5, 0.8, 0.6, 0.9]) == (">", 8)


def test_labels_saved_in_words():
    saved = labels_saved(comparison([0.65, 0.8, 0.95, 0.96], [0.5, 0.6, 0.7, 0.9], n_way=5))
    assert saved.sentence.tolist() == [
        "1 label a class with ours does what 2.8 do with the best baseline",
        "2 labels a class with ours do what 5.7 do with the best baseline",
        "4 labels a class with ours do more than 8 do with the best baseline",
        "8 labels a class with ours do more than 8 do with the best baseline",
    ]
    assert saved.saves.all()
    assert saved.baseline_shots.tolist() == pytest.approx([2 * 2**0.5, 4 * 2**0.5, 8, 8])
    assert saved.attrs["headline"] == saved.sentence[0]


def test_the_best_baseline_is_the_best_at_each_number():
    table = comparison([0.55, 0.6, 0.7, 0.8], [0.5, 0.5, 0.5, 0.5], [0.2, 0.6, 0.7, 0.9])
    assert labels_saved(table).baseline_shots[0] == pytest.approx(2**0.5)
    named = labels_saved(table, "ours", "rival 0")
    assert named.bound.tolist() == [">"] * 4
    assert named.attrs["headline"].endswith("do with rival 0")


def test_nothing_saved_is_said():
    worse = labels_saved(comparison([0.4, 0.5, 0.6, 0.7], [0.5, 0.6, 0.7, 0.9]))
    assert worse.attrs["headline"] == "ours saves no labels: the best baseline needs fewer"
    assert worse.sentence[0] == "1 label with ours does less than 1 does with the best baseline"
    assert not worse.saves.any()
    unclear = labels_saved(comparison([0.52, 0.62, 0.72, 0.92], [0.5, 0.6, 0.7, 0.9], half=0.05))
    assert unclear.attrs["headline"] == "ours saves no labels that these episodes could show"
    tiny = labels_saved(comparison([0.505, 0.605, 0.705, 0.9], [0.5, 0.6, 0.7, 0.9]))
    assert not tiny.saves.any()


def test_a_saving_that_ends_is_said():
    saved = labels_saved(comparison([0.65, 0.7, 0.7, 0.8], [0.5, 0.6, 0.7, 0.9]))
    assert saved.saves.tolist() == [True, True, False, False]
    assert saved.attrs["headline"].endswith("; from 4 on none are shown to be saved")


def test_paired_differences_decide_where_there_are_any():
    table = comparison([0.55, 0.65, 0.8, 0.95], [0.5, 0.6, 0.7, 0.9], half=0.2)
    assert not labels_saved(table).saves.any()
    paired = table.assign(reference="rival 0", difference_low=[0.01, 0.01, -0.01, 0.01] + [0.0] * 4)
    assert labels_saved(paired).saves.tolist() == [True, True, False, True]


def test_what_a_comparison_lacks_is_said():
    table = comparison([0.6] * 4, [0.5] * 4)
    with pytest.raises(ValueError, match="lacks the columns"):
        labels_saved(table.drop(columns="mean"))
    for names in (("nobody", None), (None, "nobody")):
        with pytest.raises(ValueError, match="must be one of"):
            labels_saved(table, *names)
    with pytest.raises(ValueError, match="baseline is needed"):
        labels_saved(table[~table.baseline])
    with pytest.raises(ValueError, match="estimator is needed"):
        labels_saved(table[table.baseline])
    with pytest.raises(ValueError, match="same shots"):
        labels_saved(table[~(table.baseline & (table.n_shots == 2))])


# ---------------------------------------------------------------- as a picture
def test_the_picture_shows_the_means_and_their_intervals():
    table = comparison([0.65, 0.8, 0.9, 0.96], [0.5, 0.6, 0.7, 0.9], scoring="accuracy", n_way=5)
    display = FewShotCurveDisplay.from_comparison(table)
    assert list(display.lines_) == ["ours", "rival 0"]
    x, y = display.lines_["ours"].get_data()
    assert (list(x), list(y)) == (SHOTS, [0.65, 0.8, 0.9, 0.96])
    ax = display.ax_
    assert display.figure_ is ax.figure
    assert ax.get_xscale() == "log"
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["1", "2", "4", "8"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("labels a class", "accuracy")
    assert ax.get_title("left") == labels_saved(table).attrs["headline"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["ours", "rival 0"]
    band = ax.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == pytest.approx(0.649) and band[:, 1].max() == pytest.approx(0.961)
    assert ax.get_ylim()[0] < 0.5 < 0.96 < ax.get_ylim()[1]
    display.figure_.canvas.draw()


def test_errors_are_drawn_as_errors():
    scores = {"scoring": "neg_mean_squared_error", "n_way": None}
    display = FewShotCurveDisplay.from_comparison(
        comparison([-1.0, -0.9, -0.8, -0.7], [-2.0, -1.5, -1.0, -0.9], **scores)
    )
    assert display.lines_["ours"].get_ydata().tolist() == [1.0, 0.9, 0.8, 0.7]
    assert display.ax_.get_ylabel() == "mean squared error (lower is better)"
    assert display.ax_.get_xlabel() == "labels a task"
    assert display.ax_.get_yscale() == "linear"
    wide = comparison([-1.0, -0.1, -0.01, -0.001], [-3.0, -2.0, -1.0, -0.9], **scores)
    assert FewShotCurveDisplay.from_comparison(wide).ax_.get_yscale() == "log"
    plain = FewShotCurveDisplay.from_comparison(wide, negate_score=False, score_name="own")
    assert plain.lines_["ours"].get_ydata().min() == -1.0
    assert plain.ax_.get_ylabel() == "own"


def test_curves_far_off_do_not_squash_the_others():
    table = comparison([0.90, 0.92, 0.94, 0.96], [0.85, 0.88, 0.9, 0.92], [0.1] * 4)
    display = FewShotCurveDisplay.from_comparison(table)
    assert display.ax_.get_ylim()[0] > 0.5
    assert display.lines_["rival 1"].get_label() == "rival 1 (beyond the axes)"


def test_bands_may_be_those_of_differences():
    table = comparison([0.6, 0.7, 0.8, 0.9], [0.5] * 4, half=0.2)
    table = table.assign(difference=0.1, difference_high=0.13)
    display = FewShotCurveDisplay.from_comparison(table, bands="difference")
    band = display.ax_.collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == (pytest.approx(0.57), pytest.approx(0.93))
    assert not FewShotCurveDisplay.from_comparison(table, bands=None).ax_.collections
    with pytest.raises(ValueError, match="bands must be"):
        FewShotCurveDisplay.from_comparison(table, bands="all")


def test_a_comparison_without_baselines_is_drawn():
    table = comparison([0.6, 0.7, 0.8, 0.9], [0.5] * 4)
    display = FewShotCurveDisplay.from_comparison(table[~table.baseline])
    assert display.ax_.get_title("left") == ""
    against = FewShotCurveDisplay.from_comparison(table, baseline="rival 0")
    assert "rival 0" in against.ax_.get_title("left")


def test_axes_may_be_given_and_plot_called_again():
    _, axes = plt.subplots(1, 2)
    table = comparison([0.6, 0.7, 0.8, 0.9], [0.5] * 4)
    display = FewShotCurveDisplay.from_comparison(table, ax=axes[0])
    assert display.ax_ is axes[0]
    assert display.plot(ax=axes[1]) is display
    assert display.ax_ is axes[1]
    one = FewShotCurveDisplay.from_comparison(comparison([0.6], [0.5], shots=[5]))
    assert one.ax_.get_xlim()[0] < 5 < one.ax_.get_xlim()[1]


def test_from_estimators_is_the_comparison_drawn():
    X, y = load_digits(return_X_y=True)
    options = {
        "n_shots": (1, 3), "n_way": 3, "n_query": 4, "n_episodes": 20,
        "baselines": {"prior": DummyClassifier()},
    }  # fmt: skip
    display = FewShotCurveDisplay.from_estimators(KNeighborsClassifier(1), X, y, **options)
    table = compare_few_shot(KNeighborsClassifier(1), X, y, **options)
    columns = ["estimator", "n_shots", "mean", "difference"]
    pd.testing.assert_frame_equal(display.comparison[columns], table[columns])
    assert "do more than 3 do with" in labels_saved(table).sentence[1]
    np.testing.assert_array_equal(
        display.lines_["KNeighborsClassifier"].get_ydata(), table["mean"][:2]
    )
