"""What operations of a program reach in memory, and which of them must not run at once."""

from libc.stdint cimport INT64_MAX, int64_t, uintptr_t

from pyodl._kernels._types cimport Arguments, Kernel, Reach, ReachOf, Team


cdef enum:
    MOST_THREADS = 16  # that have a part in a program
    MOST_ARRAYS = 12
    LOOKED_BACK = 300  # tasks: further back, a cache has hardly kept it


# An operation as a schedule sees it.
cdef struct Call:
    Kernel kernel
    ReachOf reach  # NULL: it cannot be divided
    const Arguments *arguments
    int arrays
    int inputs
    uintptr_t stops[MOST_ARRAYS]  # of the arrays
    double time  # that it takes alone, in nanoseconds


# What a task reaches of an array.
cdef struct Span:
    uintptr_t start
    uintptr_t stop


# An operation, or a thread's part of it.
cdef struct Task:
    int call
    int thread
    int place  # in the thread's list, beginning with 1
    bint awaited  # whether another thread waits for it
    Team part
    int after[MOST_THREADS]  # by thread: the place of the last task to be done before, or 0
    double end  # when it is likely to be done
    Span spans[MOST_ARRAYS]
    Span fetched[MOST_ARRAYS]  # what of them other threads have written


cdef inline void measure(const Call *call, Task *task) noexcept nogil:
    """Set what a task reaches of its operation's arrays."""
    cdef uintptr_t base
    cdef Reach reach
    cdef int i
    for i in range(call.arrays):
        base = <uintptr_t>call.arguments.arrays[i]
        task.spans[i].start, task.spans[i].stop = base, call.stops[i]
        if call.reach != NULL and task.part.threads > 1 and base != 0:
            reach = call.reach(call.arguments, task.part, i)
            if reach.stop != INT64_MAX:
                task.spans[i].start = base + <uintptr_t>reach.start
                task.spans[i].stop = min(call.stops[i], base + <uintptr_t>reach.stop)


cdef inline int64_t size_of(Span span) noexcept nogil:
    return <int64_t>(span.stop - span.start) if span.start < span.stop else 0


cdef inline Span shared(const Span *a, const Span *b) noexcept nogil:
    """Return what two tasks both reach of an array."""
    cdef Span both
    both.start, both.stop = max(a.start, b.start), min(a.stop, b.stop)
    return both


cdef inline bint disturbs(
    const Call *earlier, const Task *before, const Call *later, const Task *after
) noexcept nogil:
    """Whether one of two tasks writes what the other one reads or writes."""
    cdef int i, j
    for i in range(earlier.arrays):
        for j in range(later.inputs if i < earlier.inputs else 0, later.arrays):
            if size_of(shared(&before.spans[i], &after.spans[j])):
                return True
    return False


cdef inline int64_t handed_on(
    const Call *earlier, const Task *before, const Call *later, const Task *after
) noexcept nogil:
    """Return how many bytes a task reads that another one has written."""
    cdef int i, j
    cdef int64_t found = 0
    for i in range(earlier.inputs, earlier.arrays):
        for j in range(later.inputs):
            found += size_of(shared(&before.spans[i], &after.spans[j]))
    return found


cdef inline bint has_reached(const Task *before, const Task *task, const Span *span) noexcept nogil:
    """Whether a task's thread has, since another task wrote it, reached a range already."""
    cdef const Task *between = max(before + 1, task - LOOKED_BACK)
    cdef int i
    while between < task:
        if between.thread == task.thread:
            for i in range(MOST_ARRAYS):
                if between.spans[i].start <= span.start and span.stop <= between.spans[i].stop:
                    return True
        between += 1
    return False


cdef inline void note_fetches(
    const Call *earlier, const Task *before, const Call *later, Task *task
) noexcept nogil:
    """Extend what a task fetches by what it reads that another thread's task wrote.

    A part fetches all that it reads: the other parts take even what its own thread wrote.
    """
    cdef int i, j
    cdef Span both
    for i in range(earlier.inputs, earlier.arrays):
        for j in range(later.inputs):
            both = shared(&before.spans[i], &task.spans[j])
            if size_of(both) == 0 or has_reached(before, task, &both):
                continue
            if task.part.threads > 1:
                task.fetched[j] = task.spans[j]
            elif size_of(task.fetched[j]) == 0:
                task.fetched[j] = both
            else:
                task.fetched[j].start = min(task.fetched[j].start, both.start)
                task.fetched[j].stop = max(task.fetched[j].stop, both.stop)
