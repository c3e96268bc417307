"""Every parameter says what it may be, and a call that breaks it is refused by name."""

from __future__ import annotations

import builtins
import inspect
import warnings

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import get_tags
from torch import nn

import fewshot_sklearn
from fewshot_sklearn import (
    EpisodeSplit,
    ESMetaTrainer,
    FewShotScore,
    MAMLClassifier,
    MetaTrainer,
    ProtoNetClassifier,
    RidgeHeadRegressor,
    TaskKFold,
    TaskShuffleSplit,
    TaskwiseClassifier,
    TrustedClassifier,
    TrustedRegressor,
    expected_calibration_error,
    few_shot_score,
    select_queries,
    uncertainty,
)
from fewshot_sklearn.datasets import embed_sentences, make_harmonic_tasks, make_sinusoid_tasks
from fewshot_sklearn.encoders import ENCODERS
from fewshot_sklearn.estimators import FewShotClassifier, FewShotEstimator
from fewshot_sklearn.inspection import (
    AdaptationDisplay,
    EmbeddingDisplay,
    FewShotCurveDisplay,
    PrototypeDisplay,
    TaskSimilarityDisplay,
)
from fewshot_sklearn.tasks import (
    Anything,
    FilePath,
    Flag,
    Number,
    OneOf,
    Positive,
    Seed,
    Several,
    Whole,
    WholeOrRange,
    check_parameters,
    constraints_of,
    did_you_mean,
)

BAD = ("foo", -1, 0, 0.5, 2.5, float("inf"), float("nan"), [], object(), True)
KINDS = [
    c
    for c in (getattr(fewshot_sklearn, name) for name in fewshot_sklearn.__all__)
    if isinstance(c, type) and issubclass(c, FewShotEstimator)
]
TRAINERS = [MetaTrainer, ESMetaTrainer]
#: Estimators that hold, choose between or watch over others.
AROUND_OTHERS = [
    c
    for c in (getattr(fewshot_sklearn, name) for name in fewshot_sklearn.__all__)
    if isinstance(c, type) and issubclass(c, BaseEstimator) and c not in [*KINDS, *TRAINERS]
]
OTHERS = [*TRAINERS, *AROUND_OTHERS, EpisodeSplit, TaskKFold, TaskShuffleSplit]


