"""All ways in which a file can be wrong: the message names file, line, key and value, and says what is allowed."""

from pathlib import Path

import pytest

from tlm_search.errors import SpaceError
from tlm_search.space.schema import load_space

SPACES = Path(__file__).parents[3] / "spaces"


@pytest.fixture
def refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def load(text, overrides=None):
        Path("x.yaml").write_text(text)
        with pytest.raises(SpaceError) as caught:
            load_space(Path("x.yaml"), overrides=overrides or {})
        return caught.value

    return load


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        # keys and types of sections
        ("sede: 1", ["x.yaml:1: sede: unknown key 'sede'; did you mean seed?; allowed: name, description, seed"]),
        ("seed: 1.5", ["x.yaml:1: seed: given 1.5; allowed: a whole number from 0 to 4294967295"]),
        ("seed: true", ["x.yaml:1: seed: given true; allowed: a whole number"]),
        ("seed:", ["x.yaml:1: seed: given nothing; allowed: a whole number"]),
        ("trainer: gpt", ["x.yaml:1: trainer: given 'gpt'; allowed: one of bert, simulated, or package.module:Class"]),
        ("name: a/b", ["x.yaml:1: name: given 'a/b'; allowed: a folder's name"]),
        ("name: 7", ["x.yaml:1: name: given 7; allowed: text"]),
        ("seed: 0\ncorpus: 3", ["x.yaml:2: corpus: given 3; allowed: a mapping with the keys source, config"]),
        (
            "corpus:\n  documents: 0",
            ["x.yaml:2: corpus.documents: given 0; allowed: a whole number of at least 1 or null"],
        ),
        ("corpus: ''", ["x.yaml:1: corpus.source: given ''; allowed: text that is not empty"]),
        ("task:\n  lable: x", ["x.yaml:2: task.lable: unknown key 'lable'; did you mean label?"]),
        ("task:\n  labels: 1", ["x.yaml:2: task.labels: given 1; allowed: a whole number of at least 2 or null"]),
        (
            "task: {unlabelled: {sorce: x.csv}}",
            [
                "x.yaml:1: task.unlabelled.sorce: unknown key 'sorce'; did you mean source?",
                "x.yaml:1: task.unlabelled.source: is missing; allowed: text that is not empty",
            ],
        ),
        ("task: {unlabelled: 3}", ["task.unlabelled: given 3; allowed: a mapping with the keys source, config, split"]),
        (
            "search:\n  depth: 1\n  self_training: 1",
            ["x.yaml:3: search.self_training: given 1, but the task has no unlabelled texts; allowed: 0, or a source"],
        ),
        (
            "task: {source: x.csv, unlabelled: y.csv}\nsearch:\n  self_training: 1\n  student_epochs: 0",
            ["x.yaml:4: search.student_epochs: given 0, but no linear model learns from the unlabelled texts"],
        ),
        (
            "task: {source: x.csv, unlabelled: y.csv}\nsearch: {self_training: 1, linear_member: true}\n"
            "reference:\n  student_epochs: 0",
            ["x.yaml:4: reference.student_epochs: given 0, but no linear model learns from the unlabelled texts"],
        ),
        (
            "search:\n  self_training: {choices: [0, 1]}\npoints: [{self_training: 1}]",
            ["x.yaml:2: search.self_training: given 1, but the task has no unlabelled texts"],
        ),
        (
            "search: {depth: 1}\nreference:\n  self_training: 1",
            ["x.yaml:3: reference.self_training: given 1, but the task has no unlabelled texts"],
        ),
        (
            "search:\n  teachers: {choices: [2, 4]}",
            ["x.yaml:2: search.teachers: searched without self_training; allowed: together with self_training"],
        ),
        (
            "search:\n  linear_share: {choices: [0.2, 0.5]}",
            ["x.yaml:2: search.linear_share: searched without linear_member; allowed: together with linear_member"],
        ),
        ("search: {self_training: 2}", ["search.self_training: given 2; allowed: a whole number from 0 to 1"]),
        ("task: {format: csv}", ["task.format: given 'csv'; allowed: one of auto, fewrel"]),
        ("tokenizer: {length: 4}", ["x.yaml:1: tokenizer.length: given 4; allowed: a whole number from 8 to 512"]),
        ("tokenizer: {length: 513}", ["given 513; allowed: a whole number from 8 to 512"]),
        (
            "tokenizer: {vocabulary: 100, min_count: 5}",
            ["tokenizer.min_count: given 5; allowed: only with name; a trained vocabulary has the size"],
        ),
        (
            "tokenizer: {name: bert, vocabulary: 100}",
            ["tokenizer.vocabulary: given 100 together with name; allowed: one of the two"],
        ),
        (
            "tokenizer: {vocabulary: null}",
            ["tokenizer.vocabulary: given nothing; allowed: a whole number; or give name"],
        ),
        ("resources: {cpus_per_trial: 0}", ["resources.cpus_per_trial: given 0; allowed: a number above 0"]),
        ("resources: {gpus_per_trial: -1}", ["resources.gpus_per_trial: given -1; allowed: a share from 0 to 1"]),
        (
            "resources: {gpus_per_trial: 1.5}",
            ["given 1.5; allowed: a share from 0 to 1, a whole number of GPUs, or auto"],
        ),
        ("resources: {gpus_per_trial: .inf}", ["resources.gpus_per_trial: given inf; allowed: a share from 0 to 1"]),
        ("resources: {concurrent_trials: 0}", ["given 0; allowed: a whole number of at least 1 or null"]),
        ("resources: {memory_gb: 0}", ["resources.memory_gb: given 0; allowed: a number above 0, auto or null"]),
        ("budget: {trials: 0}", ["x.yaml:1: budget.trials: given 0; allowed: a whole number of at least 1"]),
        ("budget: {time: 30}", ["budget.time: given 30; allowed: text or null"]),
        ("budget: {time: 30x}", ["budget.time: given '30x'; allowed: a time such as 90s, 30m, 2h or 1d"]),
        ("budget: {time: 0m}", ["budget.time: given '0m'"]),
        # entries of search
        ("search: 3", ["x.yaml:1: search: given 3; allowed: a mapping from settings"]),
        (
            "search:\n  dpeth: 1",
            ["x.yaml:2: search.dpeth: unknown setting 'dpeth'; did you mean depth?; allowed: depth,"],
        ),
        ("search: {depth: 0}", ["search.depth: given 0; allowed: a whole number from 1 to 96"]),
        ("search: {depth: 2.5}", ["search.depth: given 2.5; allowed: a whole number from 1 to 96"]),
        ("search: {depth: '2'}", ["search.depth: given '2'; allowed: a whole number"]),
        ("search: {depth: true}", ["search.depth: given true; allowed: a whole number"]),
        ("search: {depth: null}", ["search.depth: given nothing; allowed: a whole number"]),
        ("search: {feed_forward: .nan}", ["search.feed_forward: given nan; allowed: a number from 0.25 to 16"]),
        ("search: {committee_size: 0}", ["search.committee_size: given 0; allowed: a whole number from 1 to 1000"]),
        ("search: {pooling: maen}", ["search.pooling: unknown value 'maen'; did you mean mean?; allowed: cls, mean"]),
        ("search: {pooling: 3}", ["search.pooling: given 3; allowed: one of cls, mean"]),
        ("search: {convolution_kernel: 3 by 3}", ["given '3 by 3'; allowed: 3 for 3x3, [16, 3] for 16x3"]),
        ("search: {convolution_kernel: [3, 0]}", ["search.convolution_kernel: given '3x0'; allowed: 3 for 3x3"]),
        ("search: {linear_member: maybe}", ["search.linear_member: given 'maybe'; allowed: true or false"]),
        ("search: {linear_member: 1}", ["search.linear_member: given 1; allowed: true or false"]),
        ("search: {depth: true}", ["search.depth: given true; allowed: a whole number from 1 to 96"]),
        (
            "search: {linear_member: {low: false, high: true}}",
            ["search.linear_member: a range is for numbers; allowed: true or false"],
        ),
        (
            "search: {linear_member: {choices: [false, true]}}\npoints: [{linear_member: 0}]",
            ["points.0.linear_member: given 0; allowed: true or false"],
        ),
        ("search: {depth: [1, 2]}", ["given [1, 2]; allowed: a whole number from 1 to 96, or {choices: [1, 2]}"]),
        ("search: {depth: {chioces: [1]}}", ["search.depth.chioces: unknown key 'chioces'; did you mean choices?"]),
        ("search: {depth: {}}", ["search.depth: given {}; allowed: choices; or low and high; or value"]),
        ("search: {depth: {choices: []}}", ["search.depth.choices: given []; allowed: a list of values, each a whole"]),
        ("search: {depth: {choices: 3}}", ["search.depth.choices: given 3; allowed: a list of values"]),
        (
            "search:\n  depth:\n    choices:\n      - 1\n      - 0",
            ["x.yaml:5: search.depth.choices.1: given 0; allowed: a whole number from 1 to 96"],
        ),
        ("search: {depth: {choices: [1, 1.0]}}", ["search.depth.choices.1: given 1 twice; allowed: each value once"]),
        (
            "search: {depth: {choices: [1], log: true}}",
            ["search.depth.log: unknown key 'log'; allowed: choices, role, when"],
        ),
        ("search: {depth: {choices: [1], role: fixed}}", ["role: given 'fixed'; allowed: scientific or nuisance"]),
        ("search: {depth: {value: 1, role: nuisance}}", ["search.depth.role: given 'nuisance'; allowed: fixed"]),
        ("search: {depth: {value: 0}}", ["search.depth.value: given 0; allowed: a whole number from 1 to 96"]),
        (
            "search:\n  depth: {low: 1}",
            ["x.yaml:2: search.depth.high: is missing; allowed: a whole number from 1 to 96"],
        ),
        (
            "search: {depth: {low: 3, high: 2}}",
            ["search.depth.high: given 2; allowed: a number that is not below low, 3"],
        ),
        ("search: {depth: {low: 0, high: 97}}", ["search.depth.low: given 0;", "search.depth.high: given 97;"]),
        (
            "search: {depth: {low: 1, high: 4, step: 2}}",
            ["high: given 4; allowed: low plus whole steps of 2, such as 3 or 5"],
        ),
        (
            "search: {depth: {low: 1, high: 4, step: 0}}",
            ["search.depth.step: given 0; allowed: a whole number above 0"],
        ),
        ("search: {depth: {low: 1, high: 4, step: 1.5}}", ["search.depth.step: given 1.5; allowed: a whole number"]),
        ("search: {depth: {low: 1, high: 4, log: 1}}", ["search.depth.log: given 1; allowed: true or false"]),
        (
            "search: {depth: {low: 1, high: 5, log: true, step: 2}}",
            ["search.depth.step: given 2 together with log: true; allowed: one of the two, or step: 1"],
        ),
        (
            "search: {finetune_learning_rate: {low: 1e-4, high: 1e-3, log: true, step: 1e-4}}",
            ["search.finetune_learning_rate.step: given 0.0001 together with log: true; allowed: one of the two"],
        ),
        (
            "search: {pretrain_size: {low: 0, high: 4, log: true}}",
            ["search.pretrain_size.low: given 0; allowed: a number above 0, for log: true"],
        ),
        ("search: {pooling: {low: 1, high: 2}}", ["search.pooling: a range is for numbers; allowed: one of cls, mean"]),
        # conditions
        (
            "search: {depth: {choices: [1], when: pooling}}",
            ["search.depth.when: given 'pooling'; allowed: a mapping such"],
        ),
        (
            "search: {depth: {choices: [1], when: {polling: [cls]}}}",
            ["when.polling: unknown setting 'polling'; did you"],
        ),
        (
            "search: {depth: {choices: [1], when: {pooling: cls}}}",
            ["when.pooling: given 'cls'; allowed: a list of values"],
        ),
        ("search: {depth: {choices: [1], when: {pooling: [c]}}}", ["search.depth.when.pooling.0: unknown value 'c'"]),
        (
            "search: {depth: {choices: [1], when: {pooling: [cls]}}}",
            ["when.pooling: pooling is not in search; allowed: none"],
        ),
        (
            "search: {depth: {choices: [1], when: {heads: [3]}}, heads: {choices: [2, 4]}}",
            ["search.depth.when.heads.0: given 3; allowed: a value that heads has, one of 2, 4"],
        ),
        (
            "search:\n  depth: {choices: [1], when: {heads: [2]}}\n  heads: {choices: [2], when: {depth: [1]}}",
            [
                "x.yaml:2: search.depth.when.heads: depth depends on heads, and heads on depth; allowed: no cycle",
                "x.yaml:3: search.heads.when.depth: heads depends on depth",
            ],
        ),
        ("search: {depth: {choices: [1], when: {depth: [1]}}}", ["depth depends on depth, and depth on depth"]),
        # impossible shapes
        (
            "search: {width: {choices: [64, 100]}, heads: {choices: [4, 3]}}",
            [
                "search.heads: some combinations are impossible: width 64 is not divided by heads 3; width 100 is not "
                "divided by heads 3; allowed: combinations in which width = heads x head_size"
            ],
        ),
        (
            "search: {width: 100}",
            ["search.width: some combinations are impossible: width 100 is not divided by head_size 16"],
        ),
        ("search: {width: 64, heads: 4, head_size: 8}", ["width 64 is not heads 4 x head_size 8"]),
        ("search: {width: {low: 16, high: 64}}", ["width 17 is not divided by head_size 16", "; and more; allowed"]),
        (
            "search: {heads: 256, head_size: 1024}",
            ["width would be 262144, which is not a whole number from 4 to 16384"],
        ),
        (
            "search: {width: 64, depth: {choices: [1, 2]}, heads: {choices: [3], when: {depth: [2]}}}",
            ["search.heads: some combinations are impossible: width 64 is not divided by heads 3"],
        ),
        # the corpus' cap
        (
            "corpus: {documents: 10}\nsearch: {pretrain_size: {choices: [0, 20]}}\nreference: {pretrain_size: 10}",
            ["x.yaml:2: search.pretrain_size.choices.1: given 20; allowed: at most 10, the number of documents"],
        ),
        (
            "corpus: {documents: 10}\nsearch: {pretrain_size: {low: 0, high: 20}}",
            ["pretrain_size.high: given 20; allowed:"],
        ),
        (
            "corpus: {documents: 10}\nsearch: {pretrain_size: 20}",
            ["search.pretrain_size: given 20; allowed: at most 10"],
        ),
        (
            "corpus: {documents: 10}\nreference: {pretrain_size: 20}",
            ["reference.pretrain_size: given 20; allowed: at most"],
        ),
        (
            "search: {pooling: spans}",
            ["search.pooling: given 'spans'; allowed: spans only with task: {entities: marked}"],
        ),
        (
            "search:\n  pooling:\n    choices:\n      - mean\n      - spans",
            ["x.yaml:5: search.pooling.choices.1: given 'spans'; allowed: spans only with task: {entities: marked}"],
        ),
        (
            "search: {pooling: mean}\nreference: {pooling: spans}",
            ["x.yaml:2: reference.pooling: given 'spans'; allowed:"],
        ),
        (
            "task: {entities: marked}",
            ["x.yaml:1: task.entities: given 'marked'; allowed: prefixed, because the texts of pydocs"],
        ),
        (
            "task: {source: a.csv, entities: tagged}",
            ["task.entities: given 'tagged'; allowed: one of prefixed, marked"],
        ),
        # the reference
        ("reference: deep", ["x.yaml:1: reference: given 'deep'; allowed: a mapping from settings to values"]),
        ("reference: {dept: 6}", ["reference.dept: unknown setting 'dept'; did you mean depth?"]),
        ("reference: {depth: {choices: [6]}}", ["reference.depth: given {'choices': [6]}; allowed: a whole number"]),
        (
            "search:\n  depth: {low: 1, high: 2}\n  pooling: {choices: [cls, mean]}\nreference: {heads: 4}",
            ["x.yaml:4: reference: depth, pooling are missing; allowed: each searched setting"],
        ),
        ("reference: {width: 100}", ["reference: impossible: width 100 is not divided by head_size 16"]),
        (
            "search: {heads: 4, head_size: 16}\nreference: {width: 128}",
            ["reference: impossible: width 128 is not heads 4"],
        ),
        # objectives and constraints
        ("objectives: []", ["objectives: given []; allowed: a list of metrics: validation_accuracy"]),
        ("objectives: latency_ms", ["objectives: given 'latency_ms'; allowed: a list of metrics"]),
        ("objectives: [latency]", ["objectives.0: unknown metric 'latency'; did you mean latency_ms?"]),
        (
            "objectives: [test_accuracy]",
            ["objectives.0: given 'test_accuracy';", "test metrics are never used to choose"],
        ),
        ("objectives: [3]", ["objectives.0: given 3; allowed: a metric's name, or {metric: ..., direction: ...}"]),
        (
            "objectives: [{direction: minimize}]",
            ["objectives.0: metric is missing; allowed: one of validation_accuracy"],
        ),
        (
            "objectives:\n  - latency_ms\n  - {metric: latency_ms, dir: up, direction: up}",
            [
                "x.yaml:3: objectives.1.dir: unknown key 'dir'",
                "x.yaml:3: objectives.1.metric: given 'latency_ms' twice; allowed: each metric once",
                "x.yaml:3: objectives.1.direction: given 'up'; allowed: one of maximize, minimize",
            ],
        ),
        ("constraints: beats_reference", ["constraints: given 'beats_reference'; allowed: a list such as"]),
        (
            "constraints: [latency_ms < 5]",
            ["constraints.0: given 'latency_ms < 5'; allowed: METRIC <= NUMBER, METRIC >="],
        ),
        ("constraints: [latency_ms <= nan]", ["constraints.0: given 'latency_ms <= nan'; allowed: METRIC <= NUMBER"]),
        ("constraints: [latency_ms <= 5e999]", ["constraints.0: given 'latency_ms <= 5e999'"]),
        ("constraints: [latency <= 5]", ["constraints.0: unknown metric 'latency'; did you mean latency_ms?"]),
        ("constraints: [test_accuracy >= 0.5]", ["test metrics are never used to choose"]),
        ("constraints: [latency_ms <= 5, latency_ms<=5.0]", ["constraints.1: given 'latency_ms<=5.0' twice"]),
        (
            "constraints: [beats_reference]",
            ["constraints.0: given beats_reference without a reference; allowed: only with"],
        ),
        # samplers and pruners
        ("sampler: tpa", ["x.yaml:1: sampler: unknown sampler 'tpa'; did you mean tpe?; allowed: tpe, nsgaii"]),
        (
            "sampler: 3",
            ["sampler: given 3; allowed: one of tpe, nsgaii, nsgaiii, gp, cmaes, qmc, random, grid, or a mapping"],
        ),
        ("sampler: {name: 3}", ["sampler.name: unknown sampler 3"]),
        (
            "sampler: {name: tpe, population_size: 3}",
            ["sampler.population_size: unknown key 'population_size'; allowed: name"],
        ),
        ("sampler: {n_startup_trial: 3}", ["sampler.n_startup_trial: unknown key", "did you mean n_startup_trials?"]),
        (
            "sampler: {name: nsgaii, population_size: 1}",
            ["population_size: given 1; allowed: a whole number of at least 2"],
        ),
        (
            "sampler: {name: nsgaiii, mutation_prob: 2}",
            ["mutation_prob: given 2; allowed: a number from 0 to 1 or null"],
        ),
        ("sampler: {name: qmc, qmc_type: soboll}", ["sampler.qmc_type: given 'soboll'; allowed: one of sobol, halton"]),
        ("sampler: {name: cmaes, sigma0: 0}", ["sampler.sigma0: given 0; allowed: a number above 0 or null"]),
        (
            "sampler: cmaes\nsearch: {depth: {choices: [1, 2]}}",
            ["sampler: cmaes needs ranges; given choices for depth; allowed"],
        ),
        (
            "sampler: cmaes\nobjectives: [validation_accuracy, parameters]",
            ["sampler: cmaes needs one objective; given validation_accuracy, parameters; allowed here: tpe"],
        ),
        (
            "sampler: grid\nsearch: {finetune_dropout: {low: 0, high: 0.5}}",
            ["sampler: grid needs finite domains; allowed for finetune_dropout: choices, or a range with step"],
        ),
        (
            "sampler: grid\nsearch: {pretrain_size: {low: 0, high: 1e6}}",
            ["the grid has 1,000,001 points; allowed: at most"],
        ),
        ("pruner: medain", ["pruner: unknown pruner 'medain'; did you mean median?; allowed: none, median"]),
        (
            "pruner: {name: asha, reduction_factor: 1}",
            ["reduction_factor: given 1; allowed: a whole number of at least 2"],
        ),
        # points
        ("points: {depth: 1}", ["points: given {'depth': 1}; allowed: a list of mappings"]),
        ("points: [3]", ["points.0: given 3; allowed: a mapping from settings to values"]),
        ("points: [{dpth: 3}]", ["points.0.dpth: unknown setting 'dpth'; did you mean depth?"]),
        ("points: [{depth: 3}]", ["points.0.depth: given 3 for depth, which is not searched; allowed: nothing"]),
        (
            "search: {depth: 1, heads: {choices: [2, 4]}}\npoints:\n  - {heads: 2}\n  - {heads: 3, depth: 1}",
            [
                "x.yaml:4: points.1.heads: given 3; allowed: one of 2, 4",
                "x.yaml:4: points.1.depth: given 1 for depth, which is not searched; allowed: heads",
            ],
        ),
        (
            "search: {depth: {low: 1, high: 5, step: 2}}\npoints: [{depth: 2}]",
            ["points.0.depth: given 2; allowed: a whole number from 1 to 5 in steps of 2"],
        ),
        (
            "search: {depth: {choices: [1, 2]}, pooling: {choices: [cls, mean], when: {depth: [2]}}}\n"
            "points: [{depth: 1, pooling: cls}]",
            ["x.yaml:2: points.0.pooling: given 'cls' with depth 1; allowed: only with depth 2"],
        ),
        # the document
        ("search: {depth: !!bool maybe}", ["x.yaml:1: search.depth: given tag:yaml.org,2002:bool"]),
        ("search: {depth: !!int ''}", ["x.yaml:1: search.depth: given tag:yaml.org,2002:int"]),
        ("search: {depth: !!timestamp abc}", ["x.yaml:1: search.depth: given tag:yaml.org,2002:timestamp"]),
        (f"resources: {{gpus_per_trial: {'9' * 400}}}", ["x.yaml:1: resources.gpus_per_trial: given 999"]),
        ("seed: 1\nseed: 2", ["x.yaml:2: seed: duplicate key; line 1 has it already"]),
        ("seed: 1\n  x: 2", ["x.yaml:2: not valid YAML at column 4"]),
        ("- 1", ["x.yaml:1: given [1]; allowed: a mapping"]),
    ],
)
def test_message(refused, text, messages):
    error = refused(text)
    lines = error.message.splitlines()
    for message in messages:
        assert any(message in line for line in lines), str(error)
    assert all(line.startswith("x.yaml:") for line in lines)
    assert error.exit_code == 2


