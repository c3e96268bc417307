"""BERT's network in plain PyTorch, cut where its lower layers end that are not trained.

J. Devlin, M.-W. Chang, K. Lee and K. Toutanova. BERT: pre-training of deep bidirectional
transformers for language understanding. NAACL 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Places(NamedTuple):
    """Where the sentences of a batch lie in its tokens, which follow one another without padding.

    Parameters
    ----------
    padded : Tensor of shape (n_sentences, longest)
        Number of each token; 0 beyond a sentence's end.
    is_token : Tensor of shape (n_sentences, longest), bool
        Where there is one.
    """

    padded: Tensor
    is_token: Tensor

    @classmethod
    def of(cls, lengths: Tensor) -> Places:
        """Places of sentences of `lengths` (n_sentences,) tokens."""
        steps = torch.arange(int(lengths.max()), device=lengths.device)
        is_token = steps < lengths[:, None]
        begin = (lengths.cumsum(0) - lengths)[:, None]
        return cls((begin + steps).where(is_token, 0), is_token)

    def mean(self, x: Tensor) -> Tensor:
        """Mean of each sentence's tokens (n_tokens, width): (n_sentences, width)."""
        sums = (x[self.padded] * self.is_token[..., None]).sum(1)
        return sums / self.is_token.sum(1)[:, None]


class BertLayer(nn.Module):
    """Attention among a sentence's tokens and a network on each, with what came in added to both.

    Sentences are padded to one length in attention alone, which is the
    smallest part of the work.

    Parameters
    ----------
    width : int
        Numbers a token.
    n_heads : int
        Heads of attention.
    hidden : int
        Width of the network on each token.
    epsilon : float, default=1e-12
        Of the layer norms.
    """

    def __init__(self, width: int, n_heads: int, hidden: int, epsilon: float = 1e-12):
        super().__init__()
        self.n_heads = n_heads
        self.query, self.key, self.value, self.mixed = (nn.Linear(width, width) for _ in range(4))
        self.attended = nn.LayerNorm(width, epsilon)
        self.wide, self.narrow = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.put_out = nn.LayerNorm(width, epsilon)

    def like(self) -> BertLayer:
        """A layer of the same sizes with other weights."""
        wide, epsilon = self.wide, self.attended.eps
        return BertLayer(wide.in_features, self.n_heads, wide.out_features, epsilon)

    def forward(self, x: Tensor, places: Places) -> Tensor:
        """From tokens (n_tokens, width) to tokens."""
        q, k, v = (
            part(x)[places.padded].unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        told = F.scaled_dot_product_attention(q, k, v, attn_mask=places.is_token[:, None, None])
        told = told.transpose(1, 2).flatten(2)[places.is_token]
        x = self.attended(x + self.mixed(told))
        return self.put_out(x + self.narrow(F.gelu(self.wide(x))))


class Bert(nn.Module):
    """Words, positions and layers: from numbers of word pieces to a vector a token.

    Parameters
    ----------
    n_words, width, n_layers, n_heads, hidden, n_positions : int
        Sizes.
    epsilon : float, default=1e-12
        Of the layer norms.

    Examples
    --------
    >>> import torch
    >>> from fewshot_sklearn.text._bert import Bert
    >>> bert = Bert(n_words=10, width=8, n_layers=2, n_heads=2, hidden=16, n_positions=12)
    >>> tokens, places = bert.begin([[2, 4, 3], [2, 3]])
    >>> places.mean(bert.through(tokens, places)).shape
    torch.Size([2, 8])
    """

    def __init__(
        self,
        n_words: int,
        width: int,
        n_layers: int,
        n_heads: int,
        hidden: int,
        n_positions: int,
        epsilon: float = 1e-12,
    ):
        super().__init__()
        self.words = nn.Embedding(n_words, width)
        self.positions = nn.Embedding(n_positions, width)
        # of pairs of sentences, of which there is only the first here
        self.kinds = nn.Embedding(2, width)
        self.put_in = nn.LayerNorm(width, epsilon)
        self.layers = nn.ModuleList(
            BertLayer(width, n_heads, hidden, epsilon) for _ in range(n_layers)
        )

    def begin(self, numbers: Sequence[Sequence[int]]) -> tuple[Tensor, Places]:
        """Tokens before the first layer, and their places, of sentences' numbers."""
        device = self.words.weight.device
        flat = torch.tensor([i for sentence in numbers for i in sentence], device=device)
        steps = torch.tensor([j for s in numbers for j in range(len(s))], device=device)
        x = self.words(flat) + self.positions(steps) + self.kinds.weight[0]
        return self.put_in(x), Places.of(torch.tensor([len(s) for s in numbers], device=device))

    def through(self, x: Tensor, places: Places, first: int = 0, last: int | None = None) -> Tensor:
        """Tokens after the layers `first` to `last` of the tokens before them."""
        for layer in self.layers[first:last]:
            x = layer(x, places)
        return x


#: Names of the published files' tensors, and ours.
RENAMED = {
    "embeddings.word_embeddings": "words",
    "embeddings.position_embeddings": "positions",
    "embeddings.token_type_embeddings": "kinds",
    "embeddings.LayerNorm": "put_in",
    "attention.self.query": "query",
    "attention.self.key": "key",
    "attention.self.value": "value",
    "attention.output.dense": "mixed",
    "attention.output.LayerNorm": "attended",
    "intermediate.dense": "wide",
    "output.dense": "narrow",
    "output.LayerNorm": "put_out",
    "encoder.layer.": "layers.",
}


def bert_from(config: dict[str, Any], tensors: dict[str, Tensor]) -> Bert:
    """A network of published weights, which it shares: nothing is copied.

    Parameters
    ----------
    config : dict
        The contents of ``config.json``.
    tensors : dict of str to Tensor
        The contents of ``model.safetensors``.

    Returns
    -------
    Bert
        Not to be trained in place.

    Raises
    ------
    ValueError
        When it is another kind of network.
    """
    kind = config.get("model_type"), config.get("hidden_act", "gelu")
    if kind != ("bert", "gelu"):
        raise ValueError(f"only BERT with gelu can be read, got {kind}.")
    with torch.device("meta"):
        bert = Bert(
            config["vocab_size"],
            config["hidden_size"],
            config["num_hidden_layers"],
            config["num_attention_heads"],
            config["intermediate_size"],
            config["max_position_embeddings"],
            config.get("layer_norm_eps", 1e-12),
        )
    ours = {}
    for name, tensor in tensors.items():
        new = name.removeprefix("bert.")
        for old, told in RENAMED.items():
            new = new.replace(old, told)
        ours[new] = tensor.float()
    wanted = {name: ours[name] for name in bert.state_dict() if name in ours}
    missing = set(bert.state_dict()) - set(wanted)
    if missing:
        raise ValueError(f"the weights lack {sorted(missing)[:3]}.")
    bert.load_state_dict(wanted, assign=True)
    return bert.requires_grad_(False).eval()
