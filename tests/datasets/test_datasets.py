"""Bundled Omniglot, the official zip files, and the sinusoid tasks."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from importlib.resources import files
from urllib.error import URLError

import numpy as np
import pytest

from fewshot_sklearn.datasets import (
    fetch_omniglot,
    load_omniglot,
    make_sinusoid_tasks,
)
from fewshot_sklearn.datasets import (
    omniglot as _omniglot,
)

ALPHABETS = {"Atlantean": 2, "Tengwar": 3}
DRAWERS = 4


# ---------------------------------------------------------------- the bundled half
def test_the_bundled_half_is_whole():
    omniglot = load_omniglot()
    assert omniglot.images.shape == (19280, 28, 28)
    assert omniglot.images.dtype == np.uint8
    characters, counts = np.unique(omniglot.target, return_counts=True)
    assert len(characters) == 964
    assert set(counts) == {20}
    assert len(np.unique(omniglot.alphabet)) == 30
    parents = [target.split("/")[0] for target in omniglot.target]
    assert parents == omniglot.alphabet.tolist()


def test_each_character_was_drawn_once_by_each_of_twenty_people():
    omniglot = load_omniglot()
    drawn = set(zip(omniglot.target, omniglot.drawer.tolist(), strict=True))
    assert len(drawn) == 19280
    assert set(omniglot.drawer) == set(range(20))


def test_ink_is_bright_on_a_dark_ground_and_every_drawing_holds_some():
    images = load_omniglot().images
    assert images.max() == 255
    assert 0.02 < (images > 127).mean() < 0.2
    assert images.reshape(len(images), -1).max(1).min() > 127


def test_arrays_alone_can_be_had():
    omniglot = load_omniglot()
    for one, other in zip(
        load_omniglot(return_X_y_groups=True),
        (omniglot.images, omniglot.target, omniglot.alphabet),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_the_bundled_file_is_small_and_has_its_licence_beside_it():
    data = files("fewshot_sklearn.datasets") / "data"
    assert "MIT" in (licence := (data / "omniglot_LICENSE").read_text())
    assert "Brenden Lake" in licence
    assert len((data / "omniglot_background_28.npz").read_bytes()) <= 2 * 10**6
    assert "MIT" in load_omniglot().DESCR


def test_import_and_load_never_reach_for_a_network():
    script = """
import socket, urllib.request
def refuse(*args, **kwargs):
    raise AssertionError("network")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
urllib.request.urlopen = refuse
import fewshot_sklearn, fewshot_sklearn.datasets as datasets
for name in fewshot_sklearn.__all__:
    getattr(fewshot_sklearn, name)
datasets.load_omniglot()
datasets.make_sinusoid_tasks(3)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# ---------------------------------------------------------------- the official zip files
def drawing(seed):
    """A 105 x 105 drawing, 1 bit a pixel, black on white as the official files are."""
    Image = pytest.importorskip("PIL.Image")
    ink = np.random.default_rng(seed).uniform(size=(105, 105)) < 0.1
    image = Image.fromarray(np.where(ink, 0, 255).astype(np.uint8)).convert("1", dither=0)
    file = io.BytesIO()
    image.save(file, "png")
    return file.getvalue(), ink


def official_zip(path, folder="images_evaluation"):
    """A small zip in the official layout; returns the ink of each drawing by (target, drawer)."""
    inks = {}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{folder}/", "")
        archive.writestr(f"__MACOSX/{folder}/._Atlantean", b"junk")
        for alphabet, n_characters in ALPHABETS.items():
            for character in range(1, n_characters + 1):
                for drawer in range(1, DRAWERS + 1):
                    target = f"{alphabet}/character{character:02}"
                    data, inks[target, drawer - 1] = drawing(len(inks))
                    archive.writestr(f"{folder}/{target}/{1000 + len(inks)}_{drawer:02}.png", data)
    return inks


@pytest.fixture
def evaluation_zip(tmp_path):
    path = tmp_path / "images_evaluation.zip"
    official_zip(path)
    return path


def test_a_zip_file_is_read_as_the_bundled_half_was(tmp_path):
    inks = official_zip(tmp_path / "some.zip")
    omniglot = fetch_omniglot(path=tmp_path / "some.zip")
    bundled = load_omniglot()
    assert set(omniglot) == set(bundled)
    for name in ("images", "target", "alphabet", "drawer"):
        assert omniglot[name].dtype == bundled[name].dtype
        assert omniglot[name].shape[1:] == bundled[name].shape[1:]
    assert len(omniglot.images) == len(inks) == 20
    for image, target, alphabet, drawer in zip(
        omniglot.images, omniglot.target, omniglot.alphabet, omniglot.drawer, strict=True
    ):
        assert target.startswith(f"{alphabet}/character")
        ink = inks[target, int(drawer)]
        # 105 = 28 * 3.75: the centres of the first four pixels lie under the corner
        corner = 255 * ink[:4, :4].mean()
        assert image[0, 0] == pytest.approx(corner, abs=1.5)
        assert image.mean() == pytest.approx(255 * ink.mean(), rel=0.05)


