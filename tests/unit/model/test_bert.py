"""Our stacked BERT computes what transformers' BERT computes: logits, loss, gradients, for every member of a stack."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    RobertaPreLayerNormConfig,
    RobertaPreLayerNormForMaskedLM,
)

from tlm_search.data.tokens import TokenArray
from tlm_search.model import attention, convolution
from tlm_search.model.architecture import Architecture
from tlm_search.model.batching import rows
from tlm_search.model.bert import class_logits, encode, mlm_logits
from tlm_search.model.hf import bert_config, from_transformers, to_transformers, with_every_layer
from tlm_search.model.layers import EPSILON
from tlm_search.model.loss import mlm_losses
from tlm_search.model.rows import Read, Tokens, gather
from tlm_search.model.tied_embeddings import UNSCORED
from tlm_search.model.weights import Weights, classifier_weights, initial_weights
from tlm_search.training.batches import assemble

LABELS = tuple("abcde")
SHAPES = [
    Architecture(depth=1, heads=4, head_size=8, feed_forward=64, vocabulary=50, positions=16),
    Architecture(depth=3, heads=2, head_size=4, feed_forward=24, vocabulary=70, positions=12),
    Architecture(depth=2, heads=3, head_size=5, feed_forward=15, vocabulary=31, positions=9),
    Architecture(3, 2, 4, 24, 70, 12, shared_layers=True),
]
PRE_NORM = Architecture(3, 2, 4, 24, 70, 12, normalisation="pre")


def stack(architecture: Architecture, seeds: tuple[int, ...]) -> Weights:
    """Weights that are far from their initial values, so that no term is hidden by a zero."""
    weights = initial_weights(architecture, seeds) | classifier_weights(architecture, len(LABELS), seeds)
    generator = torch.Generator().manual_seed(9)
    return {name: value + 0.2 * torch.randn(value.shape, generator=generator) for name, value in weights.items()}


def padded_rows(architecture: Architecture, members: int, rows: int = 4) -> Tokens:
    generator = torch.Generator().manual_seed(1)
    shape = (members, rows, architecture.positions)
    ids = torch.randint(5, architecture.vocabulary, shape, generator=generator)
    lengths = torch.randint(3, architecture.positions + 1, (members, rows, 1), generator=generator)
    positions = torch.arange(architecture.positions).expand(shape).contiguous()
    return Tokens(
        ids, positions, (positions < lengths).long(), full=False, sizes=(rows * architecture.positions,) * members
    )


@pytest.mark.parametrize("architecture", SHAPES, ids=str)
@pytest.mark.parametrize("members", [1, 3])
def test_logits_equal_transformers(architecture: Architecture, members: int) -> None:
    weights, tokens = stack(architecture, tuple(range(members))), padded_rows(architecture, members)
    hidden = encode(weights, architecture, tokens)
    rows, length = tokens.ids.shape[1:]
    starts = Read.of([np.arange(rows) * length] * members, rows=rows, length=length)
    masked = mlm_logits(weights, hidden).view(members, rows, length, -1)
    classes = class_logits(weights, architecture, tokens, starts, pooling="cls")
    config = BertConfig(**bert_config(architecture, labels=LABELS))
    for member in range(members):
        state = to_transformers({name: value[member] for name, value in weights.items()})
        state = with_every_layer(state, architecture)
        attended = tokens.segments[member]
        language_model, classifier = BertForMaskedLM(config).eval(), BertForSequenceClassification(config).eval()
        language_model.load_state_dict(state, strict=False)
        classifier.load_state_dict(state, strict=False)
        with torch.no_grad():
            theirs = language_model(input_ids=tokens.ids[member], attention_mask=attended).logits
            their_classes = classifier(input_ids=tokens.ids[member], attention_mask=attended).logits
        torch.testing.assert_close(masked[member][attended.bool()], theirs[attended.bool()], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(classes[member], their_classes, atol=1e-5, rtol=1e-4)


def test_the_two_texts_of_a_pair_are_the_segments_of_transformers() -> None:
    """The same holds if a row contains several pairs."""
    architecture = SHAPES[1]
    weights, generator = stack(architecture, (0, 1)), np.random.default_rng(0)
    lengths, firsts = np.array([3, 12, 5, 4, 6]), np.array([2, 7, 3, 2, 3])
    ids = generator.integers(5, 70, lengths.sum()).astype(np.int32)
    texts = TokenArray(ids, np.cumsum([0, *lengths]), firsts)
    batch = assemble(texts, np.tile(np.arange(5), (2, 1)), length=12, packed=True, pad=0)
    assert batch.tokens.ids.shape[1] < 5
    classes = class_logits(weights, architecture, batch.tokens, batch.first_tokens(), pooling="cls")
    ids, mask, types = rows(texts, np.arange(5), pad=0).tensors()
    for member in range(2):
        classifier = BertForSequenceClassification(BertConfig(**bert_config(architecture, labels=LABELS))).eval()
        state = to_transformers({name: value[member] for name, value in weights.items()})
        classifier.load_state_dict(with_every_layer(state, architecture), strict=False)
        with torch.no_grad():
            theirs = classifier(input_ids=ids, attention_mask=mask.long(), token_type_ids=types).logits
            one_segment = classifier(input_ids=ids, attention_mask=mask.long()).logits
        torch.testing.assert_close(classes[member], theirs, atol=1e-5, rtol=1e-4)
        assert not torch.allclose(theirs, one_segment, atol=1e-2)


def masked_losses(architecture: Architecture, share: float = 0.3) -> tuple[Weights, Tokens, Tensor, Tensor, Weights]:
    """Two members' encoders, with texts, targets and losses as in training, and the gradients of the losses."""
    weights, tokens = stack(architecture, (0, 1)), padded_rows(architecture, 2)
    chosen = torch.rand(tokens.ids.shape, generator=torch.Generator().manual_seed(2)) < share
    chosen[:, :, 0] |= ~chosen.any(-1)  # each row has a target
    targets = torch.where(chosen & (tokens.segments > 0), tokens.ids, UNSCORED)
    encoder = {
        name: value.requires_grad_() for name, value in weights.items() if not name.startswith(("pool", "class"))
    }
    indices = [np.flatnonzero(own.flatten() != UNSCORED) for own in targets]
    read = Read.of(indices, rows=targets.shape[1], length=targets.shape[2])
    scored = gather(targets.flatten(1)[..., None], read.indices)[..., 0]
    for member, own in enumerate(indices):
        scored[member, len(own) :] = UNSCORED
    hidden = encode(encoder, architecture, tokens, read=read)
    losses = mlm_losses(encoder, hidden, scored, 1 / torch.tensor(read.sizes))
    gradients = torch.autograd.grad(losses.sum(), list(encoder.values()))
    return encoder, tokens, targets, losses, dict(zip(encoder, gradients, strict=True))


