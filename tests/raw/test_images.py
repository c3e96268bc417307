"""Pictures as rows: files of any mode, folders, arrays of any layout, networks of any kind."""

from __future__ import annotations

import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import needs_cuda
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from tiny_models import write_pictures
from torch import nn

from fewshot_sklearn import ImageEncoder, ImageReader, ProtoNetClassifier, RidgeHeadClassifier
from fewshot_sklearn.datasets import load_image_folder
from fewshot_sklearn.raw import _image_models, picture_files

Image = pytest.importorskip("PIL.Image")

RED, BLUE = (255, 0, 0), (0, 0, 255)


@pytest.fixture
def saved(tmp_path):
    """Callable picture, name -> the path of it as a file."""

    def save(picture, name="picture.png", **options):
        picture.save(tmp_path / name, **options)
        return str(tmp_path / name)

    return save


@pytest.fixture
def folder(tmp_path):
    return write_pictures(tmp_path / "animals")


def read(path, **params):
    return ImageReader(**params).fit_transform([path])[0]


def halves(mode="RGB", left=RED, right=BLUE):
    """Six wide, four high."""
    picture = Image.new(mode, (6, 4), right)
    picture.paste(left, (0, 0, 3, 4))
    return picture


# ------------------------------------------------------------------ files
def test_a_picture_is_turned_as_it_says(saved):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise
    path = saved(halves(), "turned.jpg", exif=exif, quality=95, subsampling=0)
    turned = read(path)
    assert turned.shape == (6, 4, 3)
    assert turned[1, 1, 0] > 200 > 50 > turned[1, 1, 2] and turned[4, 1, 2] > 200


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK", "YCbCr", "LAB", "HSV"])
def test_colours_of_every_mode(saved, mode):
    picture = halves() if mode != "LAB" else None
    if picture is None:
        from PIL import ImageCms

        srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        picture = ImageCms.profileToProfile(halves(), srgb, lab, outputMode="LAB")
    else:
        picture = picture.convert(mode)
    kept = mode in ("RGB", "RGBA", "P")  # png has these; tiff most of the others
    if mode == "HSV":  # which no file has
        picture, kept = picture.convert("RGB"), True
    found = read(saved(picture, "picture.png" if kept else "picture.tif"))
    assert found.dtype == np.uint8 and found.shape == (4, 6, 3)
    if mode != "LAB":
        np.testing.assert_allclose(found[0, 0], RED, atol=3)
        np.testing.assert_allclose(found[0, 5], BLUE, atol=3)


def test_what_is_transparent_lies_on_white(saved):
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert (read(saved(clear)) == 255).all()
    half = Image.new("LA", (4, 4), (0, 128))
    assert abs(int(read(saved(half), color="grey")[0, 0]) - 127) <= 1
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([9, 9, 9, 200, 0, 0])
    found = read(saved(palette, "palette.png", transparency=0))
    assert (found == 255).all()


@pytest.mark.parametrize(
    ("values", "name"),
    [
        (np.array([[0, 65535], [32768, 257]], dtype="uint16"), "deep.png"),
        (np.array([[0, 65535], [32768, 257]], dtype="int32"), "deep.tif"),
        (np.array([[0, 255], [128, 1]], dtype="int32"), "eight.tif"),
        (np.array([[0, 1], [128 / 255, 1 / 255]], dtype="float32"), "floats.tif"),
        (np.array([[0, 255], [128, 1]], dtype="float32"), "larger.tif"),
    ],
)
def test_pixels_of_more_than_eight_bits(saved, values, name):
    found = read(saved(Image.fromarray(values), name), color="grey")
    assert found.tolist() == [[0, 255], [128, 1]]


@pytest.mark.parametrize("values", [np.full((2, 2), -1.0), np.full((2, 2), 1e4)])
def test_floats_that_are_no_pixels(saved, values):
    path = saved(Image.fromarray(values.astype("float32")), "floats.tif")
    with pytest.raises(ValueError, match=r"floats\.tif: its pixels are floats from"):
        read(path)


def test_black_and_white_is_grey(saved):
    path = saved(Image.new("1", (3, 3), 1))
    assert (read(path, color="auto") == 255).all() and read(path, color="auto").shape == (3, 3)


def test_of_several_frames_the_first(saved):
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, BLUE)]
    path = saved(frames[0], "film.gif", save_all=True, append_images=frames[1:])
    np.testing.assert_allclose(read(path)[0, 0], RED, atol=3)