def test_the_background_zip_is_read_too(tmp_path):
    official_zip(tmp_path / "b.zip", "images_background")
    assert len(fetch_omniglot("background", path=tmp_path / "b.zip").images) == 20


def test_a_zip_in_the_data_home_is_used_without_a_network(evaluation_zip, monkeypatch):
    monkeypatch.setattr(_omniglot.urllib.request, "urlopen", None)
    data_home = evaluation_zip.parent
    omniglot = fetch_omniglot(data_home=data_home, download_if_missing=False)
    assert len(omniglot.images) == 20


def test_what_is_missing_is_downloaded_once_and_kept(evaluation_zip, tmp_path, monkeypatch):
    data_home = tmp_path / "home"
    monkeypatch.setattr(_omniglot, "URL", f"{tmp_path.as_uri()}/{{name}}.zip")
    first = fetch_omniglot(data_home=data_home)
    monkeypatch.setattr(_omniglot.urllib.request, "urlopen", None)
    np.testing.assert_array_equal(fetch_omniglot(data_home=data_home).images, first.images)
    assert [p.name for p in data_home.iterdir()] == ["images_evaluation.zip"]


def test_without_a_network_the_error_says_what_to_do(tmp_path, monkeypatch):
    def unreachable(*args, **kwargs):
        raise URLError("no route")

    monkeypatch.setattr(_omniglot.urllib.request, "urlopen", unreachable)
    with pytest.raises(OSError, match=r"could not be downloaded.*path="):
        fetch_omniglot(data_home=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_download_cut_short_leaves_nothing(tmp_path, monkeypatch):
    class Cut(io.BytesIO):
        def read(self, size=-1):
            if self.tell():
                raise ConnectionResetError("cut")
            return super().read(10)

    monkeypatch.setattr(_omniglot.urllib.request, "urlopen", lambda *a, **k: Cut(bytes(100)))
    with pytest.raises(OSError, match="could not be downloaded"):
        fetch_omniglot(data_home=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_download_is_made_where_none_is_allowed(tmp_path):
    with pytest.raises(OSError, match="download_if_missing is False"):
        fetch_omniglot(data_home=tmp_path, download_if_missing=False)


def test_a_path_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        fetch_omniglot(path=tmp_path / "nowhere.zip")


@pytest.mark.parametrize("content", [b"", b"<html>Not found</html>", "truncated"])
def test_a_bad_zip_is_named(evaluation_zip, content):
    raw = evaluation_zip.read_bytes()
    evaluation_zip.write_bytes(raw[: len(raw) // 2] if content == "truncated" else content)
    with pytest.raises(ValueError, match=r"images_evaluation\.zip is not a zip file"):
        fetch_omniglot(path=evaluation_zip)


def test_a_zip_of_something_else_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ValueError, match=r"other\.zip holds no Omniglot drawings"):
        fetch_omniglot(path=tmp_path / "other.zip")


def test_a_zip_with_a_broken_drawing_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "broken.zip", "w") as archive:
        archive.writestr("images_evaluation/Tengwar/character01/1_01.png", b"no drawing")
    with pytest.raises(ValueError, match=r"broken\.zip"):
        fetch_omniglot(path=tmp_path / "broken.zip")


def test_an_unknown_subset_is_named():
    with pytest.raises(ValueError, match="subset"):
        fetch_omniglot("test")


# ---------------------------------------------------------------- sinusoids
def test_sinusoids_have_the_distribution_of_the_paper():
    generator = make_sinusoid_tasks(n_shot=5, n_query=200)
    amplitudes, phases = [], []
    for i in range(400):
        X, y, X_query, y_query = generator(np.random.default_rng(i))
        assert (X.shape, y.shape, X_query.shape, y_query.shape) == ((5, 1), (5,), (200, 1), (200,))
        x = np.concatenate([X, X_query])[:, 0]
        # A sin(x + p) = (A cos p) sin x + (A sin p) cos x
        (a, b), residual, *_ = np.linalg.lstsq(
            np.stack([np.sin(x), np.cos(x)], 1), np.concatenate([y, y_query]), rcond=None
        )
        assert residual.item() < 1e-20
        assert -5 <= x.min() < -4
        assert 4 < x.max() <= 5
        amplitudes.append(np.hypot(a, b))
        phases.append(np.arctan2(b, a))
    for values, low, high in ((amplitudes, 0.1, 5.0), (phases, 0.0, np.pi)):
        assert low <= min(values)
        assert max(values) <= high
        assert np.mean(values) == pytest.approx((low + high) / 2, rel=0.08)
        assert np.std(values) == pytest.approx((high - low) / 12**0.5, rel=0.08)


def test_phases_are_of_the_range_asked_for():
    def drawn(seed, **params):
        one = make_sinusoid_tasks(n_shot=3, noise=0.1, **params)(np.random.default_rng(seed))
        many = make_sinusoid_tasks(n_shot=3, **params).batch(np.random.default_rng(seed), 2)
        return one, many

    for seed in range(3):
        usual, told, minus = (
            drawn(seed, **params)
            for params in ({}, {"phase": (0, np.pi)}, {"phase": [-np.pi, 0.0]})
        )
        for part, same, mirrored in zip(usual[1], told[1], minus[1], strict=True):
            np.testing.assert_array_equal(part, same)
            np.testing.assert_allclose(np.abs(part), np.abs(mirrored), atol=1e-12)
        np.testing.assert_array_equal(usual[0][1], told[0][1])
        # sin(x + p - pi) = -sin(x + p)
        np.testing.assert_allclose(usual[1][1], -minus[1][1], atol=1e-12)
    one = make_sinusoid_tasks(4, phase=(0.5, 0.5), random_state=0)
    amplitude = one.target / np.sin(one.data[:, 0] + 0.5)
    assert len(np.unique(amplitude.round(9))) == 4
    assert amplitude.min() > 0.1
    both = make_sinusoid_tasks(n_shot=1, phase=(-np.pi, np.pi)).batch(np.random.default_rng(0), 400)
    right = both[1][:, 0] * np.sin(both[0][:, 0, 0] + np.pi / 2) > 0
    assert 0.3 < right.mean() < 0.7


@pytest.mark.parametrize(
    "phase", [1.0, "pi", (0.0,), (1.0, 0.0), (0.0, np.inf), (np.nan, 1.0), (0, "1"), (False, True)]
)
def test_bad_phases_are_refused(phase):
    with pytest.raises(ValueError, match="phase must be a"):
        make_sinusoid_tasks(phase=phase)


def test_noise_has_the_standard_deviation_asked_for():
    plain, noisy = (
        make_sinusoid_tasks(n_shot=5000, noise=noise)(np.random.default_rng(0))[1]
        for noise in (0.0, 0.3)
    )
    assert np.std(noisy - plain) == pytest.approx(0.3, rel=0.05)
    assert np.mean(noisy - plain) == pytest.approx(0, abs=0.02)


def test_sinusoids_as_arrays():
    past = make_sinusoid_tasks(7, n_shot=3, n_query=2, random_state=0)
    assert past.data.shape == (35, 1)
    assert past.target.shape == (35,)
    assert past.groups.tolist() == np.repeat(np.arange(7), 5).tolist()
    for group in range(7):
        rows = past.groups == group
        x = past.data[rows, 0]
        design = np.stack([np.sin(x), np.cos(x)], 1)
        _, residual, *_ = np.linalg.lstsq(design, past.target[rows], rcond=None)
        assert residual.item() < 1e-20


def test_a_range_of_shots_gives_tasks_of_many_sizes():
    past = make_sinusoid_tasks(200, n_shot=(2, 4), n_query=1, random_state=0)
    assert set(np.bincount(past.groups)) == {3, 4, 5}


def test_the_same_random_state_gives_the_same_tasks():
    one, same, other = (make_sinusoid_tasks(3, random_state=seed).target for seed in (0, 0, 1))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    state = np.random.RandomState(0)
    first, second = (make_sinusoid_tasks(3, random_state=state).target for _ in range(2))
    assert np.array_equal(first, one)
    assert not np.array_equal(second, one)


def test_more_tasks_begin_with_the_same_ones():
    few, many = (make_sinusoid_tasks(n, random_state=0) for n in (3, 6))
    assert np.array_equal(many.data[: len(few.data)], few.data)


def test_the_generator_says_what_it_is():
    told = repr(make_sinusoid_tasks(n_shot=5, phase=(-1, 2)))
    assert told == "SinusoidTasks(n_shot=5, n_query=10, noise=0.0, phase=(-1.0, 2.0))"
