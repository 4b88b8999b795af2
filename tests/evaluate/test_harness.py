"""A network as a model of lm-evaluation-harness: its tasks give what our own reader of tasks gives."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed: the extra eval")

from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model

import loihi_mmfree
from loihi_mmfree.errors import UsageError
from loihi_mmfree.evaluate.harness import IntegerModel
from loihi_mmfree.model.perplexity import token_losses
from loihi_mmfree.sim.engine.specification import Engine

ARC = {
    "output_type": "multiple_choice",
    "doc_to_text": "Question: {{question}}\nAnswer:",
    "doc_to_target": "{{choices.label.index(answerKey)}}",
    "doc_to_choice": "{{choices.text}}",
}
WINOGRANDE = {
    "output_type": "multiple_choice",
    "doc_to_text": lambda doc: {"1": 0, "2": 1}[doc["answer"]],
    "doc_to_target": lambda doc: doc["sentence"][doc["sentence"].index("_") + 1 :].strip(),
    "doc_to_choice": lambda doc: [
        doc["sentence"][: doc["sentence"].index("_")] + each for each in (doc["option1"], doc["option2"])
    ],
}
"""The tasks as lm-evaluation-harness 0.4 defines them, but for the data."""


@pytest.fixture(scope="module")
def model(tiny_net):
    return IntegerModel(str(tiny_net.path), backend="engine")


def instances(kind, *arguments):
    return [Instance(kind, {}, each, number) for number, each in enumerate(arguments)]


def write(path, objects):
    path.write_text("".join(json.dumps(each) + "\n" for each in objects))
    return path


def results(model, task, data, folder, **arguments):
    """What lm-evaluation-harness finds with one of its tasks on data of ours."""
    data = write(folder / "data.jsonl", data)
    local = {
        "task": "local", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test", **task,
        "metric_list": [
            {"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("acc", "acc_norm")
        ],
    }  # fmt: skip
    return simple_evaluate(model, tasks=[local], bootstrap_iters=0, **arguments)["results"]["local"]


def test_it_is_registered_by_its_name():
    assert get_model("loihi-mmfree") is IntegerModel


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    """The same questions as the harness's data has them, and as a file of ours."""
    random = np.random.default_rng(5)
    words = ["rain", "stone", "moon", "honey", "water", "fire", "ice", "tree", "house", "sun", "night", "day"]
    drawn = [
        (f"What is {word}?", random.choice(words, 3, replace=False).tolist(), int(random.integers(3)))
        for word in words
    ]
    theirs = [
        {"question": question, "choices": {"text": choices, "label": list("ABC")}, "answerKey": "ABC"[gold]}
        for question, choices, gold in drawn
    ]
    ours = [
        {"query": f"Question: {question}", "choices": choices, "gold": gold} for question, choices, gold in drawn
    ]
    return theirs, write(tmp_path_factory.mktemp("questions") / "ours.jsonl", ours)


def test_questions_give_the_accuracy_of_our_own_reader(model, tiny_net, questions, tmp_path):
    theirs, ours = questions
    found = loihi_mmfree.evaluate(tiny_net, task=ours, backend="engine")
    expected = results(model, ARC, theirs, tmp_path)
    assert (found.measure.accuracy, found.measure.accuracy_norm) == (
        expected["acc,none"],
        expected["acc_norm,none"],
    )


def test_its_own_model_of_checkpoints_gives_the_accuracy_of_our_float_model(tiny_checkpoint, questions, tmp_path):
    theirs, ours = questions
    found = loihi_mmfree.evaluate(tiny_checkpoint, task=ours, device="cpu")
    given = {"pretrained": str(tiny_checkpoint), "dtype": "float32"}
    expected = results("hf", ARC, theirs, tmp_path, model_args=given, device="cpu")
    assert (found.measure.accuracy, found.measure.accuracy_norm) == (
        expected["acc,none"],
        expected["acc_norm,none"],
    )


