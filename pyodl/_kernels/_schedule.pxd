"""Which thread of a team does which operations of a program, or parts of them, and when.

Threads go their own ways through a program, each through its own list of tasks, and wait for one
another only where one reads or writes what another one writes. What they fetch from one another's
caches may take as long as what they compute, so an operation is divided only where its parts have
what they read, or where the other threads would have nothing to do.

The lists are made one task at a time, as if the program ran: whatever can begin first is next, and
of several operations the one from which the longest way leads to the program's end.
"""

from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from pyodl._kernels._dependencies cimport Dependencies, must_follow
from pyodl._kernels._spans cimport (
    MOST_ARRAYS, MOST_THREADS, Call, Span, Task, disturbs, handed_on, measure, note_fetches,
    size_of,
)
from pyodl._kernels._types cimport Arguments, Kernel, Team


cdef enum:  # nanoseconds
    WAKING = 1000  # until the other threads begin
    BEGINNING = 60  # of a task


# What a schedule is made by, which depends on the processor, and on what no estimate has.
cdef struct Policy:
    double handing_on  # nanoseconds until a thread notices that another one is done
    double fetched_line  # of 64 bytes, from another processor's cache
    double eagerness  # to divide an operation though there is something else to do


# A task as its thread finds it.
cdef struct Turn:
    Kernel kernel
    const Arguments *arguments
    Team part
    int first_wait
    int waits
    int first_fetch
    int fetches
    int place  # to be made known; 0 where nobody waits for it


cdef struct Wait:
    int thread
    int place  # in its list


# Who does what, thread by thread.
cdef struct Schedule:
    int threads
    Turn *turns
    int *first  # turn of each thread, and where the last one's end
    int *turn_of  # call and thread; -1 for none
    Wait *waits
    Span *fetches


# An operation that all it needs has been dealt out for.
cdef struct Candidate:
    int call
    double ready[MOST_THREADS]  # when it may begin, by thread that does all of it
    double fetching[MOST_THREADS]  # how long that thread then fetches
    double ready_part[MOST_THREADS]  # the same of a part each
    double fetching_part[MOST_THREADS]


# All tasks in the order in which they are dealt out, and what that goes by.
cdef struct Deal:
    const Call *calls
    const Dependencies *needs
    Policy policy
    int threads
    Task *tasks
    int dealt
    int *first  # task of each call; its others follow
    int *parts  # of each call
    int *missing  # of each call: how many of those that it needs have not been dealt out
    double *way  # from each call to the end, the longest there is
    Candidate *candidates
    int waiting
    double free[MOST_THREADS]  # when each thread is
    int places[MOST_THREADS]  # in the threads' lists


cdef inline void look_ahead(
    const Deal *deal, Task *task, double *ready, double *fetching
) noexcept nogil:
    """Set when a task may begin where it is, and how long it fetches."""
    cdef const Call *call = &deal.calls[task.call]
    cdef const Task *before
    cdef int i, k
    cdef int64_t n, bytes
    measure(call, task)
    ready[0] = fetching[0] = 0
    for n in range(deal.needs.first_before[task.call], deal.needs.first_before[task.call + 1]):
        i = deal.needs.before[n]
        for k in range(deal.parts[i]):
            before = &deal.tasks[deal.first[i] + k]
            if before.thread == task.thread:
                ready[0] = max(ready[0], before.end)
            elif disturbs(&deal.calls[i], before, call, task):
                ready[0] = max(ready[0], before.end + deal.policy.handing_on)
                bytes = handed_on(&deal.calls[i], before, call, task)
                fetching[0] += <double>bytes / 64 * deal.policy.fetched_line


cdef inline void prepare(const Deal *deal, int call, Candidate *candidate) noexcept nogil:
    """Look at all ways to deal an operation out."""
    cdef Task task
    cdef int t
    candidate.call = task.call = call
    for t in range(deal.threads):
        task.thread = t
        task.part.thread, task.part.threads = 0, 1
        look_ahead(deal, &task, &candidate.ready[t], &candidate.fetching[t])
        if deal.calls[call].reach != NULL:
            task.part.thread, task.part.threads = t, deal.threads
            look_ahead(deal, &task, &candidate.ready_part[t], &candidate.fetching_part[t])


cdef inline double begin_of(const Deal *deal, const Candidate *one, int t) noexcept nogil:
    return max(deal.free[t], one.ready[t])


cdef inline double end_of(const Deal *deal, const Candidate *one, int t) noexcept nogil:
    """Return when a thread is done with all of an operation."""
    return begin_of(deal, one, t) + one.fetching[t] + BEGINNING + deal.calls[one.call].time


cdef inline double end_of_part(const Deal *deal, const Candidate *one, int t) noexcept nogil:
    return (max(deal.free[t], one.ready_part[t]) + one.fetching_part[t] + BEGINNING
            + deal.calls[one.call].time / deal.threads)


cdef inline int best_thread(const Deal *deal, const Candidate *one) noexcept nogil:
    cdef int t, best = 0
    for t in range(1, deal.threads):
        if end_of(deal, one, t) < end_of(deal, one, best):
            best = t
    return best