def rows(n=16):
    rng = np.random.default_rng(0)
    y = np.tile(np.arange(4), n // 4)
    return rng.normal(size=(n, 2)) + y[:, None], y


def parameters_of(kind):
    """Names of the parameters that a constructor lists."""
    named = inspect.signature(kind).parameters.values()
    return [p.name for p in named if p.kind is not p.VAR_KEYWORD]


def trainer_of(kind=MetaTrainer, estimator=None, **params):
    few = {"n_way": 2, "n_shot": 1, "n_query": 1, "n_episodes": 2, "max_epochs": 1, "verbose": 0}
    few |= {"device": "cpu", "random_state": 0, "n_valid_episodes": 2}
    return kind(estimator or ProtoNetClassifier(), **(few | params))


# ------------------------------------------------------------------ declared
@pytest.mark.parametrize("kind", [*KINDS, *OTHERS], ids=lambda kind: kind.__name__)
def test_every_parameter_says_what_it_may_be(kind):
    assert set(parameters_of(kind)) <= set(constraints_of(kind))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_defaults_are_allowed(kind):
    check_parameters(kind())
    # None means the meta-init's: what it has in the end must be allowed too
    check_parameters(kind(**kind._defaults))


@pytest.mark.parametrize("kind", TRAINERS, ids=lambda kind: kind.__name__)
def test_defaults_of_trainers_are_allowed(kind):
    check_parameters(kind(ProtoNetClassifier()))


@pytest.mark.parametrize("name", ENCODERS)
def test_every_argument_of_a_named_encoder_says_what_it_may_be(name):
    own = set(parameters_of(ENCODERS[name])) - {"input_shape"}
    assert own <= set(constraints_of(ENCODERS[name]))


# ------------------------------------------------------------------ refused
def refused(kind):
    """The parameters of a class with a value that may not be, and is no name of a file."""
    for name in parameters_of(kind):
        constraint = constraints_of(kind)[name]
        if isinstance(constraint, Anything):
            continue
        wrong = [value for value in BAD if name != "device" and not constraint.allows(value)]
        assert len(wrong) >= 4 or name == "device", f"{name} may be nearly anything"
        yield from ((name, value) for value in wrong or ("foo", [], object()))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_fit_refuses_by_name(kind):
    X, y = rows()
    for name, value in refused(kind):
        made = kind().set_params(**{name: value})
        with pytest.raises(ValueError, match=rf"{name}\W"):
            made.fit(X, y)
        assert not hasattr(made, "state_")


@pytest.mark.parametrize("kind", AROUND_OTHERS, ids=lambda kind: kind.__name__)
def test_estimators_around_others_refuse_by_name(kind):
    X, y = rows()
    check_parameters(kind())
    for name, value in refused(kind):
        with pytest.raises(ValueError, match=rf"{name}\W"):
            kind(**{name: value}).fit(X, y)


@pytest.mark.parametrize("kind", [TrustedClassifier, TrustedRegressor, TaskwiseClassifier])
def test_tags_of_what_cannot_be_fitted(kind):
    asked = get_tags(kind()).estimator_type
    assert get_tags(kind("no estimator")).estimator_type == asked
    with pytest.raises(ValueError, match=f"estimator must be a {asked}"):
        kind("no estimator").fit(*rows())


@pytest.mark.parametrize("kind", TRAINERS, ids=lambda kind: kind.__name__)
def test_trainers_refuse_by_name(kind):
    X, y = rows(48)
    for name, value in refused(kind):
        made = trainer_of(kind, **{name: value})
        with pytest.raises(ValueError, match=rf"{name}\W"):
            made.fit(X, y)


def test_a_trainer_refuses_what_its_estimator_may_not_be():
    with pytest.raises(ValueError, match=r"metric must be 'euclidean' or 'cosine' or None|metric"):
        trainer_of(estimator=ProtoNetClassifier(metric="manhattan")).fit(*rows(48))


@pytest.mark.parametrize(
    "kind", [EpisodeSplit, TaskKFold, TaskShuffleSplit], ids=lambda kind: kind.__name__
)
def test_splitters_refuse_by_name(kind):
    X, y = rows(48)
    for name, value in refused(kind):
        with pytest.raises(ValueError, match=name):
            list(kind(**{name: value}).split(X, y))


def test_numbers_of_numpy_are_taken():
    X, y = rows()
    taken = MAMLClassifier(
        encoder="mlp",
        n_steps=np.int64(2),
        inner_lr=np.float32(0.1),
        first_order=np.bool_(True),
        head_only=np.bool_(False),
        n_augment=np.int32(0),
        random_state=np.int64(0),
        encoder__hidden=(4,),
    )
    taken.fit(X, y)
    split = EpisodeSplit(np.int64(2), np.int64(1), np.int64(1), np.int64(3), np.int64(0))
    assert len(list(split.split(X, y))) == 3
    trained = trainer_of(
        n_episodes=np.int64(2), lr=np.float32(1e-3), validation_fraction=np.float32(0.0)
    )
    assert trained.fit(*rows(48)).meta_init_ is not None


@pytest.mark.parametrize(
    ("constraint", "right", "wrong"),
    [
        (Whole(1), (1, np.int64(3)), (0, True, 1.0, "1", None)),
        (Whole(1, 4), (1, 4), (5,)),
        (Number(0, below=1), (0, 0.5, np.float32(0.25)), (1, -0.1, np.nan, np.inf, True, "0")),
        (Positive(), (1e-9, 3), (0, -1.0, np.inf, 10**400)),
        (Positive(below=1), (0.5,), (1, 0)),
        (Flag(), (True, np.bool_(False)), (0, 1, "no", None)),
        (OneOf("a", "b"), ("a", np.str_("b")), ("c", ["a"], None)),
        (OneOf("a") | Whole(2) | None, ("a", 2, None), (1, "b")),
        (WholeOrRange(1), (1, (1, 3), [2, 2]), (0, (3, 1), (1,), (1, 2, 3), (1.0, 2), True)),
        (Several(Whole(1)), ((1, 2), [3], np.array([4])), ((), 3, (0,), "12", np.eye(2))),
        (Seed(), (None, 0, 2**32 - 1, np.random.RandomState(0)), (-1, 2**32, 0.5, "0", True)),
        (FilePath(), ("a", b"a".decode()), ("", 3, None)),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, tuple) else "",
)  # fmt: skip
def test_constraints(constraint, right, wrong):
    for value in right:
        constraint.check("it", value)
    for value in wrong:
        with pytest.raises(ValueError, match=r"it must be .*, got "):
            constraint.check("it", value)


def test_what_may_be_is_told():
    assert (Whole(1) | OneOf("auto") | None).told == "an int, at least 1, 'auto' or None"
    assert (OneOf("a", "b") | None).told == "'a', 'b' or None"
    assert Number(0, below=1).told == "a finite number, at least 0, below 1"
    assert Positive(below=1).told == "a positive finite number, below 1"


def test_a_long_value_is_cut():
    with pytest.raises(ValueError) as told:
        Flag().check("it", "x" * 1000)
    assert len(str(told.value)) < 150


# ------------------------------------------------------------------ names
@pytest.mark.parametrize("kind", [MetaTrainer, ESMetaTrainer])
@pytest.mark.parametrize(
    ("given", "meant"),
    [("n_shots", "n_shot"), ("epochs", "max_epochs"), ("batchsize", "batch_size")],
)
def test_a_trainer_says_which_name_was_meant(kind, given, meant):
    with pytest.raises(TypeError, match=f"unexpected argument.*{given}.*did you mean '{meant}'"):
        kind(ProtoNetClassifier(), **{given: 3})


def test_an_estimator_says_which_name_was_meant():
    with pytest.raises(TypeError, match=r"inner_rl.*did you mean 'inner_lr'\?.*encoder__name"):
        MAMLClassifier(inner_rl=0.1)


def test_names_unlike_any_are_not_guessed():
    assert did_you_mean(["colour"], ["n_shot", "lr"]) == ""
    with pytest.raises(TypeError, match=r"got unexpected argument\(s\) \['colour'\]\.$"):
        MetaTrainer(ProtoNetClassifier(), colour=1)


def test_a_trainer_is_cloned_with_parameters_of_its_parts():
    made = clone(trainer_of(optimizer__weight_decay=0.1, iterator_train__num_workers=0))
    assert made.optimizer__weight_decay == 0.1


# ------------------------------------------------------------------ trainers
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_trainer_on_a_gpu_that_is_not_there():
    with pytest.raises(ValueError, match=r"device='cuda'.*no usable GPU"):
        trainer_of(device="cuda").fit(*rows(48))


def test_a_trainer_is_scored_before_it_is_fitted():
    with pytest.raises(NotFittedError):
        trainer_of().score(*rows(48))


def test_a_checkpoint_that_cannot_be_written_is_refused_before_training(tmp_path):
    trainer = trainer_of(checkpoint=tmp_path / "nowhere" / "c.pt")
    with pytest.raises(FileNotFoundError, match=r"checkpoint=.*does not exist: make .*nowhere"):
        trainer.fit(*rows(48))
    assert not hasattr(trainer, "history_") or not trainer.history_
    with pytest.raises(IsADirectoryError, match="checkpoint must be a file"):
        trainer_of(checkpoint=tmp_path).fit(*rows(48))


@pytest.mark.parametrize("estimator", [ProtoNetClassifier(), RidgeHeadRegressor()], ids=repr)
def test_tasks_of_one_row_take_no_part_whatever_the_seed(estimator):
    rng = np.random.default_rng(0)
    tasks = np.r_[np.repeat(np.arange(4), 6), np.arange(4, 16)]
    X = rng.normal(size=(len(tasks), 2))
    y = X[:, 0] + rng.normal(0, 0.3, len(X))
    data = (X, tasks) if isinstance(estimator, FewShotClassifier) else (X, y, tasks)
    for seed in range(20):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            made = trainer_of(estimator=estimator, random_state=seed).fit(*data)
        told = [str(w.message) for w in caught if "of a single row left out" in str(w.message)]
        assert len(told) == 1 and "12 " in told[0]
        assert made.meta_init_.provenance["tasks"]["count"] <= 4


def test_groups_that_no_episode_can_come_from_take_no_part():
    rng = np.random.default_rng(0)
    groups = np.r_[np.repeat([0, 1, 2], 8), np.repeat(np.arange(3, 12), 2)]
    y = np.r_[np.tile([0, 0, 0, 0, 1, 1, 1, 1], 3), np.zeros(18, int)]
    for seed in range(10):
        with pytest.warns(UserWarning, match="9 group.s. with fewer than two usable classes"):
            trainer = trainer_of(random_state=seed, classes="anew")
            trainer.fit(rng.normal(size=(len(y), 2)), y, groups)


# ------------------------------------------------------------------ encoders
class Returning(nn.Module):
    """An encoder that gives its features in some container."""

    def __init__(self, container):
        super().__init__()
        self.linear, self.container = nn.Linear(2, 3), container

    def forward(self, x):
        return self.container(self.linear(x))


class ModelOutput(dict):
    """What large language models of a well-known library return."""


@pytest.mark.parametrize(
    "container",
    [lambda z: {"logits": z}, lambda z: [], lambda z: ModelOutput(logits=z)],
    ids=["dict", "list", "output"],
)
def test_an_encoder_that_returns_no_features(container):
    with pytest.raises(ValueError, match=r"no features can be found.*wrap it in an nn.Module"):
        ProtoNetClassifier(encoder=Returning(container)).fit(*rows())


class LooksUp(nn.Module):
    """An encoder of token ids."""

    def __init__(self, casts):
        super().__init__()
        self.words, self.casts = nn.Embedding(50, 4), casts

    def forward(self, x):
        return self.words(x.long() if self.casts else x).mean(1)


@pytest.mark.parametrize("casts", [False, True])
def test_what_are_no_ids_is_said_at_once(casts):
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 50, (48, 6)), np.tile(np.arange(4), 12)
    trainer_of(estimator=ProtoNetClassifier(encoder=LooksUp(casts))).fit(X, y)
    told = "does not look up" if not casts else "looks up whole numbers"
    with pytest.raises(ValueError, match=f"whole numbers, such as ids|{told}"):
        trainer_of(estimator=ProtoNetClassifier(encoder=LooksUp(casts))).fit(X - 25.5, y)


