"""How tiles belong together: in strips and bands, and in the shares that threads divide.

A strip is tiles of the same columns that follow one another; a band is strips of the same rows,
side by side. Kernels that cut their own tiles cut them from these.
"""

from libc.stdint cimport int32_t, int64_t

from pyodl._kernels._tile cimport Tile, pyodl_shapes


cdef enum:
    SHARES = 64  # of the work where terms are listed, which threads divide


cdef struct Extent:
    int64_t first_row
    int64_t rows
    int64_t registers


cdef inline int64_t width(const Tile *tile) noexcept nogil:
    """Return the registers of a tile."""
    return pyodl_shapes[tile.shape].registers


cdef inline bint below(const Tile *lower, const Tile *upper) noexcept nogil:
    """Whether two tiles follow one another in the same columns."""
    return (
        lower.first_register == upper.first_register and width(lower) == width(upper)
        and lower.first_row == upper.first_row + upper.rows and lower.order == upper.order
    )


cdef inline int64_t take_strip(
    const Tile *tiles, int64_t start, int64_t stop, Tile *strip
) noexcept nogil:
    """Join the tiles from ``start`` on that follow one another; return the first one left."""
    cdef int64_t t = start + 1
    strip[0] = tiles[start]
    while t < stop and below(&tiles[t], strip):
        strip.rows += tiles[t].rows
        t += 1
    return t


cdef inline bint beside(const Tile *left, const Tile *right) noexcept nogil:
    """Whether a strip is the next of the same rows."""
    return (
        left.first_row == right.first_row and left.rows == right.rows
        and left.order == right.order
        and left.first_register + width(left) == right.first_register
    )


cdef inline Extent extent_of(const Tile *tiles, int64_t count) noexcept nogil:
    """Return what tiles cover: registers from 0 on, rows from wherever a plan was cut."""
    cdef Extent found
    cdef int64_t stop = 0, t
    found.first_row = tiles[0].first_row if count else 0
    found.registers = 0
    for t in range(count):
        found.first_row = min(found.first_row, tiles[t].first_row)
        stop = max(stop, tiles[t].first_row + tiles[t].rows)
        found.registers = max(found.registers, tiles[t].first_register + width(&tiles[t]))
    found.rows = stop - found.first_row
    return found


cdef inline int64_t owner(const Extent *whole, int64_t row, int64_t register) noexcept nogil:
    """Return which of `SHARES` a block belongs to that begins there.

    By its row, so that neighbours have one owner, lest two write the same cache lines; of a few
    rows, whose lines are long, by its register.
    """
    row -= whole.first_row
    if whole.rows >= SHARES:
        return row * SHARES // whole.rows
    return (register * whole.rows + row) * SHARES // (whole.registers * whole.rows)


cdef inline bint next_block(
    const Extent *whole, const Tile *band, int most, int64_t start, int64_t stop, Tile *block
) noexcept nogil:
    """Go on to the next rows, ``most`` at most, of a band that shares ``start`` to ``stop`` own."""
    cdef int32_t first = block.first_row + block.rows
    cdef int32_t last = band.first_row + band.rows
    while first < last:
        if start <= owner(whole, first, block.first_register) < stop:
            block.first_row = first
            block.rows = min(most, last - first)
            return True
        first += most
    return False
