"""The notice that a training has become slow."""

from hotstart.policy.training.slow_steps import WARM_UP, WINDOW, SlowSteps


def test_a_training_that_becomes_many_times_slower_says_so_once():
    steps = SlowSteps()
    quiet = [steps.note(9.0) for _ in range(WARM_UP)] + [steps.note(0.1) for _ in range(WINDOW)]
    quiet += [steps.note(0.45) for _ in range(2 * WINDOW)]  # slower, but not by much
    quiet += [steps.note(40.0), steps.note(0.1)]  # one step that waited is no slow training
    assert not any(quiet)
    said = [text for text in (steps.note(7.8) for _ in range(3 * WINDOW)) if text]
    assert len(said) == 1
    assert (
        "a step takes 7.8 s, at the start it took 0.1 s; other programs may use the CPUs (load "
        in said[0]
    )


def test_the_first_steps_of_a_run_are_not_the_measure():
    steps = SlowSteps()
    said = [steps.note(0.1) for _ in range(WARM_UP)] + [steps.note(1.0) for _ in range(4 * WINDOW)]
    assert not any(said)


def test_the_mend_names_the_spin_where_nothing_limits_it(monkeypatch):
    from hotstart.system import threads

    assert "GOMP_SPINCOUNT=1000" in threads.explain_slowness({})
    assert "GOMP_SPINCOUNT" not in threads.explain_slowness({"GOMP_SPINCOUNT": "1000"})