cdef inline double soonest(const Deal *deal, const Candidate *one) noexcept nogil:
    cdef int t
    cdef double found = begin_of(deal, one, 0)
    for t in range(1, deal.threads):
        found = min(found, begin_of(deal, one, t))
    return found


cdef inline int choose(const Deal *deal) noexcept nogil:
    """Return the candidate that is next."""
    cdef int i, best = -1
    cdef double first = soonest(deal, &deal.candidates[0])
    for i in range(1, deal.waiting):
        first = min(first, soonest(deal, &deal.candidates[i]))
    for i in range(deal.waiting):
        if soonest(deal, &deal.candidates[i]) <= first + BEGINNING and (
            best < 0
            or deal.way[deal.candidates[i].call] > deal.way[deal.candidates[best].call]
        ):
            best = i
    return best


cdef inline double time_of_others(const Deal *deal, int call) noexcept nogil:
    """Return how long everything takes that is left and needs not wait for an operation."""
    cdef double found = 0
    cdef int i
    for i in range(deal.needs.count):
        if i != call and deal.parts[i] == 0 and not must_follow(deal.needs, i, call):
            found += deal.calls[i].time
    return found


cdef inline bint to_be_divided(const Deal *deal, const Candidate *one) noexcept nogil:
    """Whether parts have what they read, or the other threads nothing else to do."""
    cdef int t, best = best_thread(deal, one)
    cdef double end = 0, fetching = 0
    if deal.calls[one.call].reach == NULL or deal.calls[one.call].time < 2 * BEGINNING:
        return False
    for t in range(deal.threads):
        end = max(end, end_of_part(deal, one, t))
        fetching = max(fetching, one.fetching_part[t])
    if end >= end_of(deal, one, best):
        return False
    return fetching < one.fetching[best] or (
        time_of_others(deal, one.call)
        < deal.policy.eagerness * (deal.threads - 1) * deal.calls[one.call].time)


cdef inline void put(Deal *deal, int call, int thread, Team part, double end) noexcept nogil:
    """Add a task to a thread's list."""
    cdef Task *task = &deal.tasks[deal.dealt]
    cdef Task *before
    cdef int i, k
    cdef int64_t n
    if deal.parts[call] == 0:
        deal.first[call] = deal.dealt
    deal.dealt += 1
    deal.parts[call] += 1
    deal.places[thread] += 1
    deal.free[thread] = end
    task.call, task.thread, task.part, task.end = call, thread, part, end
    task.place = deal.places[thread]
    measure(&deal.calls[call], task)
    for n in range(deal.needs.first_before[call], deal.needs.first_before[call + 1]):
        i = deal.needs.before[n]
        for k in range(deal.parts[i]):
            before = &deal.tasks[deal.first[i] + k]
            if before.thread == thread or not disturbs(
                &deal.calls[i], before, &deal.calls[call], task
            ):
                continue
            task.after[before.thread] = max(task.after[before.thread], before.place)
            note_fetches(&deal.calls[i], before, &deal.calls[call], task)


cdef inline void put_next(Deal *deal, int chosen) noexcept nogil:
    """Deal a candidate out, to one thread or to all."""
    cdef Candidate one = deal.candidates[chosen]
    cdef double ends[MOST_THREADS]
    cdef Team part
    cdef int t
    deal.waiting -= 1
    deal.candidates[chosen] = deal.candidates[deal.waiting]
    part.thread, part.threads = 0, 1
    if not to_be_divided(deal, &one):
        t = best_thread(deal, &one)
        put(deal, one.call, t, part, end_of(deal, &one, t))
        return
    part.threads = deal.threads
    for t in range(deal.threads):
        ends[t] = end_of_part(deal, &one, t)
    for t in range(deal.threads):
        part.thread = t
        put(deal, one.call, t, part, ends[t])


cdef inline void become_candidate(Deal *deal, int call) noexcept nogil:
    prepare(deal, call, &deal.candidates[deal.waiting])
    deal.waiting += 1


cdef inline void look_back(Deal *deal) noexcept nogil:
    """Set how much each operation needs, and how long the way from there to the end is."""
    cdef int i, count = deal.needs.count
    cdef int64_t n
    for i in range(count - 1, -1, -1):
        deal.missing[i] = <int>(deal.needs.first_before[i + 1] - deal.needs.first_before[i])
        for n in range(deal.needs.first_after[i], deal.needs.first_after[i + 1]):
            deal.way[i] = max(deal.way[i], deal.way[deal.needs.after[n]])
        deal.way[i] += deal.calls[i].time + BEGINNING


cdef inline void deal_out(Deal *deal) noexcept nogil:
    """Make the lists."""
    cdef int i, t, chosen, call
    cdef int64_t n
    for t in range(1, deal.threads):
        deal.free[t] = WAKING
    for i in range(deal.needs.count):
        if deal.missing[i] == 0:
            become_candidate(deal, i)
    while deal.waiting:
        chosen = choose(deal)
        call = deal.candidates[chosen].call
        put_next(deal, chosen)
        for n in range(deal.needs.first_after[call], deal.needs.first_after[call + 1]):
            i = deal.needs.after[n]
            deal.missing[i] -= 1
            if deal.missing[i] == 0:
                become_candidate(deal, i)