def test_an_encoder_that_fails_in_its_own_way():
    class Fails(nn.Module):
        def forward(self, x):
            return x.no_such_thing

    with pytest.raises(ValueError, match=r"encoder Fails does not take rows of shape .*no_such"):
        ProtoNetClassifier(encoder=Fails()).fit(*rows())


@pytest.mark.parametrize("value", [(-1,), (0,), "foo", (2.5,), 3])
def test_a_width_of_an_encoder(value):
    with pytest.raises(ValueError, match="encoder__hidden must be a sequence"):
        ProtoNetClassifier(encoder="mlp", encoder__hidden=value).fit(*rows())


class Attending(nn.Module):
    """A small transformer."""

    def __init__(self, direct):
        super().__init__()
        self.up, self.direct = nn.Linear(1, 4), direct
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)

    def forward(self, x):
        Z = self.up(x[..., None])
        if self.direct:
            Z = nn.functional.scaled_dot_product_attention(Z, Z, Z, is_causal=True)
        return self.layer(Z).mean(1)


@pytest.mark.parametrize("direct", [False, True])
def test_maml_of_a_transformer_learns_through_its_steps(direct):
    few = {"n_episodes": 2, "batch_size": 2, "validation_fraction": 0}
    estimator = MAMLClassifier(encoder=Attending(direct), n_steps=1)
    trained = trainer_of(estimator=estimator, **few).fit(*rows(48)).estimator_
    assert np.isfinite(trained.fit(*rows()).predict_proba(rows()[0])).all()


