"""Which operations of a program need which others, by the memory that they read and write."""

from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memset

from pyodl._kernels._spans cimport Call, Task, disturbs, measure


# Earlier operations that each one must not run at once with, one list after the other, and the same
# the other way round; and, as bits, which of all others follow it, directly or not.
cdef struct Dependencies:
    int count  # of operations
    int64_t *first_before
    int *before
    int64_t *first_after
    int *after
    uint64_t *follows
    int words  # of 64 bits for each operation


cdef inline void forget(Dependencies *found) noexcept nogil:
    free(found.first_before)
    free(found.before)
    free(found.first_after)
    free(found.after)
    free(found.follows)
    memset(found, 0, sizeof(Dependencies))


cdef inline bint must_follow(const Dependencies *found, int later, int earlier) noexcept nogil:
    """Whether an operation needs another one, directly or not."""
    return (found.follows[<int64_t>later * found.words + earlier // 64] >> (earlier % 64)) & 1


cdef inline bint list_before(
    const Call *calls, const Task *whole, int later, Dependencies *found, int64_t *room
) noexcept nogil:
    """Append the operations that one depends on, and mark all that it follows."""
    cdef int earlier, word
    cdef int64_t n = found.first_before[later]
    cdef int *more
    cdef uint64_t *own = found.follows + <int64_t>later * found.words
    cdef const uint64_t *its
    for earlier in range(later):
        if not disturbs(&calls[earlier], &whole[earlier], &calls[later], &whole[later]):
            continue
        if n == room[0]:
            more = <int *>realloc(found.before, 2 * room[0] * sizeof(int))
            if more == NULL:
                return False
            found.before, room[0] = more, 2 * room[0]
        found.before[n] = earlier
        n += 1
        own[earlier // 64] |= <uint64_t>1 << (earlier % 64)
        its = found.follows + <int64_t>earlier * found.words
        for word in range(later // 64 + 1):
            own[word] |= its[word]
    found.first_before[later + 1] = n
    return True


cdef inline bint list_after(Dependencies *found) noexcept nogil:
    """Turn the lists round."""
    cdef int64_t n
    cdef int later, earlier
    found.after = <int *>calloc(found.first_before[found.count] + 1, sizeof(int))
    if found.after == NULL:
        return False
    for n in range(found.first_before[found.count]):
        found.first_after[found.before[n] + 1] += 1
    for earlier in range(found.count):
        found.first_after[earlier + 1] += found.first_after[earlier]
    for later in range(found.count):  # the beginnings serve as places, and end up one list further
        for n in range(found.first_before[later], found.first_before[later + 1]):
            earlier = found.before[n]
            found.after[found.first_after[earlier]] = later
            found.first_after[earlier] += 1
    for earlier in range(found.count, 0, -1):
        found.first_after[earlier] = found.first_after[earlier - 1]
    found.first_after[0] = 0
    return True


cdef inline bint find(const Call *calls, int count, Dependencies *found) noexcept nogil:
    """Find all dependencies of a program; return whether there was memory for it."""
    cdef int64_t room = 1024
    cdef int i
    cdef Task *whole = <Task *>calloc(count + 1, sizeof(Task))
    cdef bint possible
    found.count, found.words = count, count // 64 + 1
    found.first_before = <int64_t *>calloc(count + 1, sizeof(int64_t))
    found.before = <int *>calloc(room, sizeof(int))
    found.first_after = <int64_t *>calloc(count + 2, sizeof(int64_t))
    found.follows = <uint64_t *>calloc(<int64_t>count * found.words + 1, sizeof(uint64_t))
    possible = (whole != NULL and found.first_before != NULL and found.before != NULL
                and found.first_after != NULL and found.follows != NULL)
    for i in range(count if possible else 0):
        whole[i].part.threads = 1
        measure(&calls[i], &whole[i])
    i = 0
    while possible and i < count:
        possible = list_before(calls, whole, i, found, &room)
        i += 1
    possible = possible and list_after(found)
    free(whole)
    if not possible:
        forget(found)
    return possible
