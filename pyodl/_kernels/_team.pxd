"""How the cluster's team of cores shares work, and how the host's threads walk the cores."""

from cython.parallel cimport prange
from libc.stdint cimport int64_t

from pyodl._kernels._types cimport Arguments


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


cdef inline void do_block(
    const Arguments *args, int part, int parts, int64_t size, Part work
) noexcept nogil:
    cdef Block block = core_block(part, parts, size)
    if block.start < block.stop:
        work(args, block.start, block.stop)


cdef inline void over_parts(
    const Arguments *args, int parts, int64_t size, int num_threads, Part work
) noexcept nogil:
    """Do ``size`` items of work in blocks for ``parts``, on ``num_threads`` of the host.

    One thread enters no parallel region, since even an empty one costs it a system call, and needs
    no blocks: they are the work's owners, and never its order.
    """
    cdef int part
    if num_threads > 1:
        for part in prange(parts, num_threads=num_threads, schedule="static"):
            do_block(args, part, parts, size, work)
    elif size > 0:
        work(args, 0, size)


cdef inline void over_cores(
    const Arguments *args, int64_t size, int num_threads, Part work
) noexcept nogil:
    """Do every core's block of ``size`` items."""
    over_parts(args, args.cores, size, num_threads, work)