def test_options_in_the_context_give_the_accuracy_of_our_own_reader(model, tiny_net, tmp_path):
    names = [("Ann", "Eve"), ("Tom", "Jim"), ("the cat", "the dog"), ("Rome", "Paris")]
    theirs = [
        {
            "sentence": f"{one} saw {other} because _ was late.",
            "option1": one,
            "option2": other,
            "answer": "12"[number % 2],
        }
        for number, (one, other) in enumerate(names)
    ]
    ours = [
        {
            "context_options": [f"{one} saw {other} because {each}" for each in (one, other)],
            "continuation": "was late.",
            "gold": number % 2,
        }
        for number, (one, other) in enumerate(names)
    ]
    found = loihi_mmfree.evaluate(tiny_net, task=write(tmp_path / "ours.jsonl", ours), backend="engine")
    assert found.measure.accuracy == results(model, WINOGRANDE, theirs, tmp_path)["acc,none"]


def test_a_continuations_likelihood_is_that_of_the_specification(model, tiny_net):
    pair = ("It was the best", " of times")
    ((likelihood, greedy),) = model.loglikelihood(instances("loglikelihood", pair))
    whole, context = model.tok_encode("".join(pair)), model.tok_encode(pair[0])
    engine = Engine(tiny_net.graph)
    logits = engine.process(np.array(whole)) * engine.logit_scale
    losses = token_losses(logits[len(context) - 1 : -1], np.array(whole[len(context) :]))
    assert likelihood == pytest.approx(-losses.sum(), rel=1e-14)
    assert greedy == (logits[len(context) - 1 : -1].argmax(-1) == whole[len(context) :]).all()


def test_a_whole_text_stands_behind_the_token_that_begins_one(model, tiny_net):
    text = "It was the best of times."
    (likelihood,) = model.loglikelihood_rolling(instances("loglikelihood_rolling", (text,)))
    ids = np.array([tiny_net.manifest["model"]["bos_token_id"], *model.tok_encode(text)])
    engine = Engine(tiny_net.graph)
    losses = token_losses(engine.process(ids)[:-1] * engine.logit_scale, ids[1:])
    assert likelihood == pytest.approx(-losses.sum(), rel=1e-14)


def test_an_empty_context_is_the_token_that_begins_a_text(model):
    ((likelihood, _),) = model.loglikelihood(instances("loglikelihood", ("", "It was")))
    (rolling,) = model.loglikelihood_rolling(instances("loglikelihood_rolling", ("It was",)))
    assert likelihood == rolling


def test_what_is_generated_is_what_run_generates_up_to_the_end(model, tiny_net):
    ids = model.tok_encode("It was the")
    text = loihi_mmfree.run(tiny_net, ids, 24, backend="engine").text
    end = text[len(text) // 2 :][:3]
    settings = {"until": [], "max_gen_toks": 24, "do_sample": False}
    found = model.generate_until(
        instances("generate_until", ("It was the", settings), ("It was the", {**settings, "until": [end]}))
    )
    assert found == [text, text[: text.index(end)]]


def test_the_batch_changes_no_number(tiny_net):
    pairs = [("It was", " the best"), ("It was the", " worst of times, it was"), ("A", " b")]
    found = [
        IntegerModel(str(tiny_net.path), backend="engine", batch_size=size).loglikelihood(
            instances("loglikelihood", *pairs)
        )
        for size in (1, "2", "auto")
    ]
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": "x"}, "batch_size=x"),
        ({"colour": "red"}, "unknown colour"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(tiny_net, arguments, said):
    with pytest.raises(UsageError, match=said):
        IntegerModel(str(tiny_net.path), backend="engine", **arguments)


def test_a_checkpoint_is_refused(tiny_checkpoint):
    with pytest.raises(UsageError, match="no compiled network"):
        IntegerModel(str(tiny_checkpoint))
