"""Which schedule of a program is the quickest, found out by running it.

How long operations take depends on the processor and on their data, and what threads lose by
sharing caches cannot be told beforehand. So some runs are on one thread, and time the operations;
by these times they are dealt out, in many ways, each of which is run a few times.
"""

from libc.float cimport DBL_MAX
from libc.math cimport pow
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from pyodl._kernels._dependencies cimport Dependencies, find, forget
from pyodl._kernels._schedule cimport Policy, Schedule, make, release
from pyodl._kernels._spans cimport Call


cdef enum:
    LISTENED = 5  # runs on one thread, and as many at the end
    SCHEDULES = 32  # that are tried, the second half of them much like the best ones
    COMPARED = 4  # runs of each
    RIVALS_DONE = LISTENED + SCHEDULES * COMPARED
    SETTLED = RIVALS_DONE + LISTENED
    OUTDATED = SETTLED + 5000  # runs after which data, and what else the machine does, may differ

    HOPELESS = 2  # times the time on one thread
    PATIENCE = 50  # runs in a row on a team that take a quarter longer than one thread did
    NANOSECONDS = 1000000000


# A schedule, and what it was made by.
cdef struct Attempt:
    Schedule schedule
    Policy policy
    double *odds  # by operation: what its time was taken times
    double least  # nanoseconds of the quickest run
    double time  # and of the one after it: one of a few runs may be lucky


cdef struct Trial:
    Call *calls
    int count  # of calls
    Dependencies needs
    double *times  # in seconds, at which calls began, and at which the last one ended
    int threads
    int tried  # runs
    int slow  # runs in a row, by now
    double alone  # nanoseconds of the quickest run on one thread
    Attempt best
    Attempt rival
    uint64_t dice


cdef inline bint allocate(Trial *trial, int count) noexcept nogil:
    """Return whether there was memory for a trial of so many calls."""
    memset(trial, 0, sizeof(Trial))
    trial.count, trial.threads = count, 1
    trial.calls = <Call *>calloc(count + 1, sizeof(Call))
    trial.times = <double *>calloc(count + 1, sizeof(double))
    trial.best.odds = <double *>calloc(count + 1, sizeof(double))
    trial.rival.odds = <double *>calloc(count + 1, sizeof(double))
    return (trial.calls != NULL and trial.times != NULL and trial.best.odds != NULL
            and trial.rival.odds != NULL)


cdef inline void deallocate(Trial *trial) noexcept nogil:
    release(&trial.best.schedule)
    release(&trial.rival.schedule)
    forget(&trial.needs)
    free(trial.calls)
    free(trial.times)
    free(trial.best.odds)
    free(trial.rival.odds)


cdef inline Policy usual() noexcept nogil:
    cdef Policy policy
    policy.handing_on, policy.fetched_line, policy.eagerness = 600, 2, 0.5
    return policy


cdef inline bint begin(Trial *trial, int threads) noexcept nogil:
    """Forget what is known of another team; return whether there was memory for a new trial."""
    cdef int i
    if trial.needs.first_before == NULL and not find(trial.calls, trial.count, &trial.needs):
        return False
    release(&trial.best.schedule)
    trial.threads, trial.tried, trial.slow, trial.dice = threads, 0, 0, 1
    trial.alone = trial.best.time = DBL_MAX
    trial.best.policy = usual()
    for i in range(trial.count):
        trial.calls[i].time = DBL_MAX
        trial.best.odds[i] = 1
    return True


cdef inline double throw_dice(Trial *trial, double most) noexcept nogil:
    """Return a factor between 1 / ``most`` and ``most``, the same ones in every trial."""
    trial.dice = trial.dice * 6364136223846793005u + 1442695040888963407u
    return pow(most, <double>(trial.dice >> 40) / (1 << 23) - 1)