@pytest.mark.parametrize("units", [0, 10**6], ids=["without keys", "with keys"])
@pytest.mark.parametrize("share", [0.0, 0.5], ids=["one a row", "many a row"])
def test_every_gradient_of_the_masked_loss_equals_transformers(
    share: float, units: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "UNITS_PER_QUERY", units)
    encoder, tokens, targets, losses, ours = masked_losses(SHAPES[1], share)
    for member in range(2):
        model = BertForMaskedLM(BertConfig(**bert_config(SHAPES[1]))).eval()
        model.load_state_dict(to_transformers({n: v.detach()[member] for n, v in encoder.items()}), strict=False)
        output = model(input_ids=tokens.ids[member], attention_mask=tokens.segments[member], labels=targets[member])
        torch.testing.assert_close(losses[member], output.loss)
        output.loss.backward()
        theirs = {name: value.grad for name, value in model.named_parameters()}
        for name, gradient in to_transformers({n: v[member] for n, v in ours.items()}).items():
            torch.testing.assert_close(gradient, theirs[name], atol=1e-6, rtol=1e-3, msg=name)


def test_every_gradient_of_pre_norm_layers_equals_transformers() -> None:
    """RobertaPreLayerNorm gets its positions as an argument and trains its rows for padding like all others."""
    encoder, tokens, targets, losses, ours = masked_losses(PRE_NORM)
    config = RobertaPreLayerNormConfig(**bert_config(PRE_NORM), layer_norm_eps=EPSILON, type_vocab_size=2)
    theirs_of = {
        "bert.": "roberta_prelayernorm.",
        "attention.output.LayerNorm": "attention.LayerNorm",
        "output.LayerNorm": "intermediate.LayerNorm",
        "cls.predictions.transform.dense": "lm_head.dense",
        "cls.predictions.transform.LayerNorm": "lm_head.layer_norm",
        "cls.predictions.bias": "lm_head.bias",
    }

    def renamed(state: Weights) -> Weights:
        for old, new in theirs_of.items():
            state = {name.replace(old, new): value for name, value in state.items()}
        return state

    for member in range(2):
        model = RobertaPreLayerNormForMaskedLM(config).eval()
        for table in (model.base_model.embeddings.word_embeddings, model.base_model.embeddings.position_embeddings):
            table.padding_idx = None
        state = renamed(to_transformers({n: v.detach()[member] for n, v in encoder.items()}))
        assert set(dict(model.named_parameters())) == set(state)
        model.load_state_dict(state, strict=False)
        attended = {"attention_mask": tokens.segments[member], "position_ids": tokens.positions[member]}
        output = model(input_ids=tokens.ids[member], labels=targets[member], **attended)
        torch.testing.assert_close(losses[member], output.loss)
        output.loss.backward()
        theirs = {name: value.grad for name, value in model.named_parameters()}
        for name, gradient in renamed(to_transformers({n: v[member] for n, v in ours.items()})).items():
            torch.testing.assert_close(gradient, theirs[name], atol=1e-6, rtol=1e-3, msg=name)


