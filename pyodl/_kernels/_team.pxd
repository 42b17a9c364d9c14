"""How the cluster's team of cores shares work: the firmware's block split."""

from libc.stdint cimport int64_t


cdef struct Block:
    int64_t start
    int64_t stop


cdef inline Block core_block(int core, int cores, int64_t size) noexcept nogil:
    """Return the half-open block of ``size`` items that ``core`` of ``cores`` owns.

    Blocks are ``ceil(size / cores)`` long; late cores may own fewer items or none
    (NUMERICS.md, section 4).
    """
    cdef Block block
    cdef int64_t length = (size + cores - 1) // cores
    block.start = min(core * length, size)
    block.stop = min(block.start + length, size)
    return block