def test_attention_written_out_has_the_derivatives_of_torchs_plain_kernel():
    from torch.func import functional_call, grad
    from torch.nn.attention import SDPBackend, sdpa_kernel

    from fewshot_sklearn.learners.inner_loop import AttentionWrittenOut

    torch.manual_seed(0)
    net, x = Attending(direct=True).double(), torch.randn(3, 5, dtype=torch.float64)
    params = {k: p.detach().requires_grad_() for k, p in net.named_parameters()}

    def twice(context):
        with context:
            grads = grad(lambda p: functional_call(net, p, (x,)).square().sum())(params)
            return torch.autograd.grad(
                sum(g.square().sum() for g in grads.values()), list(params.values())
            )

    for ours, theirs in zip(
        twice(AttentionWrittenOut()), twice(sdpa_kernel(SDPBackend.MATH)), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


# ------------------------------------------------------------------ after fit
def test_another_precision_after_fit():
    X, y = rows()
    clf = ProtoNetClassifier().fit(X, y).set_params(dtype="float32")
    with pytest.raises(ValueError, match=r"dtype='float32'.*computed in torch.float64: call"):
        clf.predict(X)
    assert clf.fit(X, y).predict(X).shape == y.shape


def test_a_pipeline_that_gives_other_columns():
    trained = trainer_of().fit(*rows(48)).estimator_
    X, y = rows()
    with pytest.raises(ValueError, match=r"meta-trained on rows of shape \(2,\).*fitted anew"):
        trained.fit(np.hstack([X, X]), y)


def test_probabilities_that_are_none():
    clf = trainer_of().fit(*rows(48)).estimator_
    for wrong in ([np.inf, 1.0], [np.nan, 1.0], [-1.0, 2.0], [0.0, 0.0], ["a", "b"], [0.5]):
        with pytest.raises(ValueError, match="probabilities must be 2 finite numbers"):
            clf.fit_prior(["a", "b"], wrong)


# ------------------------------------------------------------------ functions
@pytest.mark.parametrize(
    ("function", "given", "told"),
    [
        (few_shot_score, {"n_episodes": 0}, "n_episodes must be an int, at least 1"),
        (few_shot_score, {"n_shot": -1}, "n_shot must be"),
        (few_shot_score, {"n_jobs": 0}, "n_jobs must be"),
        (few_shot_score, {"random_state": "foo"}, "random_state must be"),
    ],
)
def test_scoring(function, given, told):
    X, y = rows(48)
    with pytest.raises(ValueError, match=told):
        function(ProtoNetClassifier(), X, y, **given)


def test_scoring_asks_what_fit_would():
    X, y = rows(48)
    trained = trainer_of().fit(X, y).estimator_.set_params(metric="manhattan")
    with pytest.raises(ValueError, match="metric must be"):
        few_shot_score(trained, X, y, n_episodes=2)


def test_scores():
    for wrong in ("foo", [], 1.0, [[1.0]], ["a"]):
        with pytest.raises(ValueError, match="scores must be"):
            FewShotScore(wrong)
    with pytest.raises(ValueError, match="clusters must be"):
        FewShotScore(np.ones(3), np.ones(2))


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.5, 1.5])
def test_calibration_error_of_no_probabilities(value):
    with pytest.raises(ValueError, match="y_proba must be probabilities"):
        expected_calibration_error([0, 1], [[0.5, value], [0.5, 0.5]])
    with pytest.raises(ValueError, match="sample_weight must be"):
        expected_calibration_error([0, 1], np.eye(2), sample_weight=[np.nan, 1.0])