def test_all_problems_of_a_file_in_one_message_in_the_order_of_its_lines(refused):
    error = refused(
        "budget: {trials: 0}\nsearch:\n  depth: 0\n  heads: {low: 9, high: 2}\n  heads: 2\n  x: 1\n"
        "task: {labels: 1, format: no}\nsampler: {name: tpe, x: 1}\nsede: 2\n"
    )
    assert [line.split(": ")[:2] for line in error.message.splitlines()] == [
        ["x.yaml:1", "budget.trials"],
        ["x.yaml:3", "search.depth"],
        ["x.yaml:4", "search.heads.high"],
        ["x.yaml:5", "search.heads"],
        ["x.yaml:6", "search.x"],
        ["x.yaml:7", "task.format"],
        ["x.yaml:7", "task.labels"],
        ["x.yaml:8", "sampler.x"],
        ["x.yaml:9", "sede"],
    ]
    assert error.hint == "9 problems; nothing was started"
    assert (error.file, error.line, error.key) == (Path("x.yaml"), 1, "budget.trials")


def test_one_problem_has_no_hint(refused):
    assert refused("seed: -1").hint is None


def test_long_values_are_cut(refused):
    error = refused(f"trainer: {'x' * 500}")
    assert len(error.message) < 200


def test_overrides_go_before_the_file(tmp_path):
    file = tmp_path / "x.yaml"
    file.write_text("search: {depth: {choices: [1, 2]}, heads: 4}\nbudget: {trials: 3}")
    overrides = {"search.depth": "2", "budget.time": "30m", "sampler": "{name: gp}", "resources.cpus_per_trial": "2"}
    space = load_space(file, overrides=overrides)
    assert space.search == {"depth": 2, "heads": 4}
    assert (space.budget.trials, space.budget.time) == (3, "30m")
    assert space.sampler.name == "gp"
    assert space.resources.cpus_per_trial == 2


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("search.depth", "0", "--set search.depth: search.depth: given 0; allowed: a whole number from 1 to 96"),
        ("search.dept", "1", "--set search.dept: search.dept: unknown setting 'dept'; did you mean depth?"),
        ("search", "{depth: 0}", "--set search: search.depth: given 0"),
        ("search", "{depth: 1, depth: 4}", "--set search: depth: duplicate key; line 1 has it already"),
        ("search.depth", "9" * 400, "--set search.depth: search.depth: given 999"),
        ("search.depth", "[1", "--set search.depth:1: not valid YAML"),
        ("seed.x", "1", "--set seed.x: given a key below 3; allowed: keys of a mapping"),
    ],
)
def test_wrong_overrides_are_named(refused, key, value, message):
    assert message in refused("seed: 3", {key: value}).message


