"""Which thread of a team does which operation of a program, and where the team meets.

Two threads that divide an operation fetch half of its operands from one another's caches, which may
take as long as the arithmetic. So operations that do not depend on one another, such as a layer's
two gradients, are dealt out whole where that is quicker, and divided elsewhere.

Between two meetings there is one divided operation, or a phase: operations in groups, each of them
on one thread, none of which disturbs another. Of all ways to cut the program so, the quickest is
taken: a shortest path, by an estimate of what each operation takes. Estimates are of shapes alone,
so that a program runs alike each time; no bit depends on them.
"""

from libc.stdint cimport uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from pyodl._kernels._types cimport Arguments, Kernel


cdef enum:
    EVERYONE = -1
    WINDOW = 32  # operations of a phase, at most

    # In multiply-adds of a thread, which does about a hundred in a nanosecond:
    MEETING = 40000  # with what is waited for, since operations take longer than estimated
    FETCHED_BYTE = 8  # of a contraction that is divided
    STREAMED_BYTE = 3  # of anything else, which is read from end to end
    TEAM = 4000000  # of a program, and a fifth of it: what threads fetch that no estimate has


# An operation as the threads of a team see it.
cdef struct Call:
    Kernel kernel
    const Arguments *arguments
    double work  # in multiply-adds
    double bytes  # that are read or written
    double fetched  # what threads that divide it lose by fetching them
    bint divisible
    uint32_t disturbed  # bit d: it and the operation d before it must not run at once
    int owner  # the thread that does it, or EVERYONE
    bint meets  # whether the team meets before it


# Operations since a meeting, each in a group with those that it depends on, or they on it.
cdef struct Phase:
    int count
    int group[WINDOW]  # of each operation; named by one of them
    double work[WINDOW]  # of each group
    int owner[WINDOW]  # of each group


cdef inline void join(Phase *phase, const Call *call) noexcept nogil:
    """Add an operation, and unite the groups that it depends on."""
    cdef int i, d, other, new = phase.count
    phase.group[new] = new
    phase.work[new] = call.work
    for d in range(1, new + 1):
        other = phase.group[new - d]
        if call.disturbed >> d & 1 and other != new:
            for i in range(new):
                if phase.group[i] == other:
                    phase.group[i] = new
            phase.work[new] += phase.work[other]
            phase.work[other] = 0
    phase.count += 1


cdef inline int longest(const Phase *phase, const bint *dealt) noexcept nogil:
    """Return the longest group that has not been dealt out, or -1."""
    cdef int i, found = -1
    for i in range(phase.count):
        if not dealt[i] and (found < 0 or phase.work[i] > phase.work[found]):
            found = i
    return found


cdef inline double deal(Phase *phase, int threads) noexcept nogil:
    """Deal the groups out, the longest first, to whoever has least; return how long all take."""
    cdef double load[WINDOW]
    cdef bint dealt[WINDOW]
    cdef double time = 0
    cdef int i, thread, least = 0, group
    for thread in range(threads):
        load[thread] = 0
    for i in range(phase.count):
        dealt[i] = phase.group[i] != i
    group = longest(phase, dealt)
    while group >= 0:
        dealt[group] = True
        phase.owner[group] = least
        load[least] += phase.work[group]
        time = max(time, load[least])
        for thread in range(threads):
            if load[thread] < load[least]:
                least = thread
        group = longest(phase, dealt)
    return time


cdef inline double divided(const Call *call, int threads) noexcept nogil:
    """Return how long a team takes that divides an operation."""
    return call.work / threads + (call.fetched if threads > 1 else 0)


