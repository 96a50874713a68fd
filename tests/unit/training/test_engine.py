"""Training: a member of a stack equals its solo twin, runs repeat bit for bit, and members learn a task."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_texts import (
    CONVOLVED,
    FINETUNING,
    MARKERS,
    PRETRAINING,
    SHAPE,
    SPECIAL,
    TEST,
    TEST_LABELS,
    TRAIN,
    TRAIN_LABELS,
    array_of,
)

from tlm_search.data.markers import Markers
from tlm_search.model import tied_embeddings as tied
from tlm_search.model.architecture import Architecture
from tlm_search.model.bert import class_logits, encode, mlm_logits
from tlm_search.model.loss import class_losses, mlm_losses, sampled_mlm_losses
from tlm_search.model.tied_embeddings import UNSCORED, TiedWords
from tlm_search.model.weights import classifier_weights, initial_weights
from tlm_search.training import batches
from tlm_search.training.dropout import dropout
from tlm_search.training.engine import Optimisation, train
from tlm_search.training.finetune import class_weights, finetune, predict
from tlm_search.training.pretrain import pretrain
from tlm_search.training.settings import Execution, Pretraining

DEEP = replace(SHAPE, depth=2, normalisation="pre", shared_layers=True)
MUON = replace(PRETRAINING, optimiser="muon")
SAMPLED = replace(PRETRAINING, softmax="sampled")


@pytest.mark.parametrize(
    ("architecture", "settings"),
    [(SHAPE, PRETRAINING), (CONVOLVED, PRETRAINING), (DEEP, PRETRAINING), (SHAPE, MUON), (SHAPE, SAMPLED)],
    ids=["plain", "convolution", "pre-norm, shared", "muon", "sampled softmax"],
)
def test_a_member_of_a_stack_is_its_solo_twin(architecture: Architecture, settings: Pretraining) -> None:
    """Pre-trained and fine-tuned with dropout, in a stack of three and alone: equal up to the order of sums."""

    short = replace(FINETUNING, epochs=1)  # rounding grows with each update, as in any training

    def logits(seeds: tuple[int, ...]) -> np.ndarray:
        encoders, _ = pretrain(architecture, settings, TRAIN, special=SPECIAL, seeds=seeds)
        weights, _ = finetune(
            architecture, short, TRAIN, TRAIN_LABELS, classes=3, pad=0, seeds=seeds, pretrained=encoders
        )
        return predict(architecture, weights, TEST, pooling="cls", pad=0)

    stacked = logits((5, 6, 7))
    for index, seed in enumerate((5, 6, 7)):
        np.testing.assert_allclose(stacked[index], logits((seed,))[0], atol=1e-3)


def test_the_same_seed_repeats_bit_for_bit() -> None:
    runs = [pretrain(SHAPE, PRETRAINING, TRAIN, special=SPECIAL, seeds=(3,))[0] for _ in range(2)]
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])


@pytest.mark.parametrize("pooling", ["cls", "mean", "spans"])
def test_fine_tuning_learns_what_is_there_and_leaves_the_encoder(pooling: str) -> None:
    encoder, course = pretrain(SHAPE, PRETRAINING, TRAIN, special=SPECIAL, seeds=(0,))
    assert course.losses[0][-1][1] < course.losses[0][0][1] < math.log(40) + 0.5
    before = {name: value.clone() for name, value in encoder.items()}
    settings = replace(FINETUNING, pooling=pooling)
    options = {"classes": 3, "pad": 0, "markers": MARKERS, "seeds": (0,), "pretrained": encoder}
    weights, _ = finetune(SHAPE, settings, TRAIN, TRAIN_LABELS, **options)
    logits = predict(SHAPE, weights, TEST, pooling=pooling, pad=0, markers=MARKERS)
    assert logits.shape == (1, 90, 3)
    assert (logits[0].argmax(-1) == TEST_LABELS).mean() > 0.8
    assert all(torch.equal(before[name], encoder[name]) for name in encoder)


def test_one_update_is_adamw_on_the_clipped_gradient() -> None:
    start = torch.tensor([[1.0, -2.0, 3.0], [4.0, 5.0, 6.0]])
    weights = {"w": start.clone()}
    optimisation = Optimisation(learning_rate=0.1, weight_decay=0.5, warmup=0.0, updates=1)
    train(weights, [[None]], lambda w, _: (w["w"] ** 2).sum(dim=1), optimisation=optimisation)
    for member in range(2):
        twin = torch.nn.Parameter(start[member].clone())
        optimiser = torch.optim.AdamW([twin], lr=0.1, weight_decay=0.5)
        (twin**2).sum().backward()
        torch.nn.utils.clip_grad_norm_([twin], 1.0)
        optimiser.step()
        torch.testing.assert_close(weights["w"][member], twin.detach())


def test_a_member_that_diverges_spoils_only_itself() -> None:
    weights = {"w": torch.tensor([[1.0], [1.0]])}
    scale = torch.tensor([1.0, float("nan")])
    optimisation = Optimisation(0.1, 0.0, 0.0, 3)
    course = train(weights, [[None]] * 3, lambda w, _: (w["w"][:, 0] - 2) ** 2 * scale, optimisation=optimisation)
    assert math.isfinite(course.losses[0][-1][1])
    assert math.isnan(course.losses[1][-1][1])
    assert weights["w"][0].item() > 1.0


def test_the_rate_rises_and_falls_linearly() -> None:
    optimisation = Optimisation(learning_rate=1.0, weight_decay=0.0, warmup=0.2, updates=10)
    assert [round(optimisation.rate(update), 3) for update in range(10)] == [
        0.5, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125,
    ]  # fmt: skip


def test_the_rate_falls_as_a_cosine_or_stays() -> None:
    cosine = Optimisation(1.0, 0.0, 0.2, 10, schedule="cosine")
    expected = [0.5, 1.0, *((1 + math.cos(math.pi * step / 8)) / 2 for step in range(8))]
    assert [cosine.rate(update) for update in range(10)] == pytest.approx(expected)
    constant = Optimisation(1.0, 0.0, 0.2, 10, schedule="constant_with_warmup")
    assert [constant.rate(update) for update in range(10)] == [0.5] + [1.0] * 9


def test_packing_wastes_little_and_keeps_each_text_whole() -> None:
    chosen = np.array([[3, 1, 4, 15, 9, 2, 6, 5]])
    batch = batches.assemble(TRAIN, chosen, length=12, packed=True, pad=0)
    flat = batch.tokens.ids.flatten()
    for start, text in zip(batch.starts[0], chosen[0], strict=True):
        words = TRAIN[text]
        assert flat[start : start + len(words)].tolist() == words.tolist()
        assert int(start) // 12 == int(start + len(words) - 1) // 12
    used = int((batch.tokens.segments > 0).sum())
    assert used == sum(len(TRAIN[text]) for text in chosen[0])
    assert batch.tokens.ids.shape[1] < len(chosen[0])


def test_masks_are_berts() -> None:
    """80/10/10 of the chosen share, never special tokens or padding; the targets are the original tokens."""
    texts = array_of([[2, *range(5, 15), 3]] * 4000)
    batch = batches.assemble(texts, np.arange(4000)[None], length=12, packed=False, pad=0)
    masked = batches.mask(
        batch, probability=0.3, vocabulary=40, special=(0, 2, 3), mask_id=4, generators=[np.random.default_rng(0)]
    )
    before, after = batch.tokens.ids.flatten(), masked.tokens.ids.flatten()
    (own,) = masked.read.sizes
    indices, targets = masked.read.indices[0, :own], masked.targets[0, :own]
    assert (masked.targets[0, own:] == UNSCORED).all()
    assert torch.equal(before[indices], targets)
    assert not set(targets.tolist()) & {0, 2, 3}
    assert len(indices) / 40_000 == pytest.approx(0.3, abs=0.01)
    assert (after[indices] == 4).float().mean().item() == pytest.approx(0.8 + 0.1 / 40, abs=0.01)
    assert (after[indices] == targets).float().mean().item() == pytest.approx(0.1 + 0.1 / 40, abs=0.01)
    rest = torch.ones(len(before), dtype=torch.bool)
    rest[indices] = False
    assert torch.equal(before[rest], after[rest])


def masked_batch(seeds: tuple[int, ...] = (1, 2)) -> batches.ScoredBatch:
    generators = [np.random.default_rng(seed) for seed in seeds]
    chosen = np.stack([np.random.default_rng(seed + 9).permutation(120)[:8] for seed in seeds])
    rows = batches.assemble(TRAIN, chosen, length=12, packed=True, pad=0)
    return batches.mask(rows, probability=0.3, vocabulary=40, special=[0, 2, 3], mask_id=4, generators=generators)


def test_candidates_are_the_words_that_a_members_own_batch_masks() -> None:
    batch, chances = masked_batch(), np.linspace(0.001, 0.04, 40)
    sampled = batches.with_candidates(batch, chances)
    assert sampled.candidates is not None
    for member in range(2):
        scored = batch.targets[member] != UNSCORED
        targets, ids, offsets = (
            batch.targets[member][scored],
            sampled.candidates.ids[member],
            sampled.candidates.offsets,
        )
        assert torch.equal(ids[sampled.targets[member][scored]], targets)
        assert (sampled.targets[member][~scored] == UNSCORED).all()
        real = offsets[member].isfinite()
        assert set(ids[real].tolist()) == set(targets.tolist())
        wanted = np.log(1 - (1 - chances[ids[real].numpy()]) ** len(targets))
        np.testing.assert_allclose(offsets[member][real], wanted, rtol=1e-4)


def test_a_sampled_softmax_is_the_full_one_where_every_word_is_a_candidate() -> None:
    """With all words as candidates and no correction, losses and gradients equal those of the whole vocabulary."""
    batch, weights = masked_batch(), initial_weights(SHAPE, (0, 1))
    leaves = {name: value.requires_grad_() for name, value in weights.items()}
    hidden = encode(leaves, SHAPE, batch.tokens, read=batch.read)
    everything = (torch.arange(40).expand(2, -1), torch.zeros(2, 40))
    full = mlm_losses(leaves, hidden, batch.targets, 1 / batch.scored)
    sampled = sampled_mlm_losses(leaves, hidden, batch.targets, 1 / batch.scored, everything)
    torch.testing.assert_close(sampled, full)
    wanted, found = (
        torch.autograd.grad(losses.sum(), list(leaves.values()), retain_graph=True, allow_unused=True)
        for losses in (full, sampled)
    )
    for one, other in zip(wanted, found, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(other, one, atol=1e-6, rtol=1e-4)


def test_entries_that_fill_candidates_up_change_nothing() -> None:
    batch = batches.with_candidates(masked_batch(), np.full(40, 1 / 40))
    shape = batch.shape
    filled = batch.filled(replace(shape, candidates=shape.candidates + 5))
    assert filled.shape.candidates == shape.candidates + 5
    weights = initial_weights(SHAPE, (0, 1))
    losses = []
    for one in (batch, filled):
        hidden, candidates = encode(weights, SHAPE, one.tokens, read=one.read), one.candidates
        assert candidates is not None
        words = (candidates.ids, candidates.offsets)
        losses.append(sampled_mlm_losses(weights, hidden, one.targets, 1 / one.scored, words))
    torch.testing.assert_close(losses[0], losses[1])


def test_a_sampled_softmax_learns_what_the_full_one_learns() -> None:
    """After the same updates the loss over the whole vocabulary has fallen by the same amount, within a tenth."""
    long, last = replace(PRETRAINING, epochs=30, dropout=0.0), {}
    for softmax in ("full", "sampled"):
        weights, _ = pretrain(SHAPE, replace(long, softmax=softmax), TRAIN, special=SPECIAL, seeds=(0, 1))
        batch = masked_batch((5, 6))
        hidden = encode(weights, SHAPE, batch.tokens, read=batch.read)
        last[softmax] = mlm_losses(weights, hidden, batch.targets, 1 / batch.scored).mean().item()
    assert last["full"] < math.log(40) - 0.3
    assert last["sampled"] < last["full"] * 1.1


def test_dropout_keeps_the_mean_and_draws_by_member() -> None:
    assert dropout(0.0, [], most=8) is None

    def drop(seeds: tuple[int, ...]) -> torch.Tensor:
        function = dropout(0.25, [torch.Generator().manual_seed(seed) for seed in seeds], most=0)
        assert function is not None
        return function(torch.ones(len(seeds), 100, 100), [100] * len(seeds))

    both = drop((1, 2))
    assert both.mean().item() == pytest.approx(1.0, abs=0.02)
    assert torch.equal(both[1], drop((2,))[0])


def scored_batches() -> dict[str, batches.ScoredBatch]:
    """A batch of each objective for two members, of texts of different lengths."""
    chosen = np.array([[3, 1, 4, 15, 9, 2], [6, 5, 35, 8, 97, 93]])
    texts = batches.assemble(TRAIN, chosen, length=12, packed=True, pad=0)
    generators = [np.random.default_rng(seed) for seed in (1, 2)]
    special = [SPECIAL[name] for name in ("pad", "cls", "sep")]
    masked = batches.mask(
        texts, probability=0.4, vocabulary=40, special=special, mask_id=SPECIAL["mask"], generators=generators
    )
    return {"pretraining": masked, "finetuning": batches.label(texts, TRAIN_LABELS[chosen])}


@pytest.mark.parametrize("rows", [0, 2])
@pytest.mark.parametrize(
    ("objective", "pooling"),
    [("pretraining", ""), ("finetuning", "cls"), ("finetuning", "mean"), ("finetuning", "spans")],
)
def test_a_batch_that_is_filled_up_is_the_same_mathematics(objective: str, pooling: str, rows: int) -> None:
    """A GPU's graph of a larger shape computes the batch in this way."""
    batch = scored_batches()[objective]
    own = batch.shape
    shape = replace(own, rows=own.rows + rows, queries=own.queries + 2, reads=own.reads + 3)
    filled = batch.filled(shape)
    assert filled.shape == shape
    weights = initial_weights(SHAPE, (1, 2)) | classifier_weights(SHAPE, 3, (1, 2), pooling=pooling)

    def results(given: batches.ScoredBatch) -> list[torch.Tensor]:
        leaves = {name: value.detach().requires_grad_() for name, value in weights.items()}
        if objective == "pretraining":
            hidden = encode(leaves, SHAPE, given.tokens, read=given.read)
            losses = mlm_losses(leaves, hidden, given.targets, 1 / given.scored)
        else:
            logits = class_logits(leaves, SHAPE, given.tokens, given.read, pooling=pooling, markers=MARKERS)
            losses = class_losses(logits, given.targets)
        parts = torch.autograd.grad(losses.sum(), list(leaves.values()), allow_unused=True)
        return [losses, *(part for part in parts if part is not None)]

    for own, expected in zip(results(filled), results(batch), strict=True):
        torch.testing.assert_close(own, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("seeds", [(1,), (1, 2)])
@pytest.mark.parametrize("pooling", ["cls", "mean", "spans"])
def test_pieces_of_a_batch_are_the_same_mathematics(seeds: tuple[int, ...], pooling: str) -> None:
    """Both objectives give the same, as a whole and in four micro-batches whose gradients are added."""

    def results(micro_batches: int) -> dict[str, torch.Tensor]:
        execution = Execution(micro_batches=micro_batches)
        plain = replace(PRETRAINING, dropout=0.0)
        encoders, course = pretrain(SHAPE, plain, TRAIN, special=SPECIAL, seeds=seeds, execution=execution)
        settings = replace(FINETUNING, dropout=0.0, epochs=1, pooling=pooling)
        weights, other = finetune(
            SHAPE,
            settings,
            TRAIN,
            TRAIN_LABELS,
            classes=3,
            pad=0,
            markers=MARKERS,
            seeds=seeds,
            pretrained=encoders,
            execution=execution,
        )
        return {**weights, "losses": torch.tensor(course.losses), "other": torch.tensor(other.losses)}

    whole, micro_batches = results(1), results(4)
    for name, value in whole.items():
        if name.endswith("qkv.bias"):
            continue  # a key's bias has no gradient: what Adam makes of its rounding is noise
        torch.testing.assert_close(micro_batches[name], value, atol=2e-4, rtol=1e-3, msg=name)


def test_bf16_trains_as_fp32_does() -> None:
    """The curve is the same up to rounding; weights stay in fp32."""
    curves = []
    for precision in ("float32", "bfloat16"):
        weights, course = pretrain(
            SHAPE, PRETRAINING, TRAIN, special=SPECIAL, seeds=(0,), execution=Execution(precision=precision)
        )
        assert {value.dtype for value in weights.values()} == {torch.float32}
        curves.append(np.array(course.losses)[0, :, 1])
    np.testing.assert_allclose(curves[1], curves[0], atol=0.02)


def test_logits_of_the_head_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Computing it in blocks of a few rows gives the loss and gradients of all rows at once."""
    targets = torch.tensor([[3, 1, UNSCORED, 0, 2, 5, 7], [1, 2, 3, 4, UNSCORED, UNSCORED, UNSCORED]])
    generator = torch.Generator().manual_seed(0)
    values = {name: value.clone() for name, value in initial_weights(SHAPE, (0, 1)).items()}
    hidden = torch.randn(2, 7, 16, generator=generator)

    def gradients(function) -> list[torch.Tensor]:
        weights = {name: value.clone().requires_grad_() for name, value in values.items()}
        states = hidden.clone().requires_grad_()
        losses = function(weights, states)
        used = [weights[name] for name in ("embeddings.words", "mlm.bias", "mlm.transform.weight", "mlm.norm.bias")]
        return [losses, *torch.autograd.grad(losses.sum(), [states, *used])]

    shares = torch.tensor([1.0, 2.0])
    plain = gradients(lambda weights, states: class_losses(mlm_logits(weights, states), targets) * shares)
    monkeypatch.setattr(tied, "LOGITS_BYTES", 4 * SHAPE.vocabulary * 3)
    taken, empty = [], tied.TiedWords.empty
    monkeypatch.setattr(tied.TiedWords, "empty", lambda *a: taken.append((a[1], a[2][0])) or empty(*a))
    blocks = gradients(lambda weights, states: mlm_losses(weights, states, targets, shares))
    for ours, theirs in zip(blocks, plain, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert max(rows for name, rows in taken if name == "logits") == 3


@pytest.mark.parametrize("pooling", ["cls", "mean", "spans"])
def test_words_that_no_text_has_follow_their_weight_decay(pooling: str) -> None:
    """AdamW moves a weight without a gradient like this. The words of the texts train as if there were no others."""
    settings = replace(FINETUNING, pooling=pooling, epochs=2, weight_decay=0.5)
    wider = replace(SHAPE, vocabulary=60)
    options = {"classes": 3, "pad": 0, "markers": MARKERS, "seeds": (3, 4)}
    options["pretrained"] = initial_weights(wider, (3, 4))
    before = options["pretrained"]["embeddings.words"].clone()
    weights, course = finetune(wider, settings, TRAIN, TRAIN_LABELS, **options)
    assert torch.equal(options["pretrained"]["embeddings.words"], before)
    optimisation = Optimisation(settings.learning_rate, settings.weight_decay, settings.warmup, updates=30)
    still = torch.nn.Parameter(before[:, 40:].clone())
    adamw = torch.optim.AdamW([still], weight_decay=settings.weight_decay)
    for update in range(optimisation.updates):
        adamw.param_groups[0]["lr"] = optimisation.rate(update)
        still.grad = torch.zeros_like(still)
        adamw.step()
    torch.testing.assert_close(weights["embeddings.words"][:, 40:], still.detach())
    assert len(course.losses) == 2
    narrow = {**options["pretrained"], "embeddings.words": before[:, :40].clone()}
    alone, _ = finetune(SHAPE, settings, TRAIN, TRAIN_LABELS, **{**options, "pretrained": narrow})
    assert torch.equal(weights["embeddings.words"][:, :40], alone["embeddings.words"])


@pytest.mark.parametrize("pooling", ["cls", "mean", "spans"])
def test_fine_tuning_equals_that_of_the_whole_table(pooling: str) -> None:
    """It equals AdamW on all words, on the same batches, also if words are missing between those that occur."""
    texts = array_of([[2, *(np.asarray(TRAIN[text])[1:-1] // 3 * 3).tolist(), 3] for text in range(len(TRAIN))])
    assert len(np.unique(texts.ids)) < SHAPE.vocabulary / 2
    settings = replace(FINETUNING, pooling=pooling, epochs=2, weight_decay=0.5, dropout=0.0)
    start, markers = initial_weights(SHAPE, (3,)), Markers(12, 24, 27, 39)
    options = {"classes": 3, "pad": 0, "markers": markers, "seeds": (3,), "pretrained": start}
    found, course = finetune(SHAPE, settings, texts, TRAIN_LABELS, **options)
    encoder = {name: value for name, value in start.items() if not name.startswith("mlm.")}
    fresh = classifier_weights(SHAPE, 3, (3,), pooling=pooling)
    weights = {name: value.clone() for name, value in (encoder | fresh).items()}
    sampler = batches.BatchSampler(
        len(texts), batch_size=settings.batch_size, epochs=2, generators=[np.random.default_rng((3, 2))]
    )
    optimisation = Optimisation(settings.learning_rate, settings.weight_decay, settings.warmup, sampler.updates)

    def loss(weights, batch):
        logits = class_logits(weights, SHAPE, batch.tokens, batch.read, pooling=pooling, markers=markers)
        return class_losses(logits, batch.targets) / batch.scored

    def labelled():
        for chosen in sampler:
            rows = batches.assemble(texts, chosen, length=12, packed=True, pad=0)
            yield [batches.label(rows, TRAIN_LABELS[chosen])]

    whole = train(weights, labelled(), loss, optimisation=optimisation)
    np.testing.assert_allclose(np.array(course.losses), np.array(whole.losses), rtol=1e-5)
    for name, value in weights.items():
        if not name.endswith("qkv.bias"):  # a key's bias has no gradient: what Adam makes of its rounding is noise
            torch.testing.assert_close(found[name], value, atol=1e-5, rtol=1e-4, msg=name)


def test_balanced_class_weights_make_labels_weigh_alike() -> None:
    labels = np.repeat([0, 1, 3], [90, 24, 6])  # label 2 does not occur
    weights = class_weights("balanced", labels, 4)
    assert weights.tolist() == pytest.approx([120 / (3 * 90), 120 / (3 * 24), 0, 120 / (3 * 6)])
    assert weights[labels].mean() == pytest.approx(1)
    logits, targets = torch.randn(2, 5, 4, generator=torch.manual_seed(0)), torch.tensor([[0, 3, 1, -100, 0], [3] * 5])
    given = torch.from_numpy(weights)
    found, plain = class_losses(logits, targets, given), class_losses(logits[1:], targets[1:])
    assert found[1] == pytest.approx(float(plain) * weights[3])
    whole = torch.nn.functional.cross_entropy(logits[0], targets[0], weight=given, reduction="sum")
    assert found[0] == pytest.approx(float(whole))


def test_given_class_weights_keep_their_proportions_and_texts_weigh_1_on_average() -> None:
    labels = np.repeat([0, 1], [90, 30])
    weights = class_weights("[1.0, 5.0]", labels, 2)
    assert weights[1] == pytest.approx(5 * weights[0])
    assert weights[labels].mean() == pytest.approx(1)
    assert class_weights("[2, 10]", labels, 2).tolist() == weights.tolist()


def test_with_balanced_class_weights_a_rare_label_is_said_with_more_confidence() -> None:
    kept = np.flatnonzero((TRAIN_LABELS != 2) | (np.arange(120) % 30 == 2))  # four of the forty rows of label 2 stay
    texts, labels = array_of([TRAIN[text].tolist() for text in kept]), TRAIN_LABELS[kept]

    def of_rare(class_weights: str) -> float:
        settings = replace(FINETUNING, epochs=4, class_weights=class_weights)
        weights, _ = finetune(SHAPE, settings, texts, labels, classes=3, pad=0, seeds=(1, 2), pretrained=None)
        logits = predict(SHAPE, weights, TEST, pooling="cls", pad=0)
        return float(torch.from_numpy(logits).softmax(-1)[..., 2].mean())

    assert of_rare("balanced") > 2 * of_rare("none")


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("members", [1, 3])
def test_the_gradient_of_tied_words_is_that_of_both_ends(members: int, precision: torch.dtype) -> None:
    generators = [np.random.default_rng(member) for member in range(members)]
    chosen = np.stack([generator.permutation(len(TRAIN))[:10] for generator in generators])
    rows = batches.assemble(TRAIN, chosen, length=12, packed=True, pad=0)
    batch = batches.mask(rows, probability=0.3, vocabulary=40, special=(0, 2, 3), mask_id=4, generators=generators)
    weights = {name: value.requires_grad_() for name, value in initial_weights(SHAPE, range(members)).items()}
    gradients = []
    for words in (None, TiedWords()):
        lookup = words.lookup if words else None
        hidden = encode(weights, SHAPE, batch.tokens, read=batch.read, lookup=lookup, precision=precision)
        losses = mlm_losses(weights, hidden, batch.targets, torch.arange(1.0, members + 1), words)
        found = torch.autograd.grad(losses.sum(), list(weights.values()))
        gradients.append([losses.detach(), *(value.clone() for value in found)])
    for plain, tied_words in zip(*gradients, strict=True):
        torch.testing.assert_close(tied_words, plain)
