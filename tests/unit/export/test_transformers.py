"""``transformers`` loads an export with its Auto classes and pipelines, and its members even without this package."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from finished import LABELS, LENGTH, WORDS, finished_study

from tlm_search.committee.vote import soft_vote
from tlm_search.errors import ExportError
from tlm_search.export.choose import choose
from tlm_search.export.write import export_committee
from tlm_search.report.evidence import Evidence

ORDERS = {
    "tlm_search first": "import tlm_search; import transformers",
    "models first": "from transformers import AutoModelForSequenceClassification; import tlm_search",
}


def answers_of(code, *arguments):
    run = subprocess.run([sys.executable, "-W", "error", "-c", code, *map(str, arguments)], capture_output=True)
    assert run.returncode == 0, run.stderr.decode()
    return json.loads(run.stdout)


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS.keys())
def test_the_auto_classes_know_it_whichever_is_imported_first(order):
    code = f"""{order}
from transformers import AutoConfig, AutoModelForSequenceClassification
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
config = CONFIG_MAPPING["tlm-search-committee"]
print('"' + AutoModelForSequenceClassification._model_mapping[config].__name__ + '"')"""
    assert answers_of(code) == "SoftCommittee"


def test_a_pipeline_gives_the_probabilities_of_the_study(exported, finished):
    from transformers import AutoModelForSequenceClassification, pipeline

    import tlm_search

    expected = finished.answers()
    classify = pipeline("text-classification", str(exported))
    assert type(classify.model).__name__ == "SoftCommittee"
    for batch_size in (1, 5):  # single texts, and batches with padding
        found = classify(finished.texts, truncation=True, top_k=None, batch_size=batch_size)
        by_label = [{answer["label"]: answer["score"] for answer in row} for row in found]
        rows = [[row[label] for label in LABELS] for row in by_label]
        np.testing.assert_allclose(rows, expected, atol=1e-4)
    assert isinstance(AutoModelForSequenceClassification.from_pretrained(exported), tlm_search.SoftCommittee)


def test_a_pipeline_cuts_and_pads_as_the_study_did_whatever_the_tokenizer_is_used_to(tmp_path):
    from transformers import AutoTokenizer, pipeline

    from tlm_search import SoftCommittee

    finished = finished_study(tmp_path)
    config = finished.store.root / "tokenizer" / "tokenizer_config.json"
    sides = {"padding_side": "left", "truncation_side": "left"}
    config.write_text(json.dumps({**json.loads(config.read_text()), **sides}))
    chosen = choose(finished.record, Evidence(finished.record, finished.store), number=0)
    export_committee(finished.record, finished.store, chosen, out=tmp_path / "out")
    texts = [" ".join(WORDS[10 * (i % 3) :] * 3) for i in range(5)] + ["aa", "da fa"]
    expected = SoftCommittee.from_pretrained(tmp_path / "out").probabilities(texts)
    found = pipeline("text-classification", str(tmp_path / "out"))(texts, truncation=True, top_k=None, batch_size=7)
    by_label = [{answer["label"]: answer["score"] for answer in row} for row in found]
    np.testing.assert_allclose([[row[label] for label in LABELS] for row in by_label], expected, atol=1e-4)
    member = AutoTokenizer.from_pretrained(tmp_path / "out" / "members" / "0")
    assert (member.padding_side, member.truncation_side) == ("right", "right")


def test_the_model_answers_texts_and_tells_its_members_apart(exported, finished, tmp_path):
    from tlm_search import SoftCommittee

    model = SoftCommittee.from_pretrained(exported).eval()
    np.testing.assert_allclose(model.probabilities(finished.texts), finished.answers(), atol=1e-4)
    ids = torch.tensor([[2, 7, 8, 3], [2, 9, 3, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    with torch.inference_mode():
        output = model(ids, mask, labels=torch.tensor([0, 2]))
        short = model(ids[1:, :3])
    assert output.member_logits.shape == (2, 3, 3)
    vote = output.member_logits.softmax(-1).mean(1).log()
    temperature = model.config.calibration["temperature"]
    assert temperature != 1
    torch.testing.assert_close(output.logits, (vote / temperature).log_softmax(-1))
    torch.testing.assert_close(output.loss, -(output.logits[0, 0] + output.logits[1, 2]) / 2)
    torch.testing.assert_close(short.logits[0], output.logits[1])
    model.save_pretrained(tmp_path / "again")
    again = SoftCommittee.from_pretrained(tmp_path / "again").eval()
    with torch.inference_mode():
        torch.testing.assert_close(again(ids, mask).logits, output.logits)
    with pytest.raises(ExportError, match="no tokenizer"):
        again.probabilities(["aa"])
    with pytest.raises(ValueError, match=f"a text of {LENGTH + 1} tokens, but the committee reads {LENGTH}"):
        model(torch.zeros(1, LENGTH + 1, dtype=torch.long))


def test_steps_of_accumulation_are_one_large_batch(exported, finished, tmp_path):
    from transformers import Trainer, TrainingArguments

    import tlm_search

    start = tlm_search.SoftCommittee.from_pretrained(exported)
    encoded = start.tokenizer.encode_batch(finished.texts[:4])
    rows = [{"input_ids": row.ids[:3], "labels": number % len(LABELS)} for number, row in enumerate(encoded)]
    trained = {}
    for steps in (1, 4):
        model = tlm_search.SoftCommittee.from_pretrained(exported)
        arguments = TrainingArguments(
            output_dir=str(tmp_path), per_device_train_batch_size=4 // steps, gradient_accumulation_steps=steps,
            max_steps=1, optim="sgd", learning_rate=1.0, max_grad_norm=0.0, use_cpu=True, report_to="none",
            save_strategy="no", disable_tqdm=True, remove_unused_columns=False, dataloader_pin_memory=False,
        )  # fmt: skip
        Trainer(model=model, args=arguments, train_dataset=rows).train()
        trained[steps] = model.weights()
    before = start.weights()
    assert max(float((value - before[name]).detach().abs().max()) for name, value in trained[1].items()) > 1e-3
    for name, value in trained[1].items():
        torch.testing.assert_close(trained[4][name], value, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["config.json", "labels.json", "model.safetensors", "manifest.json"])
def test_a_damaged_export_does_not_load_by_the_auto_classes(exported, tmp_path, name):
    from transformers import AutoModelForSequenceClassification

    import tlm_search  # noqa: F401

    folder = shutil.copytree(exported, tmp_path / "copy")
    if name == "model.safetensors":
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-8])
    elif name == "config.json":
        (folder / name).write_text((folder / name).read_text().replace("cls", "mean"))
    else:
        (folder / name).unlink()
    with pytest.raises(ExportError, match="damaged"):
        AutoModelForSequenceClassification.from_pretrained(folder)


def test_a_member_needs_nothing_of_this_package(exported, finished):
    """Load it in another process, in which importing this package is an error."""
    code = """import sys, json
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "tlm_search":
            raise ImportError(name)
sys.meta_path.insert(0, Blocked())
from transformers import pipeline
classify = pipeline("text-classification", sys.argv[1])
print(json.dumps(classify(json.loads(sys.argv[2]), truncation=True, top_k=None)))"""
    found = answers_of(code, exported / "members" / "2", json.dumps(finished.texts))
    rows = [{answer["label"]: answer["score"] for answer in row} for row in found]
    expected = soft_vote(finished.logits[2:3])
    np.testing.assert_allclose([[row[label] for label in LABELS] for row in rows], expected, atol=1e-4)