def test_the_gradient_of_shared_layers_is_the_sum_over_the_layers() -> None:
    encoder, tokens, targets, losses, ours = masked_losses(SHAPES[3])
    own = replace(SHAPES[3], shared_layers=False)
    copies = {
        name.replace("layers.0.", f"layers.{layer}."): value.detach().requires_grad_()
        for layer in range(own.depth)
        for name, value in encoder.items()
    }
    logits = mlm_logits(copies, encode(copies, own, tokens))
    total = sum(F.cross_entropy(logits[k], targets[k].flatten(), ignore_index=-100) for k in range(2))
    torch.testing.assert_close(losses.sum(), total)
    theirs = dict(zip(copies, torch.autograd.grad(total, list(copies.values())), strict=True))
    for name, gradient in ours.items():
        layers = {name.replace("layers.0.", f"layers.{layer}.") for layer in range(own.depth)}
        summed = torch.stack([theirs[layer] for layer in layers]).sum(0)
        torch.testing.assert_close(gradient, summed, atol=1e-6, rtol=1e-3, msg=name)


@pytest.mark.parametrize("architecture", [*SHAPES, PRE_NORM, replace(PRE_NORM, shared_layers=True)], ids=str)
def test_parameters_are_counted_as_they_are(architecture: Architecture) -> None:
    """Weights that layers share count once."""
    for pooling in ("cls", "spans"):
        weights = initial_weights(architecture, (0,)) | classifier_weights(architecture, 5, (0,), pooling=pooling)
        counted = {name: value.numel() for name, value in weights.items() if not name.startswith("mlm.")}
        assert architecture.classifier_parameters(5, pooling=pooling) == sum(counted.values())


def test_poolers_of_one_mean_are_drawn_as_before() -> None:
    """The sums were computed at commit 04973ea, before spans existed."""
    expected = {
        "pooler.weight": 82.805949,
        "pooler.bias": 0.0,
        "classifier.weight": 7.446052,
        "classifier.bias": 0.0,
    }
    for pooling in ("cls", "mean"):
        drawn = classifier_weights(SHAPES[0], 3, (7,), pooling=pooling)
        assert {name: round(float(value.double().abs().sum()), 6) for name, value in drawn.items()} == pytest.approx(
            expected, abs=1e-5
        )


@pytest.mark.parametrize("architecture", [*SHAPES[2:], PRE_NORM], ids=str)
def test_weights_come_back_from_transformers(architecture: Architecture) -> None:
    one = {name: value[0] for name, value in stack(architecture, (4,)).items()}
    back = from_transformers(with_every_layer(to_transformers(one), architecture), architecture)
    assert back.keys() == one.keys()
    assert all(torch.equal(back[name], one[name]) for name in one)


