"""Programs on several threads: everything is done once, and nothing before what it needs."""

import threading

import numpy as np
import pytest
from networks import an_image, bits, step_of_network, uneven
from reference import ARITHMETICS

import pyodl
from pyodl._kernels import TRIAL_RUNS, Program, bind
from pyodl.arithmetic import get
from pyodl.primitives._staging import Copy, Stager


def step_program(net):
    """Return the program of a training step, with tensors as they are after one."""
    pyodl.train_step(net, an_image(net), 1, lr=0.0)
    return step_of_network(net)


def clocks_of(parts):
    """Return how far every thread has certainly come when a task begins, by (thread, place)."""
    clocks = {}
    places = [0] * len(parts)
    while any(place < len(tasks) for place, tasks in zip(places, parts, strict=True)):
        stuck = True
        for thread, tasks in enumerate(parts):
            while places[thread] < len(tasks):
                place = places[thread]
                waits = tasks[place][3]
                if any(places[other] < count for other, count in waits.items()):
                    break
                before = clocks.get((thread, place - 1), [0] * len(parts))
                seen = [clocks[other, count - 1] for other, count in waits.items()]
                clock = [max(column) for column in zip(before, *seen, strict=True)]
                for other, count in waits.items():
                    clock[other] = max(clock[other], count)
                clock[thread] = place
                clocks[thread, place] = clock
                places[thread] += 1
                stuck = False
        assert not stuck, "threads wait for one another"
    return clocks


def spans_of(operation, part, parts):
    """Return start and stop in memory of what a task reads, and of what it writes."""
    reach = operation.reach(part, parts) if parts > 1 else None
    spans = ([], [])
    for i, array in enumerate(operation.arrays):
        if array is not None:
            start, stop = (0, array.nbytes) if reach is None else reach[i]
            if start < stop:
                place = array.ctypes.data
                spans[i >= operation.inputs].append((place + start, place + stop))
    return [np.array(kind, np.int64).reshape(-1, 2) for kind in spans]


def overlap(a, b):
    return bool(((a[:, None, 0] < b[None, :, 1]) & (b[None, :, 0] < a[:, None, 1])).any())


@pytest.mark.usefixtures("threads_for_everything")
@pytest.mark.parametrize("threads", [2, 3, 7, 16])
@pytest.mark.parametrize("arithmetic", ["fp16-fp32acc", "fp16-fma"])
def test_every_operation_is_done_once_and_waits_for_what_it_needs(arithmetic, threads):
    program = step_program(uneven(arithmetic))
    parts = program.parts(threads)
    assert len(parts) == threads
    done = {}
    for tasks in parts:
        for number, part, count, _ in tasks:
            done.setdefault(number, []).append((part, count))
    assert sorted(done) == list(range(len(program)))
    for found in done.values():
        count = found[0][1]
        assert sorted(found) == [(part, count) for part in range(count)]
    assert any(len(found) == threads for found in done.values())
    assert any(len(found) == 1 for found in done.values())
    clocks = clocks_of(parts)
    tasks = [
        (number, thread, place, *spans_of(program.operations[number], part, count))
        for thread, own in enumerate(parts)
        for place, (number, part, count, _) in enumerate(own)
    ]
    for number, thread, place, reads, writes in tasks:
        for other, its_thread, its_place, its_reads, its_writes in tasks:
            if other < number and (
                overlap(writes, its_writes)
                or overlap(writes, its_reads)
                or overlap(reads, its_writes)
            ):
                if thread == its_thread:
                    assert its_place < place
                else:
                    assert clocks[thread, place][its_thread] > its_place


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_no_bit_depends_on_a_trial(arithmetic):
    """While a program tries schedules out, and afterwards."""
    alone, together = (uneven(arithmetic) for _ in range(2))
    for step in range(TRIAL_RUNS + 5):
        for net, threads in ((alone, 1), (together, 2)):
            pyodl.train_step(net, an_image(net, step % 4), step % 10, lr=0.01, num_threads=threads)
        if step % 3 == 0:
            assert bits(together.parameters()) == bits(alone.parameters()), step
    assert bits(together.parameters()) == bits(alone.parameters())


def test_a_program_settles_for_one_thread_or_for_all():
    program = step_program(pyodl.models.tiny_cnn(arithmetic="fp16-fp32acc", seed=0))
    alone = [[(number, 0, 1, {}) for number in range(len(program))]]
    assert program.parts(2) == alone
    for _ in range(TRIAL_RUNS):
        program.run(2)
    found = program.parts(2)
    assert found == alone or sorted({task[0] for own in found for task in own}) == [
        task[0] for task in alone[0]
    ]
    for threads in (1, 0, -1):  # do not make it forget
        program.run(threads)
    assert program.parts(2) == found
    assert [name for name, _ in program.timed(2)] == [o.name for o in program.operations]


def sigmoids_and_a_guarded_copy():
    """Return a program whose last operation takes longer than all others, once its flag is set."""
    code, x, y = get("fp16-fp32acc").code, np.ones((4, 1 << 14), np.float16), []
    operations = []
    for each in x:
        y.append(np.zeros_like(each))
        operations.append(bind("sigmoid_forward", [each], [y[-1]], [each.size], (), code, 1))
    source, flag = np.zeros(1 << 23, np.float16), np.zeros(1, np.int32)
    target = np.zeros(source.size, np.float32)
    _, stages = Stager(get("fp16-fp32acc"), 1).stage(
        "copy", source, target.shape, lambda view: [Copy(source, view)], flag
    )
    return Program([*operations, *stages]), flag


def test_a_team_that_has_become_slow_is_tried_again():
    for _ in range(5):  # on a busy machine, it may settle for one thread
        program, flag = sigmoids_and_a_guarded_copy()
        for _ in range(TRIAL_RUNS):
            program.run(2)
        settled = program.parts(2)
        if len(settled) == 2:
            break
    flag[0] = 1
    threads = []
    for _ in range(51):
        program.run(2)
        threads.append(len(program.parts(2)))  # 1 while it is being tried out
    assert len(settled) == 1 or 1 in threads


@pytest.mark.usefixtures("threads_for_everything")
def test_a_team_has_no_more_threads_than_a_schedule():
    alone, together = (uneven("fp16-fp32acc") for _ in range(2))
    for threads in (17, 40, 0, 2):
        for net, count in ((alone, 1), (together, threads)):
            step_program(net).run(count)
        assert bits(together.parameters()) == bits(alone.parameters()), threads
    assert len(step_program(uneven("fp16-fp32acc")).parts(40)) == 16


@pytest.mark.usefixtures("threads_for_everything")
def test_two_callers_of_one_program_do_not_hang():
    """What they compute is theirs to sort out: they share its buffers."""
    program = step_program(uneven("fp16-fp32acc"))
    callers = [
        threading.Thread(target=lambda t=t: [program.run(t) for _ in range(20)]) for t in (2, 3)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
        assert not caller.is_alive()
