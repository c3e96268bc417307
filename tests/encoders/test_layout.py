"""Where the channels of images are: told, found, or refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import meta_train
from sklearn.base import clone
from torch import nn

from fewshot_sklearn import MetaTrainer, ProtoNetClassifier
from fewshot_sklearn.encoders import Conv4, make_encoder, possible_layouts

FEW = {"n_way": 2, "n_shot": 2, "n_query": 2, "n_episodes": 4, "max_epochs": 1}
SMALL = {"encoder__width": 8}


def images(*shape, n_classes=6):
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(n_classes), 5)
    return rng.integers(0, 256, (len(y), *shape)).astype(np.uint8), y


@pytest.mark.parametrize(
    ("shape", "found"),
    [
        ((48, 48, 3), ["NHWC"]), ((3, 48, 48), ["NCHW"]), ((28, 28, 1), ["NHWC"]),
        ((1, 28, 28), ["NCHW"]), ((32, 32, 12), ["NHWC"]), ((12, 32, 32), ["NCHW"]),
        ((3, 32, 3), ["NHWC", "NCHW"]), ((16, 16, 16), []), ((2, 2, 3), ["NHWC"]),
    ],
)  # fmt: skip
def test_possible_layouts(shape, found):
    assert possible_layouts(shape) == found


@pytest.mark.parametrize("name", ["conv4", "resnet8", "resnet12"])
def test_channels_first_are_seen_as_channels_first(name):
    X, y = images(3, 12, 10)
    last = X.transpose(0, 2, 3, 1)
    params = {"encoder": name, "random_state": 0}
    params["encoder__width" if name == "conv4" else "encoder__widths"] = (
        8 if name == "conv4" else (4, 4, 8, 8)
    )
    expected = ProtoNetClassifier(**params).fit(last, y).embed(last)
    for layout in ("auto", "NCHW"):
        clf = ProtoNetClassifier(layout=layout, **params).fit(X, y)
        np.testing.assert_allclose(clf.embed(X), expected, rtol=1e-5, atol=1e-5)
    few = FEW | {"max_epochs": 0}
    trained = [meta_train(ProtoNetClassifier(**params), rows, y, **few) for rows in (last, X)]
    assert [clf.meta_init.inputs["layout"] for clf in trained] == ["NHWC", "NCHW"]
    np.testing.assert_allclose(trained[1].embed(X), trained[0].embed(last), rtol=1e-4, atol=1e-4)


def test_flat_rows_are_read_in_the_layout_told():
    X, y = images(3, 8, 8)
    last = X.transpose(0, 2, 3, 1)
    params = {"encoder": "conv4", "random_state": 0} | SMALL
    expected = ProtoNetClassifier(**params).fit(last, y).embed(last)
    for rows, layout in ((X, "NCHW"), (last, "NHWC"), (last, "auto")):
        flat = rows.reshape(len(rows), -1)
        clf = ProtoNetClassifier(layout=layout, **params).fit(flat, y)
        np.testing.assert_allclose(clf.embed(flat), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 32, 3), (16, 16, 16), (1, 9, 1)])
def test_a_shape_that_may_be_either_is_refused(shape):
    X, y = images(*shape)
    with pytest.raises(ValueError, match='say layout="NHWC" or layout="NCHW"'):
        ProtoNetClassifier(encoder="conv4", **SMALL).fit(X, y)
    with pytest.raises(ValueError, match='say layout="NHWC" or layout="NCHW"'):
        MetaTrainer(ProtoNetClassifier(encoder="conv4", **SMALL), verbose=0).fit(X, y)
    for layout in ("NHWC", "NCHW"):
        clf = ProtoNetClassifier(encoder="conv4", layout=layout, **SMALL).fit(X, y)
        assert clf._rebuild(clf.meta_init_).encoder.channels == shape[2 if layout == "NHWC" else 0]


def test_rows_without_channels_have_no_layout():
    with pytest.raises(ValueError, match="have no axis of channels"):
        ProtoNetClassifier(encoder="mlp", layout="NCHW").fit(np.ones((4, 5)), [0, 0, 1, 1])
    with pytest.raises(ValueError, match="have no axis of channels"):
        ProtoNetClassifier(encoder="conv4", layout="NCHW").fit(np.ones((4, 8, 8)), [0, 0, 1, 1])


# ------------------------------------------------------------------ a network of the user's own
class Net(nn.Module):
    def __init__(self, channels=3):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(channels, 4, 3, padding=1)

    def forward(self, x):
        return self.conv(x).relu().mean((2, 3))


class Turning(Net):
    """A network that takes channels last, and turns them itself."""

    def forward(self, x):
        return super().forward(x.permute(0, 3, 1, 2))


def own_features(X):
    with torch.no_grad():
        return Net()(torch.as_tensor(X, dtype=torch.float32)).numpy()


@pytest.mark.parametrize("net", [Net(), Net])
def test_own_networks_are_given_channels_first(net):
    X, y = images(3, 10, 9)
    last = X.transpose(0, 2, 3, 1)
    for rows, layouts in ((X, ("auto", "NCHW")), (last, ("auto", "NHWC"))):
        for layout in layouts:
            clf = ProtoNetClassifier(encoder=net, layout=layout, scale_inputs=False)
            clf.fit(rows, y)
            if net is not Net:  # of a class the weights are drawn anew
                np.testing.assert_allclose(clf.embed(rows), own_features(X), rtol=1e-5, atol=1e-4)
            assert clf.embed(rows).shape == (len(X), 4)


def test_own_networks_that_take_rows_as_they_come_get_them_so():
    X, y = images(10, 9, 3)
    clf = ProtoNetClassifier(encoder=Turning()).fit(X, y)
    expected = own_features(X.transpose(0, 3, 1, 2))
    np.testing.assert_allclose(clf.embed(X), expected, rtol=1e-5, atol=1e-4)


def test_own_networks_that_could_take_both_want_to_be_told():
    X, y = images(3, 10, 3)
    with pytest.raises(ValueError, match="may be either"):
        ProtoNetClassifier(encoder=Net()).fit(X, y)
    clf = ProtoNetClassifier(encoder=Net(), layout="NHWC").fit(X, y)
    expected = own_features(X.transpose(0, 3, 1, 2))
    np.testing.assert_allclose(clf.embed(X), expected, rtol=1e-5, atol=1e-4)


def test_a_module_of_ours_knows_its_images():
    X, y = images(12, 10, 3)
    module = Conv4((12, 10, 3), width=8)
    first = X.transpose(0, 3, 1, 2)
    clf = ProtoNetClassifier(encoder=module).fit(X, y)
    other = ProtoNetClassifier(encoder=module).fit(first, y)
    np.testing.assert_allclose(other.embed(first), clf.embed(X), rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="neither"):
        ProtoNetClassifier(encoder=module).fit(X.transpose(0, 2, 3, 1), y)


def test_a_layout_goes_with_a_meta_init():
    X, y = images(3, 10, 9)
    trained = meta_train(ProtoNetClassifier(encoder=Net()), X.transpose(0, 2, 3, 1), y, **FEW)
    assert trained.meta_init.inputs["layout"] == "NHWC"
    rows = X.transpose(0, 2, 3, 1)
    assert clone(trained).fit(rows, y).embed(rows).shape == (len(X), 4)
    with pytest.raises(ValueError, match=r"layout='NCHW', but .* laid out as NHWC"):
        clone(trained).set_params(layout="NCHW").fit(rows, y)
    with pytest.raises(ValueError, match="Channels come first here"):
        clone(trained).fit(X, y)


def test_nothing_is_hung_on_a_network_that_takes_rows_as_they_are():
    for net, shape in ((nn.Linear(4, 2), (4,)), (Net(), (3, 8, 8)), ("conv4", (8, 8, 3))):
        made = make_encoder(net, shape, {}, layout="auto")
        assert not made._forward_hooks and not made._forward_pre_hooks
