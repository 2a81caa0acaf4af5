"""The plan of the benchmarks on a GPU: in order, noted when done, cut off when the time is over."""

import pytest

from benchmarks import gpu
from benchmarks.gpu import PLAN, Step, finished, work, worth_beginning


def step(name, *command, **options):
    return Step(name, command, command, 1, 1, **options)


def test_what_is_done_is_noted_and_not_run_again(tmp_path, capfd):
    plan = (step("poem", "this"), step("broken", "json.tool", "no-such-file"))
    assert work(1, False, tmp_path, plan) == ["poem"]
    assert list(finished(tmp_path, False)) == ["poem"] and not finished(tmp_path, True)
    assert work(1, False, tmp_path, plan) == []
    assert "cut off" in capfd.readouterr().out


def test_a_step_is_ended_with_the_time_and_is_not_done(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "LEAST_MINUTES", 0.01)
    plan = (step("server", "http.server", "0", "--bind", "127.0.0.1"), step("poem", "this"))
    assert work(0.03, False, tmp_path, plan) == []


def test_only_what_keeps_its_parts_is_begun_with_little_time():
    whole = step("whole", "this", resumes=False)
    assert worth_beginning(step("parts", "this"), False, 0.6)
    assert not worth_beginning(whole, False, 0.6) and worth_beginning(whole, False, 0.95)


@pytest.mark.parametrize("small", [False, True])
def test_the_plan_names_each_step_once_and_keeps_sizes_apart(small, tmp_path):
    assert len({one.name for one in PLAN}) == len(PLAN)
    folders = {}
    for one in PLAN:
        arguments = one.arguments(small, tmp_path)
        assert not any("{" in part for part in arguments)
        if "--encoders" in arguments:
            folder = arguments[arguments.index("--encoders") + 1]
            size = [part for part in arguments if part in ("--small", "--shipped")]
            assert folders.setdefault(folder, size) == size
