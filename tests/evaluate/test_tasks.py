"""Prompts and answers of each layout, against lm-evaluation-harness, and files that are none."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from loihi_mmfree.errors import UsageError
from loihi_mmfree.evaluate.measures import measure_task
from loihi_mmfree.evaluate.records import Sums
from loihi_mmfree.evaluate.tasks import Question, encode_pair, read_task
from loihi_mmfree.text import Tokenizer

ZEROSHOT = Path(os.environ.get("LOIHI_MMFREE_SHARED", Path(__file__).parents[3] / "shared")) / "data" / "zeroshot"


@pytest.fixture
def read(tmp_path):
    """A function from objects, or lines, to the task of a file that holds them."""

    def run(*lines, **options):
        path = tmp_path / "task.jsonl"
        path.write_text("".join(f"{each if isinstance(each, str) else json.dumps(each)}\n" for each in lines))
        return read_task(path, **options)

    return run


def test_a_question_gets_a_line_for_its_answer(read):
    """As arc_easy and piqa of lm-evaluation-harness: `Question: {{question}}\\nAnswer:` and a space."""
    for query in ("Question: Why?", "Question: Why?\n"):
        (question,) = read({"query": query, "choices": ["So.", "Because"], "gold": 1}).questions
        assert question == Question(
            (("Question: Why?\nAnswer:", " So."), ("Question: Why?\nAnswer:", " Because")), 1, (3, 7)
        )


def test_a_beginning_is_completed_as_it_is(read):
    """As openbookqa: the question's stem and a space."""
    (question,) = read({"query": "Predators eat", "choices": ["grass", "bunnies"], "gold": 1}).questions
    assert question.requests == (("Predators eat", " grass"), ("Predators eat", " bunnies"))


def test_options_in_the_context_are_scored_by_what_follows(read):
    """As winogrande: partial evaluation; there is no length to norm by."""
    (question,) = read(
        {"context_options": ["Ann met Eve; Ann", "Ann met Eve; Eve"], "continuation": "left.", "gold": 0}
    ).questions
    assert question == Question((("Ann met Eve; Ann", " left."), ("Ann met Eve; Eve", " left.")), 0)


def test_hellaswag_is_cleaned_of_brackets(read):
    """As hellaswag: `process_docs` of lm-evaluation-harness, by hand."""
    (question,) = read(
        {
            "ind": 24,
            "activity_label": "Baking",
            "ctx_a": "[header] How to bake [title] Mix it. ",
            "ctx_b": "the cook",
            "endings": ["stirs [step] fast.", "sleeps."],
            "label": "0",
        }
    ).questions
    context = "Baking: How to bake. Mix it. The cook"
    assert question == Question(((context, " stirs fast."), (context, " sleeps.")), 0, (11, 7))


def test_a_continuation_keeps_the_space_that_it_has(read):
    task = read({"context": "It was", "continuation": "late"}, {"context": "It was", "continuation": " late"})
    assert [question.requests for question in task.questions] == [(("It was", " late"),)] * 2


def test_lines_without_content_are_none_and_a_limit_takes_the_first(read):
    lines = [{"context": each, "continuation": "b"} for each in "xyz"]
    assert len(read(lines[0], "", lines[1]).questions) == 2
    assert read(*lines, limit=2).questions == read(*lines[:2]).questions


