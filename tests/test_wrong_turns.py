"""Wrong turns of whoever has a table of their own: each is told by name, with the right turn."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix
from sklearn.compose import make_column_transformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from fewshot_sklearn import (
    InContextRegressor,
    MAMLRegressor,
    MetaTrainer,
    PastRows,
    PooledClassifier,
    PooledRegressor,
    ProtoNetClassifier,
    RidgeHeadClassifier,
    RidgeHeadRegressor,
    StrategySelector,
    TaskwiseClassifier,
    TaskwiseRegressor,
    TrustLearner,
    compare_few_shot,
    few_shot_score,
)
from fewshot_sklearn.encoders import ENCODERS

N_TASKS, OF_A_TASK = 12, 8
N = N_TASKS * OF_A_TASK
GROUPS = np.repeat([f"customer {i}" for i in range(N_TASKS)], OF_A_TASK)
NEW = np.array([f"new {name}" for name in GROUPS])


def table(**columns):
    """Past or new rows of all kinds, with some columns in place of others, or beside."""
    rng = np.random.default_rng(0)
    days = pd.to_timedelta(rng.integers(0, 300, N), "D")
    made = {
        "price": rng.normal(size=N),
        "amount": rng.integers(0, 9, N),
        "channel": rng.choice(["shop", "web"], N),
        "day": pd.Timestamp("2024-01-01") + days,
        "member": pd.array([None if i % 7 == 0 else i % 2 == 0 for i in range(N)], "boolean"),
    }
    return pd.DataFrame(made | columns)


def numbers(**columns):
    """The same, of numbers alone."""
    return table(**columns)[["price", "amount"]]


TARGETS = np.random.default_rng(1).normal(size=N)
LABELS = np.random.default_rng(2).choice(["high", "low"], N)


def trainer(estimator=None, **params):
    small = {"n_shot": (1, 3), "n_query": 2, "n_episodes": 2, "n_valid_episodes": 2}
    small |= {"max_epochs": 1, "verbose": 0, "random_state": 0, "device": "cpu"}
    return MetaTrainer(estimator or RidgeHeadRegressor(encoder="identity"), **(small | params))


def quietly(function, *args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args, **options)


def learned(X, estimator=None):
    """An estimator that was meta-trained on these rows."""
    return quietly(trainer(estimator).fit, X, TARGETS, groups=GROUPS).estimator_


@pytest.fixture(scope="module")
def of_table():
    return learned(table())


@pytest.fixture(scope="module")
def of_numbers():
    return learned(numbers())


# ------------------------------------------------------------------ entrances
def train(_, X, y=TARGETS, groups=GROUPS):
    trainer().fit(X, y, groups=groups)


def fit(reg, X, y=TARGETS, groups=None):
    reg.fit(X, y)


def predict(reg, X, y=None, groups=None):
    reg.predict(X)


def score(reg, X, y=TARGETS, groups=NEW):
    few_shot_score(reg, X, y, groups, n_way=None, n_query=2, n_episodes=2)


def compare(reg, X, y=TARGETS, groups=NEW):
    options = {"n_shots": (1, 2), "n_query": 2, "n_episodes": 2, "baselines": None}
    compare_few_shot(reg, X, y, groups, n_way=None, **options)


def taskwise(reg, X, y=TARGETS, groups=NEW):
    TaskwiseRegressor(reg).fit(X, y, groups=groups)


def trust(reg, X, y=TARGETS, groups=NEW):
    TrustLearner(reg, n_shots=(1, 2), n_query=2, n_episodes=4).fit(X, y, groups)


def pooled(_, X, y=TARGETS, groups=None):
    PooledRegressor().fit(X, y)


ALL = [train, fit, score, compare, taskwise, trust]
every_entrance = pytest.mark.parametrize("entrance", ALL, ids=lambda one: one.__name__)
#: Where the columns of later tables are read.
LATER = [fit, predict, score, compare, taskwise, trust]
later_entrance = pytest.mark.parametrize("entrance", LATER, ids=lambda one: one.__name__)
#: Where past rows are learned from.
FIRST = [train]


def told(message, entrance, *args):
    """Whether an entrance raises an error that says all of that; warnings count, too."""
    said = []
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            entrance(*args)
        except (TypeError, ValueError) as error:
            said = [str(error)]
    said = said or [str(one.message) for one in warned]
    assert any(all(part in text for part in message) for text in said), said
    return True


# ------------------------------------------------------------------ later columns
DAYS_AS_WORDS = table()["day"].dt.strftime("%Y-%m-%d")
WRONG_LATER = {
    "words for numbers": ({"amount": "lots"}, ["'amount'", "numbers", "'lots'", "pd.to_numeric"]),
    "numbers as words": (
        {"price": [f"{v:.2f}" for v in table()["price"]]},
        ["'price'", "strings", "pd.to_numeric(X['price'])"],
    ),
    "dates for numbers": ({"amount": table()["day"]}, ["'amount'", "numbers", "2024-"]),
    "spans for numbers": (
        {"amount": table()["day"] - table()["day"].min()},
        ["'amount'", "numbers", "days"],
    ),
    "numbers for words": ({"channel": 3.0}, ["'channel'", "words", "'shop'", "3.0", "astype(str)"]),
    "words for dates": (
        {"day": DAYS_AS_WORDS},
        ["'day'", "dates", "pd.to_datetime", "parse_dates"],
    ),
    "numbers for dates": ({"day": 3.0}, ["'day'", "dates", "3.0"]),
    "words for booleans": ({"member": "yes"}, ["'member'", "booleans", "X['member'].map("]),
    "infinity": ({"price": np.inf}, ["'price'", "infinity", "empty"]),
    "large ids": ({"amount": 2**62}, ["'amount'", "too large", "astype(str)"]),
}


@later_entrance
@pytest.mark.parametrize("wrong", WRONG_LATER)
def test_columns_that_hold_something_else_than_in_the_past(of_table, entrance, wrong):
    columns, parts = WRONG_LATER[wrong]
    of_table.fit(table()[:5], TARGETS[:5])
    assert told(parts, entrance, of_table, table(**columns))


WRONG_NUMBERS = {
    "words": ({"amount": "lots"}, ["'amount'", "'lots'", "no number", "MetaTrainer", "OneHotEnc"]),
    "numbers as words": ({"price": "1.5"}, ["'price'", "'1.5'", "pd.to_numeric(X['price'])"]),
    "dates": ({"amount": table()["day"]}, ["dates", "'amount'", ".dt.days"]),
    "gaps": ({"amount": pd.array([None, *range(1, N)], "Int64")}, ["X contains NaN", "'amount'"]),
    "infinity": ({"price": -np.inf}, ["X contains infinity", "'price'"]),
    "large ids": ({"amount": 2**62}, ["'amount'", "too large", "astype(str)"]),
}


@pytest.mark.parametrize("entrance", [*LATER, pooled], ids=lambda one: one.__name__)
@pytest.mark.parametrize("wrong", WRONG_NUMBERS)
def test_columns_that_hold_no_numbers_where_the_past_held_nothing_else(of_numbers, entrance, wrong):
    if entrance is pooled and wrong == "large ids":
        return  # which are computed with in double precision
    columns, parts = WRONG_NUMBERS[wrong]
    of_numbers.fit(numbers()[:5], TARGETS[:5])
    assert told(parts, entrance, of_numbers, numbers(**columns))


@pytest.mark.parametrize(
    "make", [RidgeHeadRegressor, RidgeHeadClassifier, ProtoNetClassifier, MAMLRegressor]
)
def test_words_without_a_past(make):
    y = LABELS[:8] if make.__name__.endswith("Classifier") else TARGETS[:8]
    with pytest.raises(ValueError, match=r"'channel' of X holds .*no number.*MetaTrainer"):
        make().fit(table()[:8][["price", "channel"]], y)


@pytest.mark.parametrize("entrance", [*ALL, predict, pooled], ids=lambda one: one.__name__)
def test_two_columns_of_one_name(of_table, entrance):
    of_table.fit(table()[:5], TARGETS[:5])
    X = table()
    X.columns = ["price", "amount", "price", "day", "member"]
    assert told(["several columns of the name 'price'", "rename"], entrance, of_table, X)


@later_entrance
@pytest.mark.parametrize("of", ["table", "numbers"])
@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda X: X[X.columns[::-1]], ["order"]),
        (lambda X: X.rename(columns={"price": "prize"}), ["price", "prize"]),
        (lambda X: X.drop(columns="price"), ["price"]),
        (lambda X: X.assign(more=1.0), ["more"]),
    ],
    ids=["reordered", "renamed", "missing", "more"],
)
def test_other_columns(request, entrance, of, change, parts):
    reg, X = request.getfixturevalue(f"of_{of}"), table() if of == "table" else numbers()
    reg.fit(X[:5], TARGETS[:5])
    assert told(parts, entrance, reg, change(X))


@pytest.mark.parametrize("entrance", [train, fit, taskwise], ids=lambda one: one.__name__)
def test_names_of_two_kinds(of_table, entrance):
    X = table().rename(columns={"price": 0})
    assert told(["strings", "X.columns.astype(str)"], entrance, of_table, X)


# ------------------------------------------------------------------ past columns
WRONG_FIRST = {
    "dates as words": ({"day": DAYS_AS_WORDS}, ["'day'", "pd.to_datetime", "parse_dates=['day']"]),
    "German dates": (
        {"day": table()["day"].dt.strftime("%d.%m.%Y")},
        ["'day'", "dates", "pd.to_datetime"],
    ),
    "numbers as words": (
        {"price": [f"{v:.2f}" for v in table()["price"]]},
        ["'price'", "pd.to_numeric(X['price'])", "astype('category')"],
    ),
    "nothing": ({"more": None}, ["'more'", "missing in all rows", "Leave it out"]),
    "no numbers": ({"more": np.nan}, ["'more'", "missing in all rows", "Leave it out"]),
    "spans": ({"more": table()["day"] - table()["day"].min()}, ["'more'", "total_seconds"]),
    "spans in nanoseconds": (
        {"more": (table()["day"] - table()["day"].min()).astype("timedelta64[ns]")},
        ["'more'", "total_seconds"],
    ),
    "periods": ({"more": table()["day"].dt.to_period("M")}, ["'more'", "to_timestamp"]),
    "bytes": ({"more": [b"a", b"b"] * (N // 2)}, ["'more'", "str.decode"]),
    "lists": ({"more": [[1], [2]] * (N // 2)}, ["'more'", "astype(str)"]),
    "large ids": ({"more": 2**62 + np.arange(N)}, ["'more'", "too large", "X['more'].astype(str)"]),
    "infinity": ({"price": np.inf}, ["'price'", "infinity"]),
    "ids of tasks": ({"more": GROUPS}, ["'more'", "groups", "Leave it out"]),
    "targets": ({"more": TARGETS}, ["'more'", "the same as y", "Leave it out"]),
}


@pytest.mark.parametrize("wrong", WRONG_FIRST)
def test_columns_of_the_past(wrong):
    columns, parts = WRONG_FIRST[wrong]
    assert told(parts, train, None, table(**columns))


@pytest.mark.parametrize("wrong", ["dates as words", "numbers as words"])
def test_columns_of_a_fit_that_learns_its_table_itself(wrong):
    columns, parts = WRONG_FIRST[wrong]
    assert told(parts[:2], fit, InContextRegressor(), table(**columns)[:12], TARGETS[:12])


def test_a_right_table_is_silent():
    ids = [f"{i % 40:05d}" for i in range(N)]  # of digits, which are no numbers
    kinds = {"ordered": pd.Categorical(["lo", "hi"] * (N // 2), ["lo", "hi"], ordered=True)}
    kinds |= {"zoned": table()["day"].dt.tz_localize("Europe/Berlin"), "id": ids}
    kinds |= {"text": pd.array([None, *["a b", "c"] * (N // 2)][:N], "string")}
    kinds |= {"whole": pd.array([None, *range(1, N)], "Int64"), "chosen": DAYS_AS_WORDS}
    X = table(**kinds).astype({"chosen": "category"})
    X.index = np.random.default_rng(0).permutation(N)
    y = pd.Series(TARGETS, index=X.index)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = trainer().fit(X, y, groups=pd.Series(GROUPS, index=X.index)).estimator_
        made.fit(X[:1], y[:1]).predict(X[1:3])
        made.fit(X[:5], y[:5].to_frame()).predict(X[5:6].assign(channel="never seen"))
        made.predict(X[5:8].assign(amount=[np.nan, 1.0, 2.0], day=pd.NaT))


def test_a_column_without_a_past_tells_nothing():
    reg = learned(table(more=None))
    reg.fit(table(more=None)[:5], TARGETS[:5])
    expected = reg.predict(table(more=None)[5:8])
    with pytest.warns(UserWarning, match="Column 'more' of X was missing in all past rows"):
        found = reg.predict(table(more="words")[5:8])
    np.testing.assert_array_equal(found, expected)


def test_names_of_columns_that_are_no_strings():
    X = table()
    X.columns = pd.MultiIndex.from_product([["a"], X.columns])
    assert told(["names that are no strings", "X.columns.map(str)"], train, None, X)


# ------------------------------------------------------------------ targets
WRONG_TARGETS = {
    "words": (LABELS, ["y must hold numbers", "a classifier, such as RidgeHeadClassifier"]),
    "words of pandas": (pd.Series(LABELS), ["y must hold numbers", "a classifier"]),
    "categories": (pd.Categorical(LABELS), ["y must hold numbers", "a classifier"]),
    "dates": (table()["day"], ["y must hold numbers", "(y - y.min()).dt.days"]),
    "spans": (table()["day"] - table()["day"].min(), ["y must hold numbers", "total_seconds"]),
    "numbers as words": ([f"{v}" for v in TARGETS], ["y must hold numbers", "pd.to_numeric"]),
    "missing": (pd.array([None, *range(1, N)], "Int64"), ["y", "NaN"]),
}


@pytest.mark.parametrize("entrance", [*ALL, pooled], ids=lambda one: one.__name__)
@pytest.mark.parametrize("wrong", WRONG_TARGETS)
def test_targets_that_are_no_numbers(of_table, entrance, wrong):
    y, parts = WRONG_TARGETS[wrong]
    X = numbers() if entrance is pooled else table()
    assert told(parts, entrance, of_table, X, y)


@pytest.mark.parametrize("entrance", [train, score, compare], ids=lambda one: one.__name__)
def test_targets_in_another_order_of_the_index(of_table, entrance):
    y = pd.Series(TARGETS).sort_values()
    assert told(["y has the index of X", "y.loc[X.index]"], entrance, of_table, table(), y)


def _classifiers(y):
    X = numbers()
    proto = ProtoNetClassifier()
    yield lambda: proto.fit(X, y)
    yield lambda: trainer(proto, n_way=2).fit(X, y)
    yield lambda: few_shot_score(proto, X, y, n_way=2, n_query=2, n_episodes=2)
    yield lambda: compare_few_shot(proto, X, y, n_way=2, n_query=2, n_episodes=2, n_shots=(1,))
    yield lambda: TaskwiseClassifier(proto).fit(X, y, groups=GROUPS)
    yield lambda: TrustLearner(proto, n_way=2).fit(X, y)
    yield lambda: PooledClassifier().fit(X, y)


@pytest.mark.parametrize("entrance", range(7))
@pytest.mark.parametrize(
    ("first", "parts"),
    [(np.nan, ["y must say the class", "leave these rows out"]), (3, ["y must be of one kind"])],
    ids=["missing", "a number"],
)
def test_lists_of_words_and_others(entrance, first, parts):
    """numpy makes the word 'nan' of what is missing."""
    run = list(_classifiers([first, *LABELS[1:].tolist()]))[entrance]
    assert told(parts, run)


# ------------------------------------------------------------------ tasks
@pytest.mark.parametrize("entrance", [train, score, compare, taskwise, trust])
@pytest.mark.parametrize("make", [list, pd.Series], ids=["list", "series"])
def test_tasks_that_are_missing(of_table, entrance, make):
    groups = make([np.nan, *NEW[1:].tolist()])
    parts = ["groups must say the task of each row", "1 of"]
    assert told(parts, entrance, of_table, table(), TARGETS, groups)


def test_tasks_that_are_missing_in_the_past_of_a_comparison(of_table):
    groups = [np.nan, *GROUPS[1:].tolist()]
    with pytest.raises(ValueError, match="groups of past must say the task of each row"):
        compare_few_shot(
            of_table, table(), TARGETS, NEW, n_way=None, n_shots=(1,), n_query=2, n_episodes=2,
            past=(table(), TARGETS, groups),
        )  # fmt: skip


def test_tasks_that_are_missing_in_a_column(of_table):
    X = table(customer=[np.nan, *NEW[1:]])
    with pytest.raises(ValueError, match="The column 'customer' of X must say the task"):
        TaskwiseRegressor(of_table, task="customer").fit(X, TARGETS)


@pytest.mark.parametrize(
    "run",
    [
        lambda reg: trainer(n_way=3).fit(table(), TARGETS, groups=GROUPS),
        lambda reg: few_shot_score(reg, table(), TARGETS, NEW, n_way=3, n_episodes=2),
        lambda reg: compare_few_shot(reg, table(), TARGETS, NEW, n_way=3, n_episodes=2),
        lambda reg: TrustLearner(reg, n_way=3, n_shots=(1,), n_episodes=4).fit(
            table(), TARGETS, NEW
        ),
        lambda reg: StrategySelector([("a", reg)], n_way=3, n_shots=(1,), n_episodes=2).fit(
            table(), TARGETS, NEW
        ),
    ],
    ids=["MetaTrainer", "few_shot_score", "compare_few_shot", "TrustLearner", "StrategySelector"],
)
def test_classes_asked_for_where_there_are_none(of_table, run):
    assert told(["n_way"], run, of_table) and told(["regressor"], run, of_table)


def test_the_usual_number_of_classes_is_no_wrong_turn(recwarn):
    trainer().fit(numbers(), TARGETS, groups=GROUPS)
    assert not [one for one in recwarn if "n_way" in str(one.message)]


# ------------------------------------------------------------------ rows
@every_entrance
@pytest.mark.parametrize(
    ("make", "parts"),
    [(lambda X: X[[]], ["X has no columns"]), (lambda X: X[:0], ["X has no rows"])],
    ids=["no columns", "no rows"],
)
@pytest.mark.parametrize("frame", [True, False], ids=["frame", "array"])
def test_nothing_at_all(of_numbers, entrance, make, parts, frame):
    X = make(numbers())
    n = len(X)
    X = X if frame else X.to_numpy()
    assert told(parts, entrance, of_numbers, X, TARGETS[:n], NEW[:n])


@pytest.mark.parametrize(
    "entrance", [train, fit, predict, score, compare, trust, pooled], ids=lambda one: one.__name__
)
def test_sparse_rows(of_numbers, entrance):
    of_numbers.fit(numbers()[:5], TARGETS[:5])
    parts = ["X is sparse", "sparse_output=False", "sparse_threshold=0", "toarray"]
    assert told(parts, entrance, of_numbers, csr_matrix(numbers().to_numpy()))


def test_sparse_rows_of_the_past():
    with pytest.raises(TypeError, match="X is sparse"):
        PastRows(csr_matrix(np.eye(4)), np.arange(4.0))


@pytest.mark.parametrize("trains", [False, True], ids=["fit", "meta-training"])
@pytest.mark.parametrize(
    "step", [OneHotEncoder(), make_column_transformer((OneHotEncoder(), ["channel"]))]
)
def test_sparse_rows_from_a_step_of_a_pipeline(step, trains):
    pipeline = make_pipeline(step, RidgeHeadRegressor(encoder="identity"))
    X = table(channel=[f"channel {i % 30}" for i in range(N)])[["channel"]]
    with pytest.raises(TypeError, match=r"step of a pipeline.*sparse_output=False.*sparse_thr"):
        if trains:
            trainer(pipeline).fit(X, TARGETS, groups=GROUPS)
        else:
            pipeline.fit(X, TARGETS)


@pytest.mark.parametrize("name", ENCODERS)
def test_images_where_rows_of_numbers_belong(name):
    X = np.random.default_rng(0).normal(size=(8, 8, 8)).astype(np.float32)
    reg = RidgeHeadRegressor(encoder=name)
    if name in ("spline", "residual"):
        with pytest.raises(ValueError, match=rf"encoder='{name}' takes rows of numbers.*\(8, 8\)"):
            reg.fit(X, TARGETS[:8])
    else:
        assert np.isfinite(reg.fit(X, TARGETS[:8]).predict(X)).all()


# ------------------------------------------------------------------ the past of a comparison
@pytest.mark.parametrize("make", [table, numbers])
@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda X: X.drop(columns="price"), "lacks ['price']"),
        (lambda X: X.assign(more=1.0), "has ['more'] beside"),
        (lambda X: X.rename(columns={"price": "prize"}), "lacks ['price'] and has ['prize']"),
        (lambda X: X[X.columns[::-1]], "another order: pass it as X[['price', "),
        (lambda X: X.drop(columns="price").to_numpy(), "got rows of shape"),
    ],
    ids=["missing", "more", "renamed", "reordered", "array"],
)
def test_a_past_with_other_columns(make, change, parts):
    X, reg = make(), RidgeHeadRegressor()

    def run():
        options = {"n_shots": (1,), "n_query": 2, "n_episodes": 2, "n_way": None}
        compare_few_shot(reg, X, TARGETS, NEW, past=(change(X), TARGETS, GROUPS), **options)

    assert told(["X of past must", parts], run)