def test_a_state_of_another_architecture_is_refused() -> None:
    state = to_transformers({name: value[0] for name, value in stack(SHAPES[0], (0,)).items()})
    with pytest.raises(ValueError, match="BERT of 2 layers"):
        from_transformers(state, Architecture(2, 4, 8, 64, 50, 16))
    with pytest.raises(ValueError, match=r"word embeddings of \(50, 32\)"):
        from_transformers(state, Architecture(1, 4, 8, 64, 51, 16))


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_packed_texts_see_only_themselves(pooling: str) -> None:
    """Two texts in one row give the same logits as each in its own row."""
    architecture = SHAPES[0]
    weights = stack(architecture, (0,))
    first, second = torch.arange(5, 11), torch.arange(20, 27)
    ids = torch.zeros(1, 1, 16, dtype=torch.int64)
    ids[0, 0, :6], ids[0, 0, 6:13] = first, second
    positions = torch.tensor([[[*range(6), *range(7), 0, 0, 0]]])
    segments = torch.tensor([[[1] * 6 + [2] * 7 + [0] * 3]])
    packed = Tokens(ids, positions, segments, full=False, sizes=(16,))
    starts = Read.of([np.array([0, 6])], rows=1, length=16)
    together = class_logits(weights, architecture, packed, starts, pooling=pooling)
    for index, text in enumerate((first, second)):
        ids, own = text[None, None], torch.ones(1, 1, len(text)).long()
        alone = Tokens(ids, torch.arange(len(text))[None, None], own, True, (len(text),))
        start = Read.of([np.zeros(1, np.int64)], rows=1, length=len(text))
        logits = class_logits(weights, architecture, alone, start, pooling=pooling)
        torch.testing.assert_close(together[0, index], logits[0, 0], atol=1e-5, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("training", [True, False], ids=["training", "answering"])
@pytest.mark.parametrize("channels", [5, convolution.FEW_CHANNELS])
def test_the_convolution_is_conv2d_batch_norm_gelu_member_by_member(channels: int, training: bool) -> None:
    """Values, gradients and running statistics agree, for either order of the channels in memory."""
    architecture = Architecture(1, 2, 4, 16, 30, 7, convolution_layers=2, kernel=(16, 3), channels=channels)
    generator = torch.Generator().manual_seed(0)
    weights = {n: v for n, v in initial_weights(architecture, (3, 4)).items() if n.startswith("convolution.")}
    for value in weights.values():  # norms and running statistics different from their initial values
        value.add_(torch.rand(value.shape, generator=generator), alpha=0.1)
    trained = {n: v.clone().requires_grad_() for n, v in weights.items() if not n.endswith(convolution.STATISTICS)}
    running = {n: v.clone() for n, v in weights.items() if n not in trained}
    image = torch.randn(2, 6, 7, 8, generator=generator).requires_grad_()
    ours = convolution.forward(image, {**trained, **running}, architecture, training=training)
    pull = torch.randn(ours.shape, generator=generator)
    image_gradient, *rest = torch.autograd.grad(ours, [image, *trained.values()], pull)
    gradients = dict(zip(trained, rest, strict=True))
    close = partial(torch.testing.assert_close, atol=1e-5, rtol=1e-4)
    for member in range(2):
        modules: list[nn.Module] = []
        for layer, (inputs, outputs) in enumerate(((1, channels), (channels, channels), (channels, 1))):
            kernel = (1, 1) if layer == 2 else (16, 3)
            conv, norm = nn.Conv2d(inputs, outputs, kernel, padding="same", bias=False), nn.BatchNorm2d(outputs)
            conv.weight.data = weights[f"convolution.{layer}.weight"][member]
            norm.weight.data, norm.bias.data = (
                weights[f"convolution.{layer}.norm.{n}"][member] for n in ("weight", "bias")
            )
            for statistic in convolution.STATISTICS:
                getattr(norm, statistic).copy_(weights[f"convolution.{layer}.{statistic}"][member])
            modules += [conv, norm, nn.GELU()]
        alone = image.detach()[member][:, None].requires_grad_()
        theirs = nn.Sequential(*modules).train(training)(alone)
        theirs.backward(pull[member][:, None])
        close(ours[member], theirs[:, 0])
        close(image_gradient[member], alone.grad[:, 0])
        for layer, (conv, norm) in enumerate(zip(modules[::3], modules[1::3], strict=True)):
            name = f"convolution.{layer}"
            close(gradients[f"{name}.weight"][member], conv.weight.grad, atol=1e-4)
            close(gradients[f"{name}.norm.weight"][member], norm.weight.grad, atol=1e-4)
            close(gradients[f"{name}.norm.bias"][member], norm.bias.grad, atol=1e-4)
            for statistic in convolution.STATISTICS:
                close(running[f"{name}.{statistic}"][member], getattr(norm, statistic))


def test_channels_stay_last_in_memory_from_layer_to_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise torch copies whole images before each convolution, which only costs time."""
    architecture = Architecture(1, 2, 4, 16, 30, 7, 2, (3, 3), convolution.FEW_CHANNELS)
    outputs: list[Tensor] = []
    plain = F.conv2d
    monkeypatch.setattr(F, "conv2d", lambda *given, **named: outputs.append(plain(*given, **named)) or outputs[-1])
    weights = initial_weights(architecture, (3,))
    convolution.forward(torch.ones(1, 6, 7, 8), weights, architecture, training=True)
    assert [output.stride(1) for output in outputs] == [1, 1, 1]


@pytest.mark.parametrize("architecture", [*SHAPES, Architecture(1, 2, 4, 16, 30, 7, 2, (3, 3), 5)], ids=str)
def test_parameters_are_counted(architecture: Architecture) -> None:
    weights = initial_weights(architecture, (0,)) | classifier_weights(architecture, 5, (0,))
    counted = sum(v[0].numel() for n, v in weights.items() if not n.startswith("mlm.") and "running" not in n)
    assert architecture.classifier_parameters(5) == counted