def test_problems_of_overrides_come_after_those_of_the_file(refused):
    error = refused("seed: -3", {"search.depth": "0"})
    assert [line.split(":")[0] for line in error.message.splitlines()] == ["x.yaml", "--set search.depth"]


def test_two_escapes_that_are_one_character_are_joined_and_half_of_them_is_refused(tmp_path, refused):
    (tmp_path / "pair.yaml").write_text(r'description: "party \ud83c\udf89"', encoding="utf-8")
    space = load_space(tmp_path / "pair.yaml", overrides={"name": r'"\ud83c\udf89"'})
    assert (space.description, space.name) == ("party \N{PARTY POPPER}", "\N{PARTY POPPER}")
    message = refused(r'description: "half \ud83c"').message
    assert message.startswith("x.yaml:1: description: given 'half ")
    assert message.endswith("allowed: text; half of a pair of escapes is no character")


def test_the_name_is_the_files_unless_given(tmp_path):
    (tmp_path / "my study.yaml").write_text("seed: 1")
    assert load_space(tmp_path / "my study.yaml").name == "my study"
    (tmp_path / "my study.yaml").write_text("name: other")
    assert load_space(tmp_path / "my study.yaml").name == "other"


@pytest.mark.parametrize("file", sorted(SPACES.rglob("*.yaml")), ids=lambda file: file.stem)
def test_every_shipped_space_is_right(file):
    assert load_space(file).searched()