def test_broken_files_are_named(folder, saved):
    good = str(folder / "cat" / "0.png")
    whole = (folder / "cat" / "0.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "text.png").write_text("no picture")
    (folder / "empty.png").write_bytes(b"")
    bad = [str(folder / name) for name in ("cut.png", "text.png", "empty.png", "none.png", "cat")]
    reader = ImageReader().fit([good])
    with pytest.raises(ValueError) as told:
        reader.transform([good, *bad])
    assert str(told.value).startswith("5 of 6 pictures cannot be read")
    for path, reason in zip(
        bad,
        ["is broken", "is no picture", "is no picture", "no such file", "is a folder"],
        strict=True,
    ):
        line = next(line for line in str(told.value).splitlines() if line.startswith(path + ":"))
        assert reason in line


@pytest.mark.parametrize("resizing", ["crop", "stretch", "pad"])
def test_how_pictures_come_to_a_size(saved, resizing):
    found = read(saved(halves()), size=(4, 2), resizing=resizing)
    assert found.shape == (4, 2, 3)
    if resizing == "pad":  # 2 x 1 in the middle of 4 rows
        assert (found[0] == 0).all() and found[1:3].any()
    elif resizing == "crop":  # the middle, where the colours meet
        assert found[0, 0, 0] == 255 and found[0, 1, 2] == 255
    else:
        assert found[0, 0, 0] > 200 and found[0, 1, 2] > 200


# ------------------------------------------------------------------ the reader
@pytest.mark.parametrize(
    ("color", "layout", "shape"),
    [
        ("rgb", "NHWC", (8, 6, 5, 3)),
        ("rgb", "NCHW", (8, 3, 6, 5)),
        ("rgb", "flat", (8, 90)),
        ("grey", "NHWC", (8, 6, 5)),
        ("grey", "NCHW", (8, 6, 5)),
        ("grey", "flat", (8, 30)),
    ],
)
def test_layouts(folder, color, layout, shape):
    loaded = load_image_folder(folder, (6, 5), color=color, layout=layout)
    reader = ImageReader((6, 5), color=color, layout=layout)
    rows = reader.fit_transform(pd.DataFrame({"file": loaded.paths}))
    assert rows.shape == shape and rows.dtype == np.uint8
    np.testing.assert_array_equal(rows, loaded.data)
    assert len(reader.get_feature_names_out()) == np.prod(shape[1:])
    if layout == "flat":
        framed = clone(reader).set_output(transform="pandas").fit_transform(loaded.paths)
        np.testing.assert_array_equal(framed.to_numpy(), rows)


def test_a_pipeline_from_paths(folder):
    paths, y = load_image_folder(folder, read=False, return_X_y=True)
    clf = make_pipeline(ImageReader((8, 8)), ProtoNetClassifier(encoder="conv4"))
    clf.fit(paths[::2], y[::2])
    assert pickle.loads(pickle.dumps(clf)).score(paths[1::2], y[1::2]) > 0.5


def test_sizes_that_differ(folder):
    Image.new("RGB", (5, 5)).save(folder / "cat" / "other.png")
    paths = load_image_folder(folder, read=False).paths
    with pytest.raises(ValueError, match=r"2 sizes \(height x width\).*say size="):
        load_image_folder(folder)
    reader = ImageReader().fit(paths[:1])
    assert reader.size_ == (12, 10)
    with pytest.raises(ValueError, match="5 x 5"):
        reader.transform([str(folder / "cat" / "other.png")])


@pytest.mark.parametrize(
    ("X", "told"),
    [
        ("a.png", "Put a single path in a list"),
        (3, "takes a list, an array or a Series of paths"),
        ([], "Found array with 0 sample"),
        (["a.png", None], "got None in row 1"),
        ([""], "got '' in row 0"),
        (np.zeros((2, 2)), "one path a row"),
        (pd.DataFrame({"a": ["x"], "b": ["y"]}), "X has 2 columns"),
    ],
)
def test_what_are_no_paths(X, told):
    with pytest.raises(ValueError, match=told):
        ImageReader().fit(X)


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"size": 3}, "size must be"),
        ({"size": (3,)}, "size must be"),
        ({"size": (0, 3)}, "size must be"),
        ({"color": "red"}, "color must be 'rgb'"),
        ({"layout": "HWC"}, "layout must be"),
        ({"resizing": "no"}, "resizing must be"),
    ],
)
def test_parameters_of_readers(folder, params, told):
    with pytest.raises(ValueError, match=told):
        ImageReader(**params).fit([str(folder / "cat" / "0.png")])
    with pytest.raises(ValueError, match=told):
        load_image_folder(folder, **params)


