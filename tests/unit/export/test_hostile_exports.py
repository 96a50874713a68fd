"""Exports made to break or fool their reader: every entrance refuses them with one message and runs no code."""

import copy
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tlm_search import SoftCommittee
from tlm_search.data.vocabulary.tokenizer import copy_tokenizer
from tlm_search.errors import DataError, ExportError
from tlm_search.export.committee import Committee
from tlm_search.export.folder import verified
from tlm_search.export.onnx import write_onnx

pytestmark = pytest.mark.timeout(60)

NUMBERS = [-1, 0, 1e9, 10**9, 10**30, 1.5, True, "3", None, [], {}, float("inf"), float("nan")]
SIZES = ("depth", "heads", "head_size", "feed_forward", "vocabulary", "positions", "convolution_layers", "channels")


def configurations() -> Iterator[tuple[str, Callable[[dict], None]]]:
    """Return impossible changes of ``config.json`` by name."""

    def put(value: object, *place: str) -> Callable[[dict], None]:
        def change(config: dict) -> None:
            for part in place[:-1]:
                config = config[part]
            config[place[-1]] = value

        return change

    for value in NUMBERS:
        for key in ("length", "pad_token_id"):
            if (key, value) != ("pad_token_id", 0):
                yield f"{key}: {value}", put(value, key)
        for key in SIZES:
            if not (key in SIZES[-2:] and value == 0):
                yield f"{key}: {value}", put(value, "architecture", key)
    yield "depth: 96, shared", lambda config: config["architecture"].update(depth=97, shared_layers=True)
    for key in ("architecture", "members", "pooling", "id2label"):
        for wrong in (None, [], {}, 3, "x"):
            yield f"{key}: {wrong}", put(wrong, key)
    for key, wrong in (
        ("kernel", []), ("kernel", [1e9, 1e9]), ("normalisation", "none"), ("shared_layers", "yes"), ("other", 1),
    ):  # fmt: skip
        yield f"{key}: {wrong}", put(wrong, "architecture", key)
    for wrong in ({}, [], {"temperature": 0, "bias": []}, {"temperature": 1, "bias": [1, 2]}):
        yield f"calibration: {wrong}", put(wrong, "calibration")
    yield "markers", put([1, 2], "markers")
    yield "spans", put("spans", "pooling")
    yield "linear", put({"idf": [10**12]}, "linear")
    yield "vocabulary for positions", lambda config: config["architecture"].update(vocabulary=12, positions=35)


CONFIGURATIONS = dict(configurations())


def sign(folder: Path) -> None:
    """Write the manifest for the files as they are now. Somebody who changes the files can do the same."""
    facts = json.loads((folder / "manifest.json").read_text())
    for name in facts["files"]:
        content = (folder / name).read_bytes()
        facts["files"][name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (folder / "manifest.json").write_text(json.dumps(facts))


@pytest.fixture
def folder(exported, tmp_path):
    copied = shutil.copytree(exported, tmp_path / "hostile", ignore=shutil.ignore_patterns("members"))
    manifest = json.loads((copied / "manifest.json").read_text())
    manifest["files"] = {name: facts for name, facts in manifest["files"].items() if not name.startswith("members")}
    (copied / "manifest.json").write_text(json.dumps(manifest))
    return copied


def exported_again(folder):
    committee = Committee.load(folder)
    committee.check()
    write_onnx(committee, folder / "model.onnx")


def change_json(folder, name, change):
    document = json.loads((folder / name).read_text())
    change(document)
    (folder / name).write_text(json.dumps(document))
    sign(folder)


@pytest.fixture
def refused(call, monkeypatch):
    """Return a function that opens an export at every entrance, and checks that each refuses it with such a message."""
    monkeypatch.setattr("uvicorn.Server.run", lambda *_, **__: pytest.fail("it is served"))

    def ask(folder, words="damaged", *, in_transformers=True):
        for command in (("predict", str(folder), "a text"), ("serve", str(folder), "--port", "0")):
            code, out, err = call(*command)
            assert (code, out, "Traceback" in err) == (2, "", False), (command, err)
            assert err.count("error: ") == 1
            assert words in err, err
        with pytest.raises(ExportError, match=words):
            exported_again(folder)
        if in_transformers:
            with pytest.raises(ExportError, match=words):
                SoftCommittee.from_pretrained(folder)

    return ask


def test_the_export_itself_is_let_in_with_what_its_owner_adds(folder):
    for name in ("LICENSE", "notes.txt", "notes.md", ".gitattributes", ".cache/huggingface/x.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine")
    assert Committee.load(folder).check() < 1e-5
    SoftCommittee.from_pretrained(folder)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_configuration_that_fits_no_tensors_is_damage(folder, refused, name):
    in_labels = name.startswith("id2label")  # only transformers reads these
    change_json(folder, "config.json", CONFIGURATIONS[name])
    if in_labels:
        with pytest.raises(ExportError, match="damaged"):
            SoftCommittee.from_pretrained(folder)
    else:
        refused(folder)


@pytest.mark.parametrize("labels", [None, {}, [], "abc", ["a"], [1, 2, 3, 4], 7])
def test_labels_that_do_not_fit_are_damage(folder, refused, labels):
    (folder / "labels.json").write_text(json.dumps(labels))
    sign(folder)
    refused(folder, in_transformers=False)


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: tensors.pop("pooler.bias"),
        lambda tensors: tensors.update(more=torch.zeros(1)),
        lambda tensors: tensors.update({"linear.idf": torch.zeros(1)}),
        lambda tensors: tensors.update({"pooler.bias": torch.zeros(3, 1)}),
        lambda tensors: tensors.update({"embeddings.words": tensors["embeddings.words"][:, :5].contiguous()}),
    ],
)
def test_tensors_of_other_names_or_shapes_are_damage(folder, refused, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    sign(folder)
    refused(folder)


@pytest.mark.parametrize(
    "expected", [None, [], {"texts": [], "probabilities": []}, {"texts": [1], "probabilities": [[1]]}]
)
def test_answers_that_cannot_be_compared_are_one_message(folder, refused, expected):
    (folder / "check.json").write_text(json.dumps(expected))
    sign(folder)
    refused(folder, "check.json does not fit the committee", in_transformers=False)


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document["model"]["vocab"].pop("[UNK]"),
        lambda document: document["model"]["vocab"].update(more=10**6),
        lambda document: document.update(post_processor=None),
        lambda document: document.update(model={}),
        lambda document: document.pop("model"),
    ],
)
def test_a_tokenizer_that_does_not_fit_is_damage(folder, change):
    change_json(folder, "tokenizer.json", change)
    with pytest.raises(ExportError, match="damaged: the tokenizer"):
        Committee.load(folder)


