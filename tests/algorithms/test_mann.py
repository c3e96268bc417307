"""Memory-augmented neural networks against the paper's equations in plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import meta_train
from scipy.special import expit, softmax
from sklearn.datasets import load_digits, load_wine
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.preprocessing import StandardScaler

from fewshot_sklearn import MANNClassifier, MetaInit, few_shot_score
from fewshot_sklearn.algorithms._class_codes import label_codes
from fewshot_sklearn.algorithms.mann import MANN
from fewshot_sklearn.encoders import make_encoder
from fewshot_sklearn.learners import reading_order
from fewshot_sklearn.tasks import Support, Task, add_rotations, pad_tasks


def random_learner(**options):
    """A small learner in float64 in which no parameter is zero."""
    torch.manual_seed(0)
    small = {"n_reads": 2, "controller_size": 5, "code_size": 4} | options
    learner = MANN(make_encoder("identity", (3,), {}), (3,), **small)
    for name, p in learner.named_parameters():
        p.data += (0.1 if name.startswith("log") else 0.5) * torch.randn_like(p)
    learner.gate.bias.data[:] = torch.linspace(-1.0, 0.5, len(learner.gate.bias))
    return learner.double().eval()


def make_task(n=12, n_way=3, seed=0):
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % n_way
    X = rng.normal(size=(n, 3)) + codes[:, None]
    w = rng.uniform(0.5, 2, n)
    return X, np.eye(n_way)[codes], w, rng.normal(size=(7, 3))


def as_tensors(*arrays):
    return [torch.tensor(np.asarray(a, dtype=float)) for a in arrays]


def logits_of(learner, X, y, w, X_query):
    with torch.no_grad():
        state = learner.adapt(Support(*as_tensors(X, y, w)))
        return learner.predict(state, *as_tensors(X_query)).numpy()


# ------------------------------------------------------------------ the equations
def unit(v):
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


def by_hand(learner, X, y, w, X_query, n_slots):
    """Eq. 2-8 of the paper, one row, head and slot after the other."""
    t = {name: p.detach().numpy() for name, p in learner.state_dict().items()}
    R, hidden, gamma = learner.n_reads, len(t["controller.gates.bias"]) // 4, learner.gamma
    n_way, C = y.shape[1], learner.code_size
    means = np.array([np.average(X, axis=0, weights=w * y[:, k]) for k in range(n_way)])
    rank = np.argsort(np.argsort(reading_order(torch.tensor(means)).numpy()))
    codes = label_codes(n_way, C, torch.zeros(1, dtype=torch.float64)).numpy()[rank]

    def controller(x, h, c):
        gates = t["controller.gates.weight"] @ np.concatenate([x, h]) + t["controller.gates.bias"]
        i, f, o, g = np.split(gates, 4)
        c = expit(f) * c + expit(i) * np.tanh(g)
        return expit(o) * np.tanh(c), c

    def keys(x, h):
        return [x + k for k in np.split(t["key.weight"] @ h + t["key.bias"], R)]

    def read(k, head):
        K = np.full(n_slots, -np.inf)  # slots never written to are not read
        for i in range(n_slots):
            if written[i]:
                K[i] = k @ M[i] / np.linalg.norm(k) / np.linalg.norm(M[i])  # eq. 2
        w_r = softmax(np.exp(t["log_strength"][head]) * K)  # eq. 3
        return w_r, sum(w_r[i] * M[i] for i in range(n_slots))  # eq. 4

    h, c = np.zeros(hidden), np.zeros(hidden)
    M, written = np.zeros((n_slots, 3 + C)), np.zeros(n_slots, bool)
    usage, w_r, r = np.zeros(n_slots), np.zeros((R, n_slots)), np.zeros((R, 3 + C))
    for row in np.argsort(reading_order(torch.tensor(X)).numpy()):
        x = np.concatenate([unit(X[row]), y[row] @ codes])
        h, c = controller(np.concatenate([x, r.ravel()]), h, c)
        k, alpha = keys(x, h), t["gate.weight"] @ h + t["gate.bias"]
        by_usage = sorted(range(n_slots), key=lambda i: (written[i], usage[i], i))
        w_w = np.zeros((R, n_slots))
        for head, slot in enumerate(by_usage[:R]):  # eq. 6
            M[slot], written[slot] = 0.0, True
            w_w[head] = expit(alpha[head]) * w_r[head]
            w_w[head, slot] += 1 - expit(alpha[head])  # eq. 7
        for head in range(R):
            for i in range(n_slots):
                M[i] = M[i] + w[row] / w.mean() * w_w[head, i] * k[head]  # eq. 8
        for head in range(R):
            w_r[head], r[head] = read(k[head], head)
        usage = gamma * usage + w_r.sum(0) + w_w.sum(0)  # eq. 5
    logits = []
    for query in X_query:
        x = np.concatenate([unit(query), np.zeros(C)])
        h_q, _ = controller(np.concatenate([x, r.ravel()]), h, c)
        found = [read(k, head)[1] for head, k in enumerate(keys(x, h_q))]
        code = t["output.weight"] @ np.concatenate([h_q, *found]) + t["output.bias"]
        logits.append(np.exp(t["log_scale"]) * codes @ code)
    return np.array(logits), M[written]


@pytest.mark.parametrize("n_slots", [2, 5, 9, 40, None], ids="{} slots".format)
@pytest.mark.parametrize("n_way", [3, 6])
def test_the_equations(n_slots, n_way):
    """With fewer slots than rows times heads, the least used are overwritten."""
    learner, (X, y, w, X_query) = random_learner(n_slots=n_slots), make_task(n_way=n_way)
    y = 0.8 * y + 0.2 / n_way  # labels may be soft
    expected, M = by_hand(learner, X, y, w, X_query, n_slots or 2 * len(X))
    np.testing.assert_allclose(
        logits_of(learner, X, y, w, X_query), expected, rtol=1e-9, atol=1e-10
    )
    state = learner.adapt(Support(*as_tensors(X, y, w)))
    np.testing.assert_allclose(state["M"][state["written"]].detach(), M, rtol=1e-9, atol=1e-10)


def test_usage_decides_what_is_overwritten():
    task = make_task(n=30)
    answers = [logits_of(random_learner(n_slots=6, gamma=g), *task) for g in (0.0, 0.6, 0.95)]
    assert np.abs(answers[0] - answers[1]).max() > 1e-3
    assert np.abs(answers[1] - answers[2]).max() > 1e-3


def test_enough_slots_are_as_good_as_any_number():
    task = make_task()
    learners = [random_learner(n_slots=n) for n in (None, 24, 500)]
    first, *others = (logits_of(learner, *task) for learner in learners)
    for other in others:
        np.testing.assert_allclose(other, first, rtol=1e-10, atol=1e-12)
    assert np.abs(logits_of(random_learner(n_slots=22), *task) - first).max() > 1e-6


# ------------------------------------------------------------------ codes
def test_codes():
    like = torch.zeros(1, dtype=torch.float64)
    for size in (1, 2, 7, 32):
        codes = label_codes(size, size, like).numpy()
        np.testing.assert_allclose(codes @ codes.T, np.eye(size), atol=1e-12)
    many = label_codes(300, 64, like).numpy()
    likeness = np.abs(many @ many.T - np.eye(300))
    assert np.abs(np.linalg.norm(many, axis=1) - 1).max() < 1e-12
    assert likeness.max() < 0.7 and likeness.mean() < 0.15
    np.testing.assert_array_equal(many[:50], label_codes(50, 64, like))


# ------------------------------------------------------------------ sets, names, padding
def test_order_of_rows_and_names_of_classes():
    learner, (X, y, w, X_query) = random_learner(n_slots=8), make_task()
    expected = logits_of(learner, X, y, w, X_query)
    order = np.random.default_rng(1).permutation(len(X))
    shuffled = logits_of(learner, X[order], y[order], w[order], X_query)
    np.testing.assert_allclose(shuffled, expected, rtol=1e-9, atol=1e-10)
    for names in ([1, 2, 0], [2, 1, 0]):
        renamed = logits_of(learner, X, y[:, names], w, X_query)
        np.testing.assert_allclose(renamed, expected[:, names], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("n_slots", [None, 8])
def test_weights(n_slots):
    learner, (X, y, _, X_query) = random_learner(n_slots=n_slots), make_task()
    w = np.arange(len(X)) // 2 % 3
    weighted = logits_of(learner, X, y, w, X_query)
    repeated = logits_of(learner, X.repeat(w, 0), y.repeat(w, 0), np.ones(w.sum()), X_query)
    np.testing.assert_allclose(weighted, repeated, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(weighted, logits_of(learner, X, y, 3 * w, X_query), rtol=1e-9)
    plain = logits_of(learner, X, y, w > 0, X_query)
    assert np.abs(weighted - plain).max() > 1e-3


@pytest.mark.parametrize("n_slots", [None, 8])
def test_a_padded_batch_of_unlike_tasks(n_slots):
    learner = random_learner(n_slots=n_slots)
    tasks = [make_task(12, 3, 1), make_task(5, 2, 2)]
    codes = [(y.argmax(1), np.zeros(len(q), int)) for _, y, _, q in tasks]
    pairs = zip(tasks, codes, strict=True)
    batch, _ = pad_tasks([Task(X, c, q, cq) for (X, _, _, q), (c, cq) in pairs], torch.float64)
    with torch.no_grad():
        outputs = learner(**batch).numpy()
    for (X, y, w, X_query), together in zip(tasks, outputs, strict=True):
        alone = logits_of(learner, X, y, np.ones_like(w), X_query)
        np.testing.assert_allclose(together[:, : y.shape[1]], alone, rtol=1e-9, atol=1e-10)
        assert np.all(together[:, y.shape[1] :] == -np.inf)


def test_gradients_are_finite_and_reach_every_parameter():
    learner, (X, y, w, X_query) = random_learner(n_slots=8).train(), make_task()
    w[:3] = 0.0
    tensors = [t[None] for t in as_tensors(X, y, w, X_query)]
    loss, _ = learner.training_loss(*tensors, torch.zeros(1, len(X_query), dtype=torch.long))
    loss.backward()
    for name, p in learner.named_parameters():
        assert torch.isfinite(p.grad).all() and p.grad.abs().max() > 0, name


# ------------------------------------------------------------------ without a past
def test_without_a_past_it_is_a_vote_of_the_neighbours(margin):
    """Each head gives a row the softmax over the rows of strength times cosine."""
    X, y = load_wine(return_X_y=True)
    rows = np.random.default_rng(0).permutation(len(X))[:60]
    X, y = X[rows], y[rows]
    learner = MANN(make_encoder("identity", (13,), {}), (13,)).double()
    learner.gate.bias.data[:] = -50.0  # nothing goes to a slot that was read
    scaler = StandardScaler().fit(X[:30])
    Z = scaler.transform(X)
    logits = logits_of(learner, Z[:30], np.eye(3)[y[:30]], np.ones(30), Z[30:])
    cosine = cosine_similarity(Z[30:], Z[:30]) / np.sqrt(2)  # a slot holds a code as well
    strengths = learner.log_strength.exp().detach().numpy()
    votes = np.mean([softmax(s * cosine, 1) @ np.eye(3)[y[:30]] for s in strengths], 0)
    np.testing.assert_allclose(logits, 10 * votes, rtol=1e-6, atol=1e-8)
    clf = MANNClassifier().fit(X[:30], y[:30])
    np.testing.assert_allclose(
        clf.predict_proba(X[30:]), softmax(10 * votes, 1), atol=0.05
    )  # a gate of -5 writes a little to what was just read
    margin.above(clf.score(X[30:], y[30:]), 0.8)
    assert clf.memory_.shape == (4 * 30, 13 + 32)


@pytest.mark.parametrize("n_slots", [None, 5])
def test_without_a_past_it_is_what_the_networks_start_from(n_slots):
    """They are not there then; what was fitted when they were still predicts."""
    X, y = load_wine(return_X_y=True)
    clf = MANNClassifier(n_slots=n_slots).fit(X[::9], y[::9])
    expected, state = clf.predict_proba(X), clf.state_
    assert not any("controller" in name for name in clf.meta_init_.tensors)
    start = MANN(make_encoder("identity", (13,), {}), (13,), n_slots=n_slots).double()
    tensors = start.state_dict() | clf.meta_init_.state_dict()
    start.load_state_dict(tensors)
    clf.meta_init_ = MetaInit.from_state(tensors, clf.meta_init_.spec)
    clf.state_ = state | {"h": np.ones(200), "c": np.ones(200)}
    np.testing.assert_allclose(clf.predict_proba(X), expected, rtol=1e-12)
    task = X[::9], np.eye(3)[y[::9]], np.ones(len(X[::9])), X
    found = softmax(logits_of(start.eval(), *task), 1)
    np.testing.assert_allclose(found, expected, rtol=1e-7)


def test_more_rows_than_a_block_of_the_memory(monkeypatch):
    task = make_task(n=30)
    for n_slots in (None, 12, 200):
        whole = logits_of(random_learner(n_slots=n_slots), *task)
        monkeypatch.setattr("fewshot_sklearn.algorithms.mann.ROWS_A_BLOCK", 4)
        in_blocks = logits_of(random_learner(n_slots=n_slots), *task)
        monkeypatch.undo()
        np.testing.assert_allclose(in_blocks, whole, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(
    "options",
    [{"n_slots": 3}, {"n_slots": 2.5}, {"n_reads": 0}, {"controller_size": 0}, {"code_size": "a"},
     {"gamma": 1.5}],
    ids=str,
)  # fmt: skip
def test_bad_hyperparameters(options):
    (name,) = options
    with pytest.raises(ValueError, match=name):
        MANNClassifier(**options).fit([[0.0], [1.0]], [0, 1])


# ------------------------------------------------------------------ meta-training
@pytest.fixture(scope="module")
def pools():
    """Turned digits, each angle a class, beside as many columns of noise: 0 to 6, and 7 to 9."""
    digits = load_digits()
    X, y = add_rotations(digits.images, digits.target)
    past = np.isin(np.char.partition(y, "@")[:, 0].astype(int), np.arange(7))
    X = X.reshape(len(X), -1)
    X = np.hstack([X, np.random.default_rng(0).normal(0, 12, X.shape)])
    return (X[past], y[past]), (X[~past], y[~past])


NET = {"encoder": "mlp", "encoder__hidden": (64,), "controller_size": 64}


TASKS = {"n_way": 5, "n_shot": 1, "n_query": 10}


@pytest.fixture(scope="module")
def trained(pools):
    return meta_train(MANNClassifier(**NET), *pools[0], **TASKS)


def test_meta_training_helps_with_new_classes(trained, pools, margin):
    few = {"n_way": 5, "n_shot": 1, "n_query": 10, "n_episodes": 60}
    untrained = meta_train(MANNClassifier(**NET), *pools[0], **TASKS, max_epochs=0)
    before = few_shot_score(untrained, *pools[1], **few).mean
    margin.above(few_shot_score(trained, *pools[1], **few).mean - before, 0.03)


@pytest.mark.parametrize(
    ("n_way", "n_shot", "least"), [(2, 1, 0.6), (12, 1, 0.25), (5, 5, 0.55), (12, 10, 0.4)]
)
def test_any_way_and_shot(trained, pools, n_way, n_shot, least, margin):
    few = {"n_way": n_way, "n_shot": n_shot, "n_query": 5, "n_episodes": 20}
    margin.above(few_shot_score(trained, *pools[1], **few).mean, least)


def test_more_classes_than_codes_at_right_angles(pools, margin):
    X, y = (np.concatenate(pair) for pair in zip(*pools, strict=True))
    shots = np.concatenate([np.flatnonzero(y == label)[:2] for label in np.unique(y)])
    clf = MANNClassifier(code_size=16).fit(X[shots], y[shots])
    assert clf.predict_proba(X[:5]).shape == (5, 40)
    margin.above(clf.score(X[shots], y[shots]), 0.9)


def test_saved_and_loaded(trained, pools, tmp_path):
    X, y = (a[::29] for a in pools[1])
    trained.meta_init.save(tmp_path / "mann.safetensors")
    loaded = MANNClassifier(MetaInit.load(tmp_path / "mann.safetensors"))
    np.testing.assert_array_equal(
        loaded.fit(X, y).predict_proba(X), trained.fit(X, y).predict_proba(X)
    )
