"""Models of a few hundred weights, made on the spot: a sentence encoder, pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np

WORDS = [
    "my", "card", "has", "not", "come", "is", "on", "its", "way", "i", "forgot", "pin", "change",
    "the",
]  # fmt: skip
SENTENCES = ["my card has not come", "is my card on its way", "i forgot my pin", "change the pin"]
INTENTS = ["arrival", "arrival", "pin", "pin"]


def counts(sentences):
    """Stands in for a model: how often each word is in each sentence, and its length."""
    rows = [[s.split().count(word) for word in WORDS] + [len(s)] for s in sentences]
    return np.array(rows, dtype=float)


def write_sentence_model(folder: Path) -> Path:
    """A BERT of 16 features with random weights, as sentence-transformers saves one."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    bare = folder.with_name(f"{folder.name}-bare")
    bare.mkdir()
    (bare / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]))
    config = BertConfig(
        vocab_size=4 + len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=64,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertModel(config).save_pretrained(bare)
    BertTokenizerFast(str(bare / "vocab.txt")).save_pretrained(bare)
    layers = Transformer(str(bare), max_seq_length=64)
    SentenceTransformer(modules=[layers, Pooling(16)], device="cpu").save(str(folder))
    return folder


def write_pictures(folder: Path, n: int = 4, size: tuple[int, int] = (12, 10)) -> Path:
    """Reddish cats and bluish dogs, with noise."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for name, colour in (("cat", (200, 60, 60)), ("dog", (60, 60, 200))):
        (folder / name).mkdir(parents=True)
        for i in range(n):
            pixels = np.array(colour) + rng.integers(-40, 40, (*size, 3))
            Image.fromarray(pixels.astype("uint8")).save(folder / name / f"{i}.png")
    return folder