def test_a_line_separator_within_a_text_ends_no_line(read):
    assert read('{"context": "a\u2028b", "continuation": "c"}').questions[0].requests[0][0] == "a\u2028b"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ((), "holds no item"),
        (("", "  "), "holds no item"),
        (("{",), "line 1: not JSON"),
        (("[]",), "line 1: holds a list; expected a JSON object"),
        (({"question": "?"},), r"line 1: its keys are \['question'\]; expected one of: choices, gold, query"),
        (
            ({"context": "a", "continuation": "b"}, {"query": "a", "choices": ["b", "c"], "gold": 0}),
            r"line 2: its keys are .* expected those of the lines before \(cloze\)",
        ),
        (({"query": "a", "choices": ["b", "c"], "gold": 2},), "label 2, with 2 answers; it must be 0 to 1"),
        (({"query": "a", "choices": ["b", "c"], "gold": -1},), "label -1"),
        (({"query": "a", "choices": ["b", "c"], "gold": "B"},), "gold is 'B'; expected the number of an answer"),
        (({"query": "a", "choices": ["b", "c"], "gold": True},), "gold is True"),
        (({"query": "a", "choices": "bc", "gold": 0},), "choices is 'bc'; expected a list of texts"),
        (({"query": "a", "choices": ["b"], "gold": 0},), "choices has 1 texts; expected 2 to 1000"),
        (({"query": "a", "choices": ["b", ""], "gold": 0},), "an answer is empty"),
        (({"query": 5, "choices": ["b", "c"], "gold": 0},), "query is 5; expected a text"),
    ],
)
def test_what_is_no_task_is_refused_by_line(read, lines, said):
    with pytest.raises(UsageError, match=said):
        read(*lines)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"`task` .*none.jsonl: cannot be read"):
        read_task(tmp_path / "none.jsonl")


@pytest.fixture(scope="session")
def tokenizer(tiny_checkpoint):
    return Tokenizer(tiny_checkpoint / "tokenizer.json")


def test_spaces_at_the_end_of_a_context_count_to_the_continuation(tokenizer):
    assert encode_pair(tokenizer, "It was ", "late") == encode_pair(tokenizer, "It was", " late")


def test_the_tokens_of_a_pair_are_those_of_the_whole_text_without_special_ones(tokenizer):
    before, behind = encode_pair(tokenizer, "It was the best", " of times")
    assert tokenizer.decode(before + behind) == "It was the best of times"
    assert before == tokenizer.encode("It was the best", special_tokens=False)
    assert 1 in tokenizer.encode("It was")[:1]
    assert 1 not in before + behind


def test_a_context_without_tokens_is_refused(read, tokenizer):
    with pytest.raises(UsageError, match="item 0: the context has no tokens"):
        read({"context": " ", "continuation": "b"}).items(tokenizer)


def sums(*losses, tokens=2, right=0):
    return tuple(Sums(tokens, loss, right) for loss in losses)


def test_accuracy_is_by_the_sum_and_normed_by_characters():
    questions = [
        Question((("q", " a"), ("q", " bcdef")), 0, (1, 5)),
        Question((("q", " a"), ("q", " bcdef")), 1, (1, 5)),
    ]
    # -3 > -9, but -3/1 < -9/5.
    found = measure_task(questions, [sums(3.0, 9.0), sums(3.0, 9.0)])
    assert (found.accuracy, found.accuracy_norm, found.items) == (0.5, 0.5, 2)
    found = measure_task(questions[:1], [sums(3.0, 9.0)])
    assert (found.accuracy, found.accuracy_norm) == (1.0, 0.0)


def test_of_equal_answers_the_first_is_chosen():
    question = Question((("q", " a"), ("q", " b")), 1, (1, 1))
    assert measure_task([question], [sums(3.0, 3.0)]).accuracy == 0


def test_a_completion_is_right_if_every_token_is_the_likeliest():
    question = Question((("q", " a"),), 0)
    found = measure_task([question] * 2, [sums(1.0, right=2), sums(1.0, right=1)])
    assert (found.accuracy, found.accuracy_norm) == (0.5, None)


@pytest.mark.skipif(not ZEROSHOT.is_dir(), reason="zero-shot data is not here: set LOIHI_MMFREE_SHARED")
@pytest.mark.parametrize(
    ("name", "items"),
    [("arc_easy", 2376), ("arc_challenge", 1172), ("openbook_qa", 500), ("piqa", 1838), ("winogrande", 1267)],
)
def test_files_of_published_tasks_are_read_whole(name, items):
    task = read_task(ZEROSHOT / f"{name}.jsonl")
    assert len(task.questions) == items
    contexts = [context for question in task.questions for context, _ in question.requests]
    assert all(context.endswith("\nAnswer:") for context in contexts) == name.startswith(("arc", "piqa"))
    assert not any(context.endswith("\n\nAnswer:") for context in contexts)
