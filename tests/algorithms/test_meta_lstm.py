"""The LSTM meta-learner against the paper's equations in numpy, gradients by torch.autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import meta_train
from scipy.special import expit
from sklearn.datasets import load_digits
from torch.func import functional_call
from torch.nn import functional as F

from fewshot_sklearn import MAMLClassifier, MetaInit, MetaLSTMClassifier, few_shot_score
from fewshot_sklearn.algorithms.maml import MAMLClassification
from fewshot_sklearn.algorithms.meta_lstm import MetaLSTM, preprocessed
from fewshot_sklearn.encoders import make_encoder
from fewshot_sklearn.tasks import Support, Task, add_rotations, pad_tasks

ENCODERS = {
    "by hand": ("mlp", (3,), {"hidden": (4,), "activation": "tanh"}),
    "vmapped": ("mlp", (3,), {"hidden": (4,), "activation": "gelu"}),
    "convolution": ("conv4", (8, 8), {"width": 4}),
    "no encoder": ("identity", (3,), {}),
}
every_encoder = pytest.mark.parametrize("kind", ENCODERS)


def random_learner(kind="by hand", **options):
    """A learner in float64 whose gates are far from constant."""
    torch.manual_seed(0)
    name, shape, params = ENCODERS[kind]
    learner = MetaLSTM(make_encoder(name, shape, params), shape, hidden_size=3, **options)
    for name, p in learner.meta_learner.named_parameters():
        p.data += torch.randn_like(p) if "weight" in name else 0.3 * torch.randn_like(p)
    learner.meta_learner.forget_gate.bias.data -= 4.0
    return learner.double()


def make_task(learner, n=6, n_way=3, seed=0):
    """Rows, codes, weights and queries that suit a learner."""
    rng = np.random.default_rng(seed)
    codes = rng.permutation(n) % n_way
    shift = codes.reshape(-1, *[1] * len(learner.input_shape))
    X = rng.normal(size=(n, *learner.input_shape)) + shift
    X_query = rng.normal(size=(4, *learner.input_shape)) + 1.0
    return X, codes, rng.uniform(0.5, 2, n), X_query


def as_tensors(*arrays):
    return [torch.tensor(np.asarray(a, dtype=float)) for a in arrays]


def outputs_of(learner, X, codes, w, X_query, n_way=3):
    with torch.no_grad():
        state = learner.adapt(Support(*as_tensors(X, np.eye(n_way)[codes], w)))
        return learner.predict(state, *as_tensors(X_query)).numpy(), state


# ------------------------------------------------------------------ the equations
def told(x, p=10.0):
    """Appendix A of Andrychowicz et al. 2016, one number at a time."""
    if abs(x) >= np.exp(-p):
        return np.log(abs(x)) / p, np.sign(x)
    return -1.0, np.exp(p) * x


def by_hand(learner, X, codes, w, X_query, n_way=3):
    """Eq. 2-4 for one coordinate after the other: logits and loss before each step."""
    m = {k: p.detach().numpy() for k, p in learner.meta_learner.named_parameters()}
    inner = {k: p.detach().clone() for k, p in learner.encoder.named_parameters()}
    head = {"weight": torch.zeros(n_way, learner.n_features), "bias": torch.zeros(n_way)}
    theta = [*inner.values(), *(p.double() for p in head.values())]
    X, w, X_query = as_tensors(X, w, X_query)
    codes, hidden, losses = torch.tensor(codes), learner.hidden_size, []
    coordinates = sum(p.numel() for p in theta)
    h, c = np.zeros((coordinates, hidden)), np.zeros((coordinates, hidden))
    i, f = np.zeros(coordinates), np.zeros(coordinates)

    def network(theta, X):
        *weights, weight, bias = theta
        Z = functional_call(learner.encoder, dict(zip(inner, weights, strict=True)), (X,))
        return Z @ weight.T + bias

    for _ in range(learner.n_steps):
        theta = [p.detach().requires_grad_() for p in theta]
        loss = (w * F.cross_entropy(network(theta, X), codes, reduction="none")).sum() / w.sum()
        grads = torch.autograd.grad(loss, theta)
        losses.append(loss.item())
        grad = np.concatenate([g.numpy().ravel() for g in grads])
        cell = np.concatenate([p.detach().numpy().ravel() for p in theta])
        for j in range(coordinates):
            x = np.array([*told(grad[j]), *told(losses[-1]), *h[j]])
            gates = m["first.gates.weight"] @ x + m["first.gates.bias"]
            enter, keep, out, new = np.split(gates, 4)
            c[j] = expit(keep) * c[j] + expit(enter) * np.tanh(new)
            h[j] = expit(out) * np.tanh(c[j])
            seen = np.array([*h[j], cell[j]])
            i[j] = expit(
                (m["input_gate.weight"] @ [*seen, i[j]] + m["input_gate.bias"])[0]
            )  # eq. 3
            f[j] = expit(
                (m["forget_gate.weight"] @ [*seen, f[j]] + m["forget_gate.bias"])[0]
            )  # eq. 4
            cell[j] = f[j] * cell[j] + i[j] * -grad[j]  # eq. 2
        parts = torch.tensor(cell).split([p.numel() for p in theta])
        theta = [part.reshape(p.shape) for part, p in zip(parts, theta, strict=True)]
    return network(theta, X_query).detach().numpy(), losses


@every_encoder
def test_the_equations(kind):
    learner = random_learner(kind, n_steps=3).train()
    task = make_task(learner)
    expected, losses = by_hand(learner, *task)
    outputs, state = outputs_of(learner, *task)
    np.testing.assert_allclose(outputs, expected, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(state["loss_curve"], losses, rtol=1e-10)


def test_preprocessing():
    x = np.array([0.0, 1e-7, -1e-7, -3.0, np.exp(-10), 1e8, 1e300])
    np.testing.assert_allclose(preprocessed(torch.tensor(x)), [told(v) for v in x], rtol=1e-12)


def test_without_a_past_only_the_forget_gate_tells_it_from_maml(margin):
    X, y = load_digits(return_X_y=True)
    net = {"encoder": "mlp", "random_state": 0, "n_steps": 20, "inner_lr": 0.2}
    lstm = MetaLSTMClassifier(**net).fit(X[:40], y[:40])
    maml = MAMLClassifier(**net).fit(X[:40], y[:40])
    margin.below(np.abs(lstm.loss_curve_ / maml.loss_curve_ - 1).max(), 0.1, "losses")
    margin.above(np.mean(lstm.predict(X[40:200]) == maml.predict(X[40:200])), 0.95, "answers")


@every_encoder
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_with_constant_gates_it_is_maml(kind, mode):
    learner = MetaLSTM(random_learner(kind).encoder, ENCODERS[kind][1], inner_lr=0.3).double()
    learner.meta_learner.forget_gate.bias.data[:] = 60.0  # f = 1
    learner.meta_learner.input_gate.bias.data[:] = np.log(0.3 / 0.7)  # i = 0.3
    maml = MAMLClassification(learner.encoder, learner.input_shape, inner_lr=0.3).double()
    task = make_task(learner)
    for each in (learner, maml):
        getattr(each, mode)()
    outputs, state = outputs_of(learner, *task)
    expected, expected_state = outputs_of(maml, *task)
    np.testing.assert_allclose(outputs, expected, rtol=1e-7, atol=1e-10)
    np.testing.assert_allclose(state["loss_curve"], expected_state["loss_curve"], rtol=1e-8)


@every_encoder
def test_gradients_and_losses_count_as_constants(kind):
    """Gradients and losses noted on the way, put in as numbers, leave all derivatives the same."""
    learner = random_learner(kind, n_steps=2).train()
    X, codes, w, _ = make_task(learner)
    support = Support(*as_tensors(X, np.eye(3)[codes], w))
    seen = []
    plain = learner.gradient
    learner.gradient = lambda *args: seen.append(plain(*args)) or seen[-1]
    learner.adapt(support)
    told_again = iter(seen)

    def end():
        state = learner.adapt(support)
        return sum((state[k] ** 2).sum() for k in state if k.endswith(("weight", "bias")))

    replayed = []
    for gradient in (plain, lambda *args: next(told_again)):
        learner.gradient = gradient
        learner.zero_grad()
        end().backward()
        replayed.append([p.grad.clone() for p in learner.parameters()])
    for ours, constant in zip(*replayed, strict=True):
        np.testing.assert_allclose(ours, constant, rtol=1e-10)
        assert ours.abs().max() > 0


# ------------------------------------------------------------------ sets, names, padding
@pytest.mark.parametrize("mode", ["train", "eval"])
@every_encoder
def test_a_padded_batch_of_unlike_tasks(kind, mode):
    learner = getattr(random_learner(kind, trained_steps=2), mode)()
    tasks = [make_task(learner, 8, 3, 1), make_task(learner, 5, 2, 2)]
    pairs = [Task(X, codes, q, np.zeros(len(q), int)) for X, codes, _, q in tasks]
    batch, _ = pad_tasks(pairs, torch.float64)
    with torch.no_grad():
        outputs = learner(**batch).numpy()
    for (X, codes, w, X_query), together in zip(tasks, outputs, strict=True):
        n_way = codes.max() + 1
        alone, _ = outputs_of(learner, X, codes, np.ones_like(w), X_query, n_way)
        np.testing.assert_allclose(together[:, :n_way], alone, rtol=1e-8, atol=1e-10)
        assert np.all(together[:, n_way:] == -np.inf)


def test_order_names_and_weights():
    learner = random_learner(trained_steps=5).eval()
    X, codes, _, X_query = make_task(learner, 9)
    w = np.arange(9) % 4
    expected, _ = outputs_of(learner, X, codes, w, X_query)
    order = np.random.default_rng(0).permutation(9)
    shuffled, _ = outputs_of(learner, X[order], codes[order], w[order], X_query)
    np.testing.assert_allclose(shuffled, expected, rtol=1e-8, atol=1e-10)
    renamed, _ = outputs_of(learner, X, np.array([2, 0, 1])[codes], w, X_query)
    np.testing.assert_allclose(renamed[:, [2, 0, 1]], expected, rtol=1e-8, atol=1e-10)
    repeated, _ = outputs_of(learner, X.repeat(w, 0), codes.repeat(w), np.ones(w.sum()), X_query)
    np.testing.assert_allclose(repeated, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("factor", [10.0, 1e6, 1e150])
def test_steps_that_go_wrong_are_taken_back(factor):
    learner = random_learner("no encoder", n_steps=40, trained_steps=3).eval()
    learner.meta_learner.input_gate.bias.data += 5.0
    X, codes, w, X_query = make_task(learner)
    X, w = np.vstack([X, X[:1]]), np.append(w, 1.0)  # a row under two labels: no step fits all
    codes = np.append(codes, (codes[0] + 1) % 3)
    outputs, state = outputs_of(learner, factor * X, codes, w, factor * X_query)
    curve = state["loss_curve"].numpy()
    assert np.isfinite(outputs).all()
    assert np.all(curve[:4] <= curve[0]) and np.all(np.diff(curve[3:]) <= 0)
    with torch.no_grad():
        plain = learner.train().adapt(Support(*as_tensors(factor * X, np.eye(3)[codes], w)))
    assert not np.all(np.diff(plain["loss_curve"]) <= 0)  # or NaN


def test_tasks_at_once():
    X, X_query = torch.zeros(1000, 5, 28, 28), torch.zeros(1000, 15, 28, 28)
    small = MetaLSTM(make_encoder("conv4", (28, 28), {}), (28, 28))
    assert small.tasks_at_once(X, X_query) == 1
    on_gpu = X.to("meta"), X_query.to("meta")
    assert 1 <= small.tasks_at_once(*on_gpu) < 1000


@pytest.mark.parametrize(
    "options", [{"inner_lr": 1.0}, {"inner_lr": 0.0}, {"n_steps": -1}, {"hidden_size": 0}], ids=str
)
def test_bad_hyperparameters(options):
    (name,) = options
    with pytest.raises(ValueError, match=name):
        MetaLSTMClassifier(**options).fit([[0.0], [1.0]], [0, 1])


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


NET = {"encoder": "mlp", "encoder__hidden": (16,)}
TASKS = {"n_way": 5, "n_shot": 1, "n_query": 10, "n_episodes": 80, "lr": 2e-2}


@pytest.fixture(scope="module")
def trained(pools):
    return meta_train(MetaLSTMClassifier(**NET), *pools[0], **TASKS)


def test_meta_training_helps_with_new_classes(trained, pools, margin):
    few = {"n_way": 5, "n_shot": 1, "n_query": 10, "n_episodes": 40}
    untrained = meta_train(MetaLSTMClassifier(**NET), *pools[0], **TASKS, max_epochs=0)
    before = few_shot_score(untrained, *pools[1], **few).mean
    after = few_shot_score(trained, *pools[1], **few).mean
    margin.above(after - before, 0.08)


def test_the_gates_are_learned(trained, margin):
    learned = trained.meta_init.tensors
    for gate in ("input_gate", "forget_gate"):
        largest = np.abs(learned[f"meta_learner.{gate}.weight"]).max()
        margin.above(np.log10(max(largest, 1e-9)), -3, f"{gate}, logarithm")


@pytest.mark.parametrize(
    ("n_way", "n_shot", "least"), [(2, 1, 0.6), (12, 1, 0.2), (5, 5, 0.4), (12, 10, 0.2)]
)
def test_any_way_and_shot(trained, pools, n_way, n_shot, least, margin):
    few = {"n_way": n_way, "n_shot": n_shot, "n_query": 5, "n_episodes": 20}
    margin.above(few_shot_score(trained, *pools[1], **few).mean, least)


def test_saved_and_loaded(trained, pools, tmp_path):
    X, y = (a[::29] for a in pools[1])
    trained.meta_init.save(tmp_path / "lstm.safetensors")
    loaded = MetaLSTMClassifier(MetaInit.load(tmp_path / "lstm.safetensors"), inner_lr=0.5)
    np.testing.assert_array_equal(
        loaded.fit(X, y).predict_proba(X), trained.fit(X, y).predict_proba(X)
    )