cdef inline void rename(Phase *phase, const Call *calls, int start, int threads) noexcept nogil:
    """Give each thread's groups to the one that already has most of what they read or write."""
    cdef double had[WINDOW][WINDOW]  # bytes by thread that deal() named, by thread that has them
    cdef int name[WINDOW]
    cdef bint taken[WINDOW]
    cdef int _, i, d, old, new, best_old, best_new
    memset(had, 0, sizeof(had))
    for old in range(threads):
        name[old] = EVERYONE
        taken[old] = False
    for i in range(start, start + phase.count):
        for d in range(i - start + 1, min(i + 1, WINDOW)):
            if calls[i].disturbed >> d & 1 and calls[i - d].owner != EVERYONE:
                had[phase.owner[phase.group[i - start]]][calls[i - d].owner] += min(
                    calls[i].bytes, calls[i - d].bytes)
    for _ in range(threads):
        best_old = best_new = EVERYONE
        for old in range(threads):
            for new in range(threads):
                if name[old] == EVERYONE and not taken[new] and (
                    best_old == EVERYONE or had[old][new] > had[best_old][best_new]
                ):
                    best_old, best_new = old, new
        name[best_old] = best_new
        taken[best_new] = True
    for i in range(phase.count):
        if phase.group[i] == i:
            phase.owner[i] = name[phase.owner[i]]


cdef inline void assign(Call *calls, int start, int stop, int threads) noexcept nogil:
    """Set who does the operations of a phase."""
    cdef Phase phase
    cdef int i
    phase.count = 0
    for i in range(start, stop):
        join(&phase, &calls[i])
    deal(&phase, threads)
    rename(&phase, calls, start, threads)
    for i in range(start, stop):
        calls[i].owner = phase.owner[phase.group[i - start]]


cdef inline void set_meetings(Call *calls, int count) noexcept nogil:
    """Have the team meet before what may disturb, or be disturbed by, another thread's work."""
    cdef int i, d, met = 0
    for i in range(count):
        calls[i].meets = i - met >= WINDOW
        for d in range(1, min(i - met + 1, WINDOW)):
            if calls[i].disturbed >> d & 1 and (
                calls[i].owner == EVERYONE or calls[i].owner != calls[i - d].owner
            ):
                calls[i].meets = True
        if calls[i].meets:
            met = i


cdef inline void leave_alone(Call *calls, int count) noexcept nogil:
    """Have the first thread do everything."""
    cdef int i
    for i in range(count):
        calls[i].owner = 0
        calls[i].meets = False


cdef inline bint schedule(Call *calls, int count, int threads) noexcept nogil:
    """Set who does what on so many threads; return whether there was memory for it."""
    cdef double *quickest = <double *>calloc(count + 1, sizeof(double))  # to before each operation
    cdef int *start = <int *>calloc(count + 1, sizeof(int))  # of the phase that ends there
    cdef int *stop = <int *>calloc(count + 1, sizeof(int))  # of the phase that starts there
    cdef int some = min(threads, WINDOW)  # of the threads, as many as have a part in a phase
    cdef bint possible = quickest != NULL and start != NULL and stop != NULL
    cdef Phase phase
    cdef double time, alone = 0
    cdef int i, j
    for i in range(count if possible else 0):
        alone += calls[i].work
        phase.count = 0
        for j in range(i, min(i + WINDOW, count)):
            join(&phase, &calls[j])
            time = quickest[i] + deal(&phase, some) + MEETING
            if quickest[j + 1] == 0 or time < quickest[j + 1]:
                quickest[j + 1] = time
                start[j + 1] = i
        time = quickest[i] + divided(&calls[i], threads) + MEETING
        if calls[i].divisible and time < quickest[i + 1]:
            quickest[i + 1] = time
            start[i + 1] = EVERYONE
    i = count if possible else 0
    if possible and alone - quickest[count] < TEAM + alone / 5:
        leave_alone(calls, count)
        i = count = 0
    while i > 0:
        j = i - 1 if start[i] == EVERYONE else start[i]
        stop[j] = EVERYONE if start[i] == EVERYONE else i
        i = j
    while possible and i < count:
        if stop[i] == EVERYONE:
            calls[i].owner = EVERYONE
            i += 1
        else:
            assign(calls, i, stop[i], some)
            i = stop[i]
    if possible:
        set_meetings(calls, count)
    free(quickest)
    free(start)
    free(stop)
    return possible