def test_choosing_rows():
    X, y = rows()
    clf = ProtoNetClassifier().fit(X, y)
    with pytest.raises(ValueError, match="n_draws must be an int, at least 2"):
        select_queries(clf, X, n_draws="foo")
    with pytest.raises(ValueError, match="random_state must be"):
        uncertainty(clf, X, random_state="foo")
    with pytest.raises(ValueError, match="n must be an int from 1"):
        select_queries(clf, X, True)


@pytest.mark.parametrize("make", [make_sinusoid_tasks, make_harmonic_tasks])
@pytest.mark.parametrize("name", ["n_tasks", "n_shot", "n_query", "noise", "random_state"])
def test_generators(make, name):
    for value in ("foo", -1, np.inf, np.nan, [], object(), True):
        if (name, value) != ("random_state", True):
            with pytest.raises(ValueError, match=f"{name} must be"):
                make(**({"n_tasks": 2} | {name: value}))


@pytest.mark.parametrize("value", ["one sentence", b"bytes", 3, ["a", None], [1]])
def test_sentences(value):
    with pytest.raises(ValueError, match="sentences must"):
        embed_sentences(value)


# ------------------------------------------------------------------ displays
def display_calls():
    """How each display is made, and arguments that may not be, by name."""
    X, y = rows()
    clf = ProtoNetClassifier()
    maml = MAMLClassifier(encoder="mlp", encoder__hidden=(4,), n_steps=1, random_state=0)
    own = {"estimator": clf, "X_support": X, "y_support": y}
    steps = {"estimator": maml, "X_support": X, "y_support": y, "X_query": X, "y_query": y}
    return [
        (AdaptationDisplay.from_estimator, steps, {"n_steps": 0, "ax": "foo", "log_loss": "no"}),
        (EmbeddingDisplay.from_estimator, own, {"reduction": 3, "image_shape": -1, "ax": 3}),
        (
            PrototypeDisplay.from_estimator,
            own | {"image_shape": (1, 2)},
            {"past": 3, "n_neighbors": 0, "max_rows": 0, "image_shape": "foo", "cmap": "foo"},
        ),
        (TaskSimilarityDisplay.from_memory, {}, {"memory": "foo"}),
        (FewShotCurveDisplay.from_comparison, {}, {"comparison": "foo"}),
    ]


@pytest.mark.parametrize("call", display_calls(), ids=lambda call: call[0].__self__.__name__)
def test_displays(call):
    function, own, wrong = call
    for name, value in wrong.items():
        with pytest.raises(ValueError, match=f"{name} must be"):
            function(**(own | {name: value}))


def test_displays_without_matplotlib(monkeypatch):
    whole = builtins.__import__

    def lacking(name, *args, **options):
        if name.split(".")[0] == "matplotlib":
            raise ImportError("No module named 'matplotlib'")
        return whole(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", lacking)
    X, y = rows()
    with pytest.raises(ImportError, match=r"pip install 'fewshot-sklearn\[plot\]'"):
        EmbeddingDisplay.from_estimator(ProtoNetClassifier(), X, y)


def test_every_public_estimator_is_looked_at():
    """Those that are not here wrap others, and have tests of their own."""
    wrap = ("Pooled", "Strategy", "Taskwise", "Trust")
    for name in fewshot_sklearn.__all__:
        public = getattr(fewshot_sklearn, name)
        if isinstance(public, type) and issubclass(public, BaseEstimator):
            assert public in [*KINDS, *OTHERS] or name.startswith(wrap)
