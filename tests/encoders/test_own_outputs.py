"""What the models of transformers and timm take and give, by stand-ins that look like theirs."""

from __future__ import annotations

from collections import OrderedDict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import meta_train
from torch import nn

from fewshot_sklearn import ProtoNetClassifier
from fewshot_sklearn.encoders import make_encoder, n_features_out

PAD = 1


class ModelOutput(OrderedDict):
    """As transformers': entries by name, and as attributes."""

    def __getattr__(self, name):
        return self[name]


class Bert(nn.Module):
    """A transformer that mixes tokens but never looks at padding."""

    def __init__(self, gives, d=6):
        super().__init__()
        torch.manual_seed(0)
        self.config = SimpleNamespace(hidden_size=d, pad_token_id=PAD)
        self.words, self.mix, self.gives = nn.Embedding(40, d), nn.Linear(d, d), gives

    def forward(self, input_ids=None, attention_mask=None, token_type_ids=None):
        assert input_ids.dtype == torch.long
        Z = self.words(input_ids)
        w = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        w = (w / w.sum(1, keepdim=True)).to(Z.dtype)
        hidden = Z + self.mix((w[..., None] * Z).sum(1, keepdim=True))
        return self.gives(hidden)


def last_hidden_state(Z):
    return ModelOutput(last_hidden_state=Z)


def pooled_too(Z):
    return ModelOutput(last_hidden_state=Z, pooler_output=Z[:, 0].tanh())


def sentences(n=12, longest=8):
    rng = np.random.default_rng(0)
    ids = rng.integers(2, 40, (n, longest))
    lengths = rng.integers(3, longest + 1, n)
    ids[np.arange(longest) >= lengths[:, None]] = PAD
    return ids


def expected(net, ids, pooled=False):
    """One sentence at a time, without its padding."""
    found = []
    with torch.no_grad():
        for row in ids:
            output = net(torch.as_tensor(row[row != PAD])[None])
            found.append(output["pooler_output"] if pooled else output["last_hidden_state"].mean(1))
    return torch.cat(found).numpy()


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("told", ["pad_token_id", "mask"])
def test_tokens_are_averaged_without_padding(pooled, told):
    net, ids = Bert(pooled_too if pooled else last_hidden_state), sentences()
    X = np.stack([ids, ids != PAD], 1) if told == "mask" else ids
    if told == "mask":
        net.config.pad_token_id = None
    clf = ProtoNetClassifier(encoder=net, random_state=0).fit(X, np.arange(12) % 3)
    np.testing.assert_allclose(clf.embed(X), expected(net, ids, pooled), atol=1e-6)
    y = np.repeat(np.arange(6), 8)
    X = np.tile(X, (4, *[1] * (X.ndim - 1)))
    few = {"n_way": 2, "n_shot": 2, "n_query": 2, "n_episodes": 4, "max_epochs": 1}
    trained = meta_train(ProtoNetClassifier(encoder=net, freeze_encoder=True), X, y, **few)
    np.testing.assert_allclose(trained.embed(X[:12]), expected(net, ids, pooled), atol=1e-6)


def test_a_row_of_nothing_but_padding_is_a_number():
    net, ids = Bert(last_hidden_state), sentences()
    ids[0] = PAD
    assert np.isfinite(ProtoNetClassifier(encoder=net).fit(ids, np.arange(12) % 3).embed(ids)).all()


@pytest.mark.parametrize(
    "gives",
    [
        lambda Z: (Z, Z[:, 0].tanh()), lambda Z: [Z.mean(1)], lambda Z: Z.mean(1),
        lambda Z: (Z,), lambda Z: Z, lambda Z: {"last_hidden_state": Z},
        lambda Z: SimpleNamespace(last_hidden_state=Z, logits=None),
        lambda Z: ModelOutput(pooler_output=Z.mean(1)[:, :, None, None]),
        lambda Z: ModelOutput(logits=Z, image_embeds=Z.mean(1)),
    ],
    ids=range(9),
)  # fmt: skip
def test_features_are_found_in_whatever_holds_them(gives):
    net = make_encoder(Bert(gives), (8,), {}, whole=True)
    assert n_features_out(net, (8,)) == 6
    assert net(torch.as_tensor(sentences())).shape == (12, 6)


@pytest.mark.parametrize(
    ("gives", "told"),
    [
        (lambda Z: ModelOutput(logits=Z[:, 0, :2]), r"ModelOutput of \['logits'\]"),
        (lambda Z: None, "gave NoneType"),
        (lambda Z: ("a", "b"), "gave tuple"),
        (lambda Z: Z.tolist(), "gave list"),
        (lambda Z: Z[..., :5], r"must map \(n, \*input_shape\) to"),
        (lambda Z: Z.sum(), r"must map \(n, \*input_shape\) to"),
        (lambda Z: Z.mean(1).long(), "must return floating point"),
    ],
)
def test_what_cannot_be_understood_is_said(gives, told):
    with pytest.raises(ValueError, match=told):
        ProtoNetClassifier(encoder=Bert(gives)).fit(sentences(), np.arange(12) % 3)


class Timm(nn.Module):
    """A network of images as timm has them, with the features before or after pooling."""

    def __init__(self, order):
        super().__init__()
        torch.manual_seed(0)
        self.num_features, self.order = 5, order
        self.stem = nn.Conv2d(3, 5, 3)

    def forward(self, x):
        Z = self.stem(x)
        if self.order == "tokens":
            return Z.flatten(2).mT
        return Z if self.order == "NCHW" else Z.permute(0, 2, 3, 1)


@pytest.mark.parametrize("order", ["NCHW", "NHWC", "tokens"])
def test_maps_are_averaged(order):
    X = np.random.default_rng(0).normal(size=(6, 3, 9, 7)).astype(np.float32)
    clf = ProtoNetClassifier(encoder=Timm(order)).fit(X, [0, 0, 1, 1, 2, 2])
    with torch.no_grad():
        Z = Timm("NCHW")(torch.as_tensor(X)).mean((2, 3))
    np.testing.assert_allclose(clf.embed(X), Z.numpy(), atol=1e-6)


def test_a_sequence_of_unknown_order_is_not_guessed():
    net = nn.Conv1d(2, 4, 3)
    with pytest.raises(ValueError, match=r"must map \(n, \*input_shape\) to"):
        ProtoNetClassifier(encoder=net).fit(np.ones((4, 2, 9)), [0, 0, 1, 1])