def test_pillow_that_is_missing_is_named(folder, monkeypatch):
    monkeypatch.setattr(picture_files, "find_spec", lambda name: None)
    for call in (lambda: load_image_folder(folder), lambda: ImageReader().fit(["a.png"])):
        with pytest.raises(ImportError, match=r"pip install 'fewshot-sklearn\[images\]'"):
            call()


# ------------------------------------------------------------------ folders
def test_a_folder(folder):
    loaded = load_image_folder(folder)
    assert loaded.data.shape == (8, 12, 10, 3) and loaded.groups is None
    assert loaded.target.tolist() == ["cat"] * 4 + ["dog"] * 4 and loaded.classes == ["cat", "dog"]
    assert [p.rpartition("/")[2] for p in loaded.paths[:2]] == ["0.png", "1.png"]
    X, y = load_image_folder(folder, return_X_y=True)
    np.testing.assert_array_equal(X, loaded.data)
    np.testing.assert_array_equal(y, loaded.target)
    assert load_image_folder(folder, read=False).data is None


def test_files_that_are_no_pictures_of_a_class(folder):
    (folder / "cat" / "notes.txt").write_text("a cat")
    (folder / "cat" / ".hidden.png").write_bytes(b"")
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "a.png").write_bytes(b"")
    (folder / "cat" / "more").mkdir()
    (folder / "cat" / "0.png").rename(folder / "cat" / "more" / "0.PNG")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = load_image_folder(folder)
    assert len(loaded.data) == 8 and loaded.target.tolist().count("cat") == 4
    (folder / "dog" / "1.png").rename(folder / "stray.png")
    with pytest.warns(UserWarning, match=r"1 pictures lie in no folder of a class.*stray\.png"):
        assert len(load_image_folder(folder).data) == 7


def test_a_level_of_tasks(tmp_path):
    for name in ("street", "garden"):
        write_pictures(tmp_path / "all" / name, n=2)
    loaded = load_image_folder(tmp_path / "all", groups=True)
    assert loaded.groups.tolist() == ["garden"] * 4 + ["street"] * 4
    assert loaded.classes == ["garden/cat", "garden/dog", "street/cat", "street/dog"]


def test_folders_that_are_none(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="is no folder"):
        load_image_folder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"no pictures in subfolders \(4 lie elsewhere\)"):
        load_image_folder(folder / "cat")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="there are none at all"):
        load_image_folder(tmp_path / "empty")


def test_broken_files_can_be_left_out(folder):
    (folder / "cat" / "2.png").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"1 of 8 pictures cannot be read:\n.*2\.png"):
        load_image_folder(folder)
    with pytest.warns(UserWarning, match=r"left out:\n.*2\.png"):
        loaded = load_image_folder(folder, on_broken="skip")
    assert len(loaded.data) == len(loaded.target) == len(loaded.paths) == 7
    assert not any(path.endswith("cat/2.png") for path in loaded.paths)
    for path in folder.rglob("*.png"):
        path.write_bytes(b"no")
    with pytest.raises(ValueError, match="8 of 8"):
        load_image_folder(folder, on_broken="skip")


def test_grey_where_all_are(folder):
    assert load_image_folder(folder, color="auto").data.ndim == 4
    for path in folder.rglob("*.png"):
        Image.open(path).convert("L").save(path)
    assert load_image_folder(folder, color="auto").data.shape == (8, 12, 10)


# ------------------------------------------------------------------ networks of one's own
def small(channels=3, width=4):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width))


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (6, 8, 10, 3), dtype=np.uint8)


def by_hand(net, images):
    """Means of maps, of images (n, C, H, W) from 0 to 1."""
    with torch.no_grad():
        return net.eval()(torch.tensor(images, dtype=torch.float32)).mean((2, 3)).numpy()


