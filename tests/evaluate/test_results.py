"""The results file: nothing lost, nothing counted twice, and no other evaluation's numbers."""

from __future__ import annotations

import json
import os

import pytest

from loihi_mmfree.errors import UsageError
from loihi_mmfree.evaluate.evaluation import evaluate
from loihi_mmfree.evaluate.inputs import read_task_file, read_text_file
from loihi_mmfree.evaluate.results import Share
from loihi_mmfree.evaluate.texts import Windows

ALONE = Share(0, 1)
TIMES = ("seconds", "tokens_per_s")


@pytest.fixture(scope="module")
def given(both, text_file):
    """A text in windows of 16."""
    return read_text_file(text_file, Windows(16))(both)


def document(found):
    """All that was found, but for times."""
    return {key: value for key, value in found.to_dict().items() if key not in TIMES}


@pytest.fixture(scope="module")
def expected(both, given):
    """What an evaluation without interruptions finds."""
    return document(evaluate(both, given, share=ALONE))


def stopping_after(calls):
    """A progress that ends the evaluation as Ctrl-C does."""

    def progress(stage, done, total):
        if progress.calls == calls:
            raise KeyboardInterrupt
        progress.calls += 1

    progress.calls = 0
    return progress


def test_an_interrupted_evaluation_goes_on_where_it_was(both, given, expected, tmp_path):
    path = tmp_path / "results.jsonl"
    for batches in (1, 1, 1):
        with pytest.raises(KeyboardInterrupt):
            evaluate(both, given, path, batch=3, share=ALONE, progress=stopping_after(batches))
    done = sum(len(json.loads(line)["items"]) for line in path.read_text().splitlines()[1:])
    assert done == 3 * (1 + 1 + 1)
    seen = []
    found = evaluate(both, given, path, 3, ALONE, lambda stage, done, total: seen.append((done, total)))
    assert seen[0] == (done, len(given.items))
    assert document(found) == expected


def test_what_is_complete_is_read_back_and_not_computed(both, given, expected, tmp_path):
    path = tmp_path / "results.jsonl"
    evaluate(both, given, path, share=ALONE)
    content = path.read_bytes()
    again = evaluate(both, given, path, share=ALONE)
    assert (document(again), again.tokens_per_s) == (expected, None)
    assert path.read_bytes() == content


@pytest.mark.parametrize("cut", [1, 30, 200])
def test_a_line_that_was_cut_short_is_computed_again(both, given, expected, tmp_path, cut):
    path = tmp_path / "results.jsonl"
    evaluate(both, given, path, batch=4, share=ALONE)
    path.write_bytes(path.read_bytes()[:-cut])
    assert document(evaluate(both, given, path, batch=4, share=ALONE)) == expected
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_even_the_header_may_be_cut_short(both, given, expected, tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_text('{"schema_ver')
    assert document(evaluate(both, given, path, share=ALONE)) == expected


def test_a_batch_of_another_size_changes_no_number(both, given, expected, tmp_path):
    path = tmp_path / "results.jsonl"
    with pytest.raises(KeyboardInterrupt):
        evaluate(both, given, path, batch=2, share=ALONE, progress=stopping_after(2))
    assert document(evaluate(both, given, path, batch=7, share=ALONE)) == expected


def test_the_numbers_of_another_evaluation_are_refused(both, integers, given, text_file, task_file, tmp_path):
    path = tmp_path / "results.jsonl"
    evaluate(both, given, path, share=ALONE)
    content = path.read_bytes()
    others = [
        (integers, given, "reference"),
        (both, read_text_file(text_file, Windows(16, 8))(both), "stride"),
        (both, read_text_file(text_file, Windows(16, None, 2))(both), "tokens_sha256"),
        (both, read_task_file(task_file)(both), "layout"),
    ]
    for opened, other, named in others:
        with pytest.raises(UsageError, match=f"results of another evaluation: .*{named}.*name another file"):
            evaluate(opened, other, path, share=ALONE)
    assert path.read_bytes() == content


def test_the_numbers_of_another_network_are_refused(both, given, tmp_path):
    path = tmp_path / "results.jsonl"
    evaluate(both, given, path, share=ALONE)
    lines = path.read_text().splitlines(keepends=True)
    header = json.loads(lines[0])
    header["model"][1] = "0" * 64
    path.write_text(json.dumps(header) + "\n" + "".join(lines[1:]))
    with pytest.raises(UsageError, match=r"results of another evaluation: model .*000"):
        evaluate(both, given, path, share=ALONE)


def damaged(change):
    def run(lines):
        batch = json.loads(lines[1])
        change(batch)
        return [lines[0], json.dumps(batch), *lines[2:]]

    return run


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda lines: [*lines, lines[1]], "stands twice"),
        (lambda lines: lines[1:], "it has no header"),
        (lambda lines: ["some text"], "not a results file"),
        (damaged(lambda batch: batch["items"].update({"999": batch["items"]["0"]})), "item 999 is not one of"),
        (damaged(lambda batch: batch["items"]["0"][0].__setitem__(0, 3)), "item 0 is not one of these texts"),
        (damaged(lambda batch: batch["items"]["0"][0].__setitem__(1, "x")), "loss of a text is 'x'"),
        (damaged(lambda batch: batch["items"]["0"][0].pop()), "9 numbers of a text"),
        (damaged(lambda batch: batch.update(saturations=-1)), r"counted \[-1, 0\]"),
    ],
)
def test_a_damaged_file_is_refused_and_left_as_it_is(both, given, tmp_path, damage, said):
    path = tmp_path / "results.jsonl"
    evaluate(both, given, path, batch=4, share=ALONE)
    path.write_text("\n".join(damage(path.read_text().splitlines())) + "\n")
    content = path.read_bytes()
    with pytest.raises(UsageError, match=said):
        evaluate(both, given, path, share=ALONE)
    assert path.read_bytes() == content