def test_a_panic_of_the_tokenizer_is_damage(folder, monkeypatch):
    class PanicException(BaseException):
        pass

    def panic(*_):
        raise PanicException("index out of bounds")

    monkeypatch.setattr("tlm_search.export.committee.open_tokenizer", panic)
    with pytest.raises(ExportError, match="damaged: the tokenizer cannot be read: index out of bounds"):
        Committee.load(folder)


@pytest.mark.parametrize("name", ["tokenizer.json", "labels.json", "config.json", "tokenizer_config.json"])
def test_a_manifest_that_omits_a_file_is_damage(folder, refused, name):
    change_json(folder, "manifest.json", lambda manifest: manifest["files"].pop(name))
    refused(folder, f"manifest.json does not name {name}")


@pytest.mark.parametrize(
    "name", ["adapter_config.json", "tokenization.py", "members/0/model.safetensors", "model.onnx", "a.bin"]
)
def test_a_file_that_the_manifest_does_not_name_is_damage(folder, refused, name):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("{}")
    refused(folder, f"manifest.json does not name {name}")


@pytest.mark.parametrize("size", [float("inf"), float("nan"), -1, "x", None, []])
def test_a_manifest_with_sizes_that_are_none_is_damage(folder, size):
    change = copy.deepcopy(json.loads((folder / "manifest.json").read_text()))
    change["files"]["config.json"]["bytes"] = size
    (folder / "manifest.json").write_text(json.dumps(change))
    with pytest.raises(ExportError, match="damaged"):
        verified(folder)


def test_no_code_of_a_folder_is_run(folder, tmp_path, monkeypatch):
    """No entrance asks whether to run it either."""
    ran = tmp_path / "ran"
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("it asks"))
    code = f"from pathlib import Path\nPath({str(ran)!r}).touch()\nclass Evil: pass\n"
    (folder / "evil.py").write_text(code)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["evil.py"] = {}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    maps = {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil", "AutoModelForSequenceClassification": "evil.Evil"}
    change_json(folder, "config.json", lambda config: config.update(auto_map=maps))
    evil = {"auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}, "tokenizer_class": "Evil"}
    change_json(folder, "tokenizer_config.json", lambda config: config.update(evil))
    Committee.load(folder).check()
    SoftCommittee.from_pretrained(folder, trust_remote_code=True)
    with pytest.raises(DataError, match="it needs its own code, which tlm-search never runs"):
        copy_tokenizer(tmp_path / "copy", str(folder))  # the same call as for `tokenizer: {name: FOLDER}` in a space
    assert not ran.exists()
