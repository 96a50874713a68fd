"""The model for inference equals the engine that trains, for every shape, padding and number of members."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tlm_search.data.markers import Markers
from tlm_search.data.tokens import TokenArray
from tlm_search.model.architecture import Architecture
from tlm_search.model.batching import rows as padded
from tlm_search.model.bert import class_logits
from tlm_search.model.inference import lookup_bytes, member_logits, split, vote, with_lookup
from tlm_search.model.weights import classifier_weights, initial_weights
from tlm_search.training.batches import assemble

SHAPES = {
    "one layer": {},
    "three layers, one head": {"depth": 3, "heads": 1, "head_size": 8},
    "pre-norm": {"depth": 2, "normalisation": "pre"},
    "shared layers": {"depth": 3, "shared_layers": True},
    "convolution, pre-norm": {"depth": 1, "convolution_layers": 1, "channels": 3, "normalisation": "pre"},
    "convolution": {"convolution_layers": 2, "channels": 3, "kernel": (3, 2)},
}


MARKERS = Markers(25, 26, 27, 28)


@pytest.mark.parametrize("pooling", ["cls", "mean", "spans", "pairs"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_it_equals_the_engine(shape, pooling):
    paired, pooling = pooling == "pairs", pooling.replace("pairs", "mean")
    plain = {"depth": 1, "heads": 2, "head_size": 4, "feed_forward": 12, "vocabulary": 30, "positions": 9}
    architecture = Architecture(**{**plain, **shape})
    seeds = (3, 4, 5)
    weights = {**initial_weights(architecture, seeds), **classifier_weights(architecture, 4, seeds, pooling=pooling)}
    for name, value in weights.items():  # biases and norms different from their initial values
        value += 0.1 * torch.randn(value.shape, generator=torch.Generator().manual_seed(len(name)))
        if name.endswith("running_var"):
            value.abs_().clamp_(min=0.5)
    generator = np.random.default_rng(0)
    lengths = np.array([2, 9, 5, 5, 3])
    texts = TokenArray(generator.integers(1, 30, lengths.sum()).astype(np.int32), np.cumsum([0, *lengths]))
    texts.ids[2:11] = [1, 25, 9, 26, 11, 27, 8, 28, 2]
    texts.ids[11:16] = [27, 7, 28, 6, 25]  # cut
    types = None
    if paired:
        texts = replace(texts, firsts=np.array([1, 4, 2, 3, 3]))
        types = torch.from_numpy(padded(texts, np.arange(5), pad=0).segments)
        assert types.sum(1).tolist() == [1, 5, 3, 2, 0]
    chosen = np.arange(5)
    rows = assemble(texts, np.tile(chosen, (3, 1)), length=9, packed=False, pad=0)
    pools = {"pooling": pooling, "markers": MARKERS}
    expected = class_logits(weights, architecture, rows.tokens, rows.first_tokens(), **pools)
    if not architecture.convolution_layers:
        packed = assemble(texts, np.tile(chosen, (3, 1)), length=9, packed=True, pad=0)
        assert packed.tokens.ids.shape[1] < 5
        together = class_logits(weights, architecture, packed.tokens, packed.first_tokens(), **pools)
        torch.testing.assert_close(together, expected, atol=1e-5, rtol=1e-5)
    ids, mask = rows.tokens.ids[0], rows.tokens.segments[0] > 0
    garbage = ids.where(mask, 17)  # tokens after the end of a text do not matter
    options = {**pools, "pad": 0, "types": types}
    found = member_logits(weights, architecture, garbage, mask, **options)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    alone = torch.cat(
        [member_logits(one, architecture, garbage, mask, **options) for one in split(weights, architecture)]
    )
    torch.testing.assert_close(alone, expected, atol=1e-5, rtol=1e-5)
    if lookup_bytes(architecture, pooling=pooling):
        with torch.inference_mode():
            members = [with_lookup(one) for one in split(weights, architecture)]
            looked_up = torch.cat([member_logits(one, architecture, garbage, mask, **options) for one in members])
        torch.testing.assert_close(looked_up, expected, atol=1e-5, rtol=1e-5)
        added = sum(value.nbytes for name, value in members[0].items() if name not in weights)
        assert added == lookup_bytes(architecture, pooling=pooling)
    options["types"] = None if types is None else types[2:4, :5]
    same = member_logits(weights, architecture, ids[2:4, :5], None, **options)
    torch.testing.assert_close(same, expected[:, 2:4], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(vote(found).exp(), expected.softmax(-1).mean(0), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("heads", [1, 4])
def test_an_answer_takes_the_operations_that_are_counted(heads):
    architecture = Architecture(depth=1, heads=heads, head_size=8, feed_forward=24, vocabulary=30, positions=9)
    labels, texts = 4, 5
    weights = {**initial_weights(architecture, (3, 4)), **classifier_weights(architecture, labels, (3, 4))}
    with FlopCounterMode(display=False) as counter:
        member_logits(weights, architecture, torch.ones(texts, 9, dtype=torch.int64), None, pooling="cls", pad=0)
    classifier = 2 * architecture.width * (architecture.width + labels)
    one = architecture.serving_flops(9, pooling="cls") + classifier
    assert counter.get_total_flops() == 2 * texts * one
    assert architecture.serving_flops(9, pooling="mean") == architecture.forward_flops(9)
    assert architecture.serving_flops(9, pooling="spans") == architecture.forward_flops(9)