def test_two_evaluations_do_not_write_one_file(both, given, tmp_path):
    path = tmp_path / "results.jsonl"

    def begin_another(stage, done, total):
        if done == 4:
            with pytest.raises(UsageError, match="another evaluation writes to it"):
                evaluate(both, given, path, batch=4, share=ALONE)

    evaluate(both, given, path, batch=4, share=ALONE, progress=begin_another)


@pytest.mark.parametrize("size", [2, 3])
def test_processes_share_the_work_and_the_last_joins_it(both, given, expected, tmp_path, size):
    path = tmp_path / "results.jsonl"
    found = [evaluate(both, given, path, 2, Share(rank, size)) for rank in reversed(range(size))]
    assert found[:-1] == [None] * (size - 1)
    assert document(found[-1]) == expected
    assert os.listdir(tmp_path) == ["results.jsonl"]
    assert document(evaluate(both, given, path, share=ALONE)) == expected


def test_another_number_of_processes_goes_on_with_what_there_is(both, given, expected, tmp_path):
    path = tmp_path / "results.jsonl"
    with pytest.raises(KeyboardInterrupt):
        evaluate(both, given, path, 2, Share(1, 3), stopping_after(2))
    assert evaluate(both, given, path, 2, Share(0, 2)) is None
    assert document(evaluate(both, given, path, 2, Share(1, 2))) == expected
    assert os.listdir(tmp_path) == ["results.jsonl"]


def test_a_complete_file_is_shown_by_one_of_several_processes(both, given, expected, tmp_path):
    path = tmp_path / "results.jsonl"
    evaluate(both, given, path, share=ALONE)
    found = [evaluate(both, given, path, share=Share(rank, 3)) for rank in range(3)]
    assert [each is not None for each in found] == [True, False, False]
    assert document(found[0]) == expected


def test_several_processes_need_a_file(both, given):
    with pytest.raises(UsageError, match="WORLD_SIZE is 2: name a file"):
        evaluate(both, given, share=Share(0, 2))


@pytest.mark.parametrize("environment", [{"RANK": "2", "WORLD_SIZE": "2"}, {"RANK": "x"}, {"WORLD_SIZE": "-1"}])
def test_an_environment_that_names_no_share_is_refused(environment):
    with pytest.raises(UsageError, match="expected whole numbers, 0 to WORLD_SIZE - 1"):
        Share.of_environment(environment)


def test_a_file_that_cannot_be_written_is_refused_before_the_work(both, given, tmp_path):
    with pytest.raises(UsageError, match=r"`results` .*none: no such folder"):
        evaluate(both, given, tmp_path / "none" / "results.jsonl", share=ALONE)


def test_a_batch_without_items_is_refused(both, given):
    with pytest.raises(UsageError, match="`batch=0`: at least 1 item"):
        evaluate(both, given, batch=0, share=ALONE)