def test_arrays_of_every_layout_and_kind_give_the_same(pixels):
    net = small()
    expected = by_hand(small(), pixels.transpose(0, 3, 1, 2) / 255)
    for X in (
        pixels,
        pixels.transpose(0, 3, 1, 2),
        pixels / 255,
        (pixels / 255).astype("float32"),
        pixels.astype(int),
        list(pixels),
        pixels.tolist(),
        torch.tensor(pixels),
        [Image.fromarray(x) for x in pixels],
    ):
        enc = ImageEncoder(net, device="cpu")
        found = enc.fit_transform(X)
        assert found.dtype == np.float32 and enc.n_features_out_ == 4
        np.testing.assert_allclose(found, expected, atol=1e-6)
    assert net.training  # it is not touched
    alone = ImageEncoder(net, device="cpu", cache=False).fit(pixels)
    np.testing.assert_allclose(
        np.concatenate([alone.transform(x[None]) for x in pixels]), expected, atol=1e-6
    )


def test_grey_pictures(pixels):
    grey = pixels[..., 0]
    three = ImageEncoder(small(), device="cpu").fit_transform(grey)
    expected = by_hand(small(), np.repeat(grey[:, None] / 255, 3, 1))
    np.testing.assert_allclose(three, expected, atol=1e-6)
    one = by_hand(small(1), grey[:, None] / 255)
    for X in (grey, grey[..., None], grey[:, None], np.ones_like(grey, bool)):
        found = ImageEncoder(small(1), device="cpu").fit_transform(X)
        if X.dtype != bool:
            np.testing.assert_allclose(found, one, atol=1e-6)
    with pytest.raises(ValueError, match="takes grey pictures, and X has colours"):
        ImageEncoder(small(1)).fit(pixels)


def test_mean_std_and_size(pixels):
    enc = ImageEncoder(small(), size=(4, 5), mean=(0.5, 0.4, 0.3), std=[0.2, 0.2, 0.1])
    x = torch.tensor(pixels.transpose(0, 3, 1, 2) / 255, dtype=torch.float32)
    x = nn.functional.interpolate(x, (4, 5), mode="bilinear", antialias=True).numpy()
    x = (x - np.array([0.5, 0.4, 0.3]).reshape(3, 1, 1)) / np.reshape([0.2, 0.2, 0.1], (3, 1, 1))
    np.testing.assert_allclose(enc.fit_transform(pixels), by_hand(small(), x), atol=1e-4)
    with pytest.raises(ValueError, match="mean and std must be given together"):
        ImageEncoder(small(), mean=(0, 0, 0)).fit(pixels)
    with pytest.raises(ValueError, match=r"mean has 2 values, and pictures have 3 channel"):
        ImageEncoder(small(), mean=(0, 0), std=(1, 1)).fit(pixels)


def test_maps_are_pooled(pixels):
    net = small().eval()
    found = ImageEncoder(net, pooling="max", device="cpu").fit_transform(pixels)
    with torch.no_grad():
        maps = net(torch.tensor(pixels.transpose(0, 3, 1, 2) / 255, dtype=torch.float32))
    np.testing.assert_allclose(found, maps.amax((2, 3)).numpy(), atol=1e-6)
    flat = nn.Sequential(small(), nn.Flatten())
    assert ImageEncoder(flat).fit_transform(pixels).shape == (6, 4 * 80)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda x: x.astype(float), r"float64 from .*X / 255"),
        (lambda x: x / 127.5 - 1, "before they were normalised"),
        (lambda x: x.astype("uint16") * 257, "X / 65535"),
        (lambda x: x.astype(int) * 10**6, "bytes from 0 to 255 or floats from 0 to 1"),
        (lambda x: (x > 9).astype(int), "black and white"),
        (lambda x: x[0], r"one picture with its channels.*X\[None\]"),
        (lambda x: np.where(x > 9, x / 255, np.nan), "NaN"),
        (lambda x: x.reshape(6, -1), "flat rows do not say which pixel is where"),
        (lambda x: x[0, 0, 0], "pictures are"),
        (lambda x: x[..., :2], "no axis of 1 or 3 channels"),
        (lambda x: np.concatenate([x, x[..., :1]], -1), "leaves transparency"),
        (lambda x: x[:, :3], r"say layout='NHWC' or 'NCHW'"),
        (lambda x: x[:0], "Found array with 0 sample"),
        (lambda x: x.astype(complex), "dtype complex128"),
        (lambda x: [x[0], x[0, :5]], "2 shapes"),
        (lambda x: ["no-such-file.png"], r"no-such-file\.png: there is no such file"),
    ],
)
def test_what_are_no_pictures(pixels, change, told):
    for enc, call in (
        (ImageEncoder(small()), "fit"),
        (ImageEncoder(small(), layout="auto").fit(pixels[:, :, :, :]), "transform"),
    ):
        if call == "transform" and ("layout" in told or "no axis" in told or "leaves" in told):
            continue  # where the layout is known already
        with pytest.raises(ValueError, match=told):
            getattr(enc, call)(change(pixels))


