"""A sentence encoder so small that it can be made in a test, and sentences that it can tell apart.

Its words are random vectors, and its layers change them little: sentences that share words are
alike.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from fewshot_sklearn.text._bert import RENAMED, Bert

WORDS = (  # noqa: SIM905
    "my your the a is card cards has not come arrived when where will it be here on its way "
    "pin change forgot new set i to how do want rate euro dollar exchange money pound what for "
    "in ? ! . , ' ##s ##ed ##ing change arrival good bad film"
).split()
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(WORDS)]
WIDTH, N_LAYERS, N_HEADS, HIDDEN, N_POSITIONS = 16, 4, 2, 24, 40

SENTENCES = [
    "my card has not come",
    "when will the card be here?",
    "is the card on its way",
    "where is my card",
    "i forgot my pin",
    "how do i change the pin",
    "i want a new pin",
    "set a pin",
    "euro in dollar",
    "what is the exchange rate",
    "exchange rate for the pound",
    "how do i exchange money",
]
LABELS = ["card_arrival"] * 4 + ["change_pin"] * 4 + ["exchange_rate"] * 4
ASKED = ["when has my card come", "new pin", "rate of the dollar"]


def tiny_bert(seed: int = 0) -> Bert:
    """A network of random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        bert = Bert(len(VOCABULARY), WIDTH, N_LAYERS, N_HEADS, HIDDEN, N_POSITIONS)
    bert.positions.weight.data *= 0.1
    return bert.requires_grad_(False).eval()


def write_tiny_model(folder: Path, seed: int = 0, **config: object) -> Path:
    """Write a folder as sentence-transformers does, with the published names of the tensors."""
    folder.mkdir(parents=True, exist_ok=True)
    told = {
        "model_type": "bert",
        "hidden_act": "gelu",
        "vocab_size": len(VOCABULARY),
        "hidden_size": WIDTH,
        "num_hidden_layers": N_LAYERS,
        "num_attention_heads": N_HEADS,
        "intermediate_size": HIDDEN,
        "max_position_embeddings": N_POSITIONS,
    }
    (folder / "config.json").write_text(json.dumps(told | config), "utf-8")
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY), "utf-8")
    tensors = {}
    for name, tensor in tiny_bert(seed).state_dict().items():
        *parts, kind = name.removeprefix("layers.").split(".")
        number = f"encoder.layer.{parts.pop(0)}." if name.startswith("layers.") else ""
        published = next(old for old, new in RENAMED.items() if new == parts[0])
        tensors[f"{number}{published}.{kind}"] = tensor.contiguous()
    save_file(tensors, folder / "model.safetensors")
    return folder
