"""How work is shared among the device's cores, and among the host's threads."""

from libc.stdint cimport INT64_MAX, int64_t

from pyodl._kernels._types cimport PYODL_FLOAT32, Arguments, Reach, Team, storage_format


cdef struct Block:
    int64_t start
    int64_t stop

# Does items [start, stop) of a kernel's work.
ctypedef void (*Part)(const Arguments *args, int64_t start, int64_t stop) noexcept nogil


cdef inline Block core_block(int core, int cores, int64_t size) noexcept nogil:
    """Return the half-open block of ``size`` items that ``core`` of ``cores`` owns.

    Blocks are ``ceil(size / cores)`` long; late cores may own fewer items or none
    (docs/numerics.md, section 4).
    """
    cdef Block block
    cdef int64_t length = (size + cores - 1) // cores
    block.start = min(core * length, size)
    block.stop = min(block.start + length, size)
    return block


cdef inline int64_t share_start(int thread, int threads, int64_t size) noexcept nogil:
    """Return the first item of a thread's share.

    Shares are as equal as can be; long ones begin at whole cache lines, lest two threads write one
    and loops over registers begin in the middle of it.
    """
    cdef int64_t start = size * thread // threads
    if size >= 1024 * threads and thread < threads:
        start -= start % 32
    return start


cdef inline void share_out(
    const Arguments *args, int64_t size, Team team, Part work
) noexcept nogil:
    """Do the calling thread's share of ``size`` items of work.

    Shares are the work's owners and never its order: no bit depends on them.
    """
    cdef int64_t start = share_start(team.thread, team.threads, size)
    cdef int64_t stop = share_start(team.thread + 1, team.threads, size)
    if start < stop:
        work(args, start, stop)


# What a share reaches of an array, so that threads wait for one another no more than they have to.

cdef inline Reach reach_everything(const Arguments *args, Team team, int array) noexcept nogil:
    """All of it, or nobody knows better."""
    cdef Reach reach
    reach.start = 0
    reach.stop = INT64_MAX
    return reach


cdef inline Reach reach_items(Team team, int64_t size, int64_t bytes) noexcept nogil:
    """The share's own items, each of so many bytes."""
    cdef Reach reach
    reach.start = share_start(team.thread, team.threads, size) * bytes
    reach.stop = share_start(team.thread + 1, team.threads, size) * bytes
    return reach


cdef inline int64_t stored_size(const Arguments *args) noexcept nogil:
    """Return the bytes of a stored value."""
    return 4 if storage_format(args.arithmetic) == PYODL_FLOAT32 else 2


cdef inline Reach reach_elements(const Arguments *args, Team team, int array) noexcept nogil:
    """The share's own elements of tensors with as many as the first size says."""
    return reach_items(team, args.sizes[0], stored_size(args))