cdef inline void vary(Trial *trial) noexcept nogil:
    """Set by what the next schedule is made: at first anything, then nearly what the best was."""
    cdef Attempt *rival = &trial.rival
    cdef bint first = trial.tried < RIVALS_DONE // 2
    cdef double most = 6 if first else 1.5
    cdef int i
    if first:
        rival.policy = usual()
    else:
        rival.policy = trial.best.policy
    rival.policy.handing_on *= throw_dice(trial, most)
    rival.policy.fetched_line *= throw_dice(trial, most)
    rival.policy.eagerness *= throw_dice(trial, most * most)
    for i in range(trial.count):
        rival.odds[i] = 1 if first else trial.best.odds[i]
        if not first and throw_dice(trial, 2) > 1.6:
            rival.odds[i] *= throw_dice(trial, 2)


cdef inline bint deal_out_anew(Trial *trial) noexcept nogil:
    """Make another schedule; return whether there was memory for it."""
    cdef int i
    cdef bint possible
    cdef Attempt *rival = &trial.rival
    release(&rival.schedule)
    rival.time = rival.least = DBL_MAX
    vary(trial)
    for i in range(trial.count):
        trial.calls[i].time *= rival.odds[i]
    possible = make(trial.calls, &trial.needs, trial.threads, rival.policy, &rival.schedule)
    for i in range(trial.count):
        trial.calls[i].time /= rival.odds[i]
    return possible


cdef inline void settle_for_rival(Trial *trial) noexcept nogil:
    """Take the rival for the best one."""
    cdef Attempt before = trial.best
    trial.best, trial.rival = trial.rival, before


cdef inline bint settle_untried(Trial *trial) noexcept nogil:
    """Settle for a schedule as if operations took some time or other, and a team were quicker."""
    cdef int i
    for i in range(trial.count):
        trial.calls[i].time = 1e5 * (1 + i * 7 % 13)
    if not deal_out_anew(trial):
        return False
    settle_for_rival(trial)
    trial.tried, trial.best.time = SETTLED, 0
    return True


cdef inline bint is_settled(const Trial *trial) noexcept nogil:
    return trial.tried >= SETTLED


cdef inline bint is_outdated(const Trial *trial) noexcept nogil:
    return trial.tried >= OUTDATED


cdef inline bint team_is_quicker(const Trial *trial) noexcept nogil:
    """Whether a team saves a tenth of the time that one thread takes."""
    return is_settled(trial) and trial.best.time < 0.9 * trial.alone


cdef inline void note_settled(Trial *trial, bint together, double seconds) noexcept nogil:
    """Note a run after the trial, which begins anew where a team has become slow.

    The threads may have moved to processors that are further apart, or data take longer now.
    """
    trial.tried += 1
    if together and NANOSECONDS * seconds > 1.25 * trial.alone:
        trial.slow += 1
    else:
        trial.slow = 0
    if trial.slow == PATIENCE:
        trial.tried = OUTDATED


cdef inline bint listens(const Trial *trial) noexcept nogil:
    """Whether the next run is on one thread."""
    return trial.tried < LISTENED or trial.tried >= RIVALS_DONE


cdef inline bint wants_schedule(const Trial *trial) noexcept nogil:
    """Whether the next run is of a schedule that is yet to be made."""
    return not listens(trial) and (trial.tried - LISTENED) % COMPARED == 0


cdef inline void note_alone(Trial *trial) noexcept nogil:
    """Note the times of a run on one thread."""
    cdef int i
    trial.tried += 1
    trial.alone = min(
        trial.alone, NANOSECONDS * (trial.times[trial.count] - trial.times[0]))
    for i in range(trial.count):
        trial.calls[i].time = min(
            trial.calls[i].time, NANOSECONDS * (trial.times[i + 1] - trial.times[i]))


cdef inline void note_rival(Trial *trial, double seconds) noexcept nogil:
    """Note the time of a run of the rival."""
    trial.tried += 1
    trial.rival.time = min(trial.rival.time, max(trial.rival.least, NANOSECONDS * seconds))
    trial.rival.least = min(trial.rival.least, NANOSECONDS * seconds)
    if trial.rival.least > HOPELESS * trial.alone:  # somebody else has one of the processors
        trial.tried += (RIVALS_DONE - trial.tried) % COMPARED
    if (RIVALS_DONE - trial.tried) % COMPARED == 0 and trial.rival.time < trial.best.time:
        settle_for_rival(trial)