def test_bytes_that_are_all_zero_or_one_are_refused_at_fit_alone(pixels):
    dark = (pixels > 9).astype("uint8")
    with pytest.raises(ValueError, match=r"uint8 from 0 to 1\. .*black and white"):
        ImageEncoder(small()).fit(dark)
    enc = ImageEncoder(small(), device="cpu", cache=False).fit(pixels)  # bytes up to 255
    both = np.concatenate([pixels, dark])
    np.testing.assert_allclose(enc.transform(both)[6:], enc.transform(dark), atol=1e-6)


def test_files_that_hold_anything(folder):
    good = (folder / "cat" / "0.png").read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(60):
        spoilt = np.frombuffer(good, np.uint8).copy()
        places = rng.integers(8, len(spoilt), 6)
        spoilt[places] = rng.integers(0, 256, 6)
        (folder / "spoilt.png").write_bytes(spoilt.tobytes())
        try:
            read(str(folder / "spoilt.png"), size=(4, 4))
        except ValueError as error:
            assert "spoilt.png: " in str(error)


def test_a_layout_that_is_said_or_known(pixels):
    few = pixels[:, :3]  # (6, 3, 10, 3)
    a = ImageEncoder(small(), layout="NHWC", device="cpu").fit_transform(few)
    b = ImageEncoder(small(), layout="NCHW", device="cpu").fit_transform(few)
    assert np.abs(a - b).max() > 1e-3
    known = ImageEncoder(small(), device="cpu").fit(pixels)
    np.testing.assert_allclose(known.transform(few), a, atol=1e-6)
    with pytest.raises(ValueError, match=r"has 10 channels in layout='NHWC'"):
        ImageEncoder(small(), layout="NHWC").fit(pixels.transpose(0, 3, 1, 2))


@pytest.mark.parametrize(
    ("net", "told"),
    [
        (nn.Linear(7, 2), "does not take pictures of shape"),
        (nn.Flatten(2), r"must return features \(n, n_features\)"),
        (nn.LSTM(10, 2), "does not take|must return one tensor"),
    ],
)
def test_networks_that_do_something_else(pixels, net, told):
    with pytest.raises(ValueError, match=told):
        ImageEncoder(net).fit(pixels)


def test_a_network_is_shared_and_seen_to_change(pixels):
    net = small()
    enc = ImageEncoder(net, device="cpu")
    assert clone(enc).model is net and repr(enc) == "ImageEncoder(device='cpu', model=Sequential)"
    before = enc.fit_transform(pixels)
    assert _image_models.own_image_model(net, None, "cpu") is _image_models.own_image_model(
        net, None, "cpu"
    )
    again = pickle.loads(pickle.dumps(enc))
    np.testing.assert_allclose(again.transform(pixels), before, atol=1e-6)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    net(torch.rand(4, 3, 8, 8)).sum().backward()
    optimizer.step()
    assert np.abs(enc.transform(pixels) - before).max() > 0.01


def test_each_picture_is_embedded_once(pixels, monkeypatch):
    seen = []
    whole = _image_models.SharedImageModel.features

    def counted(self, pictures):
        seen.append(len(pictures))
        return whole(self, pictures)

    monkeypatch.setattr(_image_models.SharedImageModel, "features", counted)
    clf = make_pipeline(ImageEncoder(small(), batch_size=4), RidgeHeadClassifier())
    cross_val_score(clf, pixels, [0, 1] * 3, cv=3, error_score="raise")
    assert sum(seen) == 6 and max(seen) <= 4
    clf.set_params(imageencoder__mean=(0.5,) * 3, imageencoder__std=(0.5,) * 3)
    clf.fit(pixels, [0, 1] * 3)  # which are other pictures to the network
    assert sum(seen) == 12


def test_threads(pixels):
    enc = ImageEncoder(small(), cache=False, device="cpu").fit(pixels)
    expected = enc.transform(pixels)
    with ThreadPoolExecutor(8) as pool:
        for rows in pool.map(lambda _: clone(enc).fit(pixels).transform(pixels), range(16)):
            np.testing.assert_array_equal(rows, expected)


@needs_cuda
def test_on_a_gpu(pixels):
    on = {d: ImageEncoder(small(), device=d).fit_transform(pixels) for d in ("cpu", "cuda")}
    np.testing.assert_allclose(on["cuda"], on["cpu"], atol=1e-3)