cdef inline void drop_waits(Deal *deal) noexcept nogil:
    """Drop waits that an earlier task of the same thread has had, and mark what is awaited."""
    cdef int met[MOST_THREADS][MOST_THREADS]
    cdef int i, k, t
    cdef Task *task
    memset(met, 0, sizeof(met))
    for i in range(deal.dealt):
        task = &deal.tasks[i]
        for t in range(deal.threads):
            if task.after[t] <= met[task.thread][t]:
                task.after[t] = 0
                continue
            met[task.thread][t] = task.after[t]
            for k in range(i):
                if deal.tasks[k].thread == t and deal.tasks[k].place == task.after[t]:
                    deal.tasks[k].awaited = True


cdef inline void release(Schedule *schedule) noexcept nogil:
    free(schedule.turns)
    free(schedule.first)
    free(schedule.turn_of)
    free(schedule.waits)
    free(schedule.fetches)
    memset(schedule, 0, sizeof(Schedule))


cdef inline void write_task(
    const Deal *deal, const Task *task, Schedule *schedule, int n, int *waits, int *fetches
) noexcept nogil:
    """Write a task down as a thread's turn number ``n``."""
    cdef Turn *turn = &schedule.turns[n]
    cdef int k
    turn.kernel = deal.calls[task.call].kernel
    turn.arguments = deal.calls[task.call].arguments
    turn.part = task.part
    turn.place = task.place if task.awaited else 0
    turn.first_wait, turn.first_fetch = waits[0], fetches[0]
    for k in range(deal.threads):
        if task.after[k]:
            schedule.waits[waits[0]].thread = k
            schedule.waits[waits[0]].place = task.after[k]
            waits[0] += 1
    for k in range(MOST_ARRAYS):
        if size_of(task.fetched[k]):
            schedule.fetches[fetches[0]] = task.fetched[k]
            fetches[0] += 1
    turn.waits, turn.fetches = waits[0] - turn.first_wait, fetches[0] - turn.first_fetch
    schedule.turn_of[task.call * deal.threads + task.thread] = n


cdef inline bint write_down(const Deal *deal, Schedule *schedule) noexcept nogil:
    """Sort tasks by thread; return whether there was memory for it."""
    cdef int t, i, n = 0, waits = 0, fetches = 0
    schedule.threads = deal.threads
    schedule.turns = <Turn *>calloc(deal.dealt + 1, sizeof(Turn))
    schedule.first = <int *>calloc(deal.threads + 1, sizeof(int))
    schedule.turn_of = <int *>calloc(deal.needs.count * deal.threads + 1, sizeof(int))
    schedule.waits = <Wait *>calloc(deal.dealt * deal.threads + 1, sizeof(Wait))
    schedule.fetches = <Span *>calloc(deal.dealt * MOST_ARRAYS + 1, sizeof(Span))
    if (schedule.turns == NULL or schedule.first == NULL or schedule.turn_of == NULL
            or schedule.waits == NULL or schedule.fetches == NULL):
        release(schedule)
        return False
    for i in range(deal.needs.count * deal.threads):
        schedule.turn_of[i] = -1
    for t in range(deal.threads):
        for i in range(deal.dealt):
            if deal.tasks[i].thread == t:
                write_task(deal, &deal.tasks[i], schedule, n, &waits, &fetches)
                n += 1
        schedule.first[t + 1] = n
    return True


cdef inline bint make(
    const Call *calls, const Dependencies *needs, int threads, Policy policy, Schedule *schedule
) noexcept nogil:
    """Deal a program out to so many threads, or fewer; return whether there was memory for it."""
    cdef Deal deal
    cdef bint possible
    memset(&deal, 0, sizeof(Deal))
    deal.calls, deal.needs, deal.policy = calls, needs, policy
    deal.threads = min(threads, MOST_THREADS)
    deal.tasks = <Task *>calloc(needs.count * deal.threads + 1, sizeof(Task))
    deal.first = <int *>calloc(needs.count + 1, sizeof(int))
    deal.parts = <int *>calloc(needs.count + 1, sizeof(int))
    deal.missing = <int *>calloc(needs.count + 1, sizeof(int))
    deal.way = <double *>calloc(needs.count + 1, sizeof(double))
    deal.candidates = <Candidate *>calloc(needs.count + 1, sizeof(Candidate))
    possible = (
        deal.tasks != NULL and deal.first != NULL and deal.parts != NULL
        and deal.missing != NULL and deal.way != NULL and deal.candidates != NULL)
    if possible:
        look_back(&deal)
        deal_out(&deal)
        drop_waits(&deal)
        possible = write_down(&deal, schedule)
    free(deal.tasks)
    free(deal.first)
    free(deal.parts)
    free(deal.missing)
    free(deal.way)
    free(deal.candidates)
    return possible