def test_paths_of_pictures(folder):
    loaded = load_image_folder(folder)
    from_paths = ImageEncoder(small(), device="cpu").fit(loaded.paths)
    from_arrays = ImageEncoder(small(), device="cpu").fit_transform(loaded.data)
    np.testing.assert_allclose(from_paths.transform(loaded.paths), from_arrays, atol=1e-6)
    (folder / "cat" / "0.png").write_bytes((folder / "dog" / "0.png").read_bytes())
    changed = from_paths.transform(loaded.paths)
    np.testing.assert_allclose(changed[0], from_arrays[4], atol=1e-6)


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"model": 3}, "model must be a name or an nn.Module"),
        ({"pretrained": None}, "pretrained must be"),
        ({"pooling": "sum"}, "pooling must be"),
        ({"size": 0}, "size must be"),
        ({"mean": "x"}, "mean must be"),
        ({"std": (0, 1, 1)}, "std must be"),
        ({"random_state": None}, "random_state must be"),
    ],
)
def test_parameters_of_encoders(pixels, params, told):
    with pytest.raises(ValueError, match=told):
        ImageEncoder(**({"model": small()} | params)).fit(pixels)


def test_timm_that_is_missing_is_named(pixels, monkeypatch):
    monkeypatch.setattr(_image_models, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'fewshot-sklearn\[images\]'"):
        ImageEncoder().fit(pixels)


# ------------------------------------------------------------------ timm's
@pytest.fixture(scope="module")
def timm():
    return pytest.importorskip("timm", exc_type=(ImportError, RuntimeError))


def test_weights_of_a_file(timm, pixels, tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = timm.create_model("resnet10t", num_classes=7).eval()
    torch.save(net.state_dict(), tmp_path / "net.pt")
    enc = ImageEncoder("resnet10t", pretrained=tmp_path / "net.pt", size=32, device="cpu")
    found = enc.fit_transform(pixels[:, :8, :8])
    x = torch.tensor(pixels[:, :8, :8].transpose(0, 3, 1, 2) / 255, dtype=torch.float32)
    x = nn.functional.interpolate(x, (32, 32), mode="bilinear", antialias=True)
    mean, std = (torch.tensor(net.pretrained_cfg[k]).reshape(3, 1, 1) for k in ("mean", "std"))
    with torch.no_grad():
        expected = net.forward_head(net.forward_features((x - mean) / std), pre_logits=True)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
    assert len(pickle.dumps(enc)) < 1000
    (tmp_path / "other.pt").write_bytes(b"nothing")
    for other, told in (
        ("nothing.pt", "there is no such file"),
        ("other.pt", "is no file of weights"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=told):
            ImageEncoder("resnet10t", pretrained=tmp_path / other).fit(pixels)
    with pytest.raises(ValueError, match="is not of this network"):
        ImageEncoder("resnet18", pretrained=tmp_path / "net.pt").fit(pixels)


def test_random_weights_are_those_of_the_seed(timm, pixels):
    state = torch.random.get_rng_state()
    first, again, other = (
        ImageEncoder(
            "resnet10t", pretrained=False, size=32, random_state=seed, cache=False, device="cpu"
        ).fit_transform(pixels)
        for seed in (0, 0, 1)
    )
    assert torch.equal(state, torch.random.get_rng_state())
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3


def test_weights_that_are_not_here(timm, pixels, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *asked: None)
    with pytest.raises(
        FileNotFoundError, match=r"resnet10t are not on this machine.*download=True"
    ):
        ImageEncoder("resnet10t").fit(pixels)
    with pytest.raises(ValueError, match=r"is no network of timm \(did you mean 'resnet10t'"):
        ImageEncoder("resnet10tt").fit(pixels)
    # in the cache of the hub
    with torch.random.fork_rng():
        torch.manual_seed(2)
        net = timm.create_model("resnet10t")
    torch.save(net.state_dict(), tmp_path / "weights.bin")
    monkeypatch.setattr(
        "huggingface_hub.try_to_load_from_cache", lambda *asked: str(tmp_path / "weights.bin")
    )
    found = ImageEncoder("resnet10t", size=32, device="cpu").fit_transform(pixels)
    file = ImageEncoder("resnet10t", pretrained=tmp_path / "weights.bin", size=32, device="cpu")
    np.testing.assert_allclose(found, file.fit_transform(pixels), atol=1e-6)
