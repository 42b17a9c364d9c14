"""Which tiles of a contraction a thread runs, and what they reach of its arrays.

Shares are of rows, if all of them are as long then: a thread that has made some rows of a tensor
reads the same rows of it afterwards, finds them in its cache and waits for nobody.
"""

from libc.stdint cimport INT64_MAX, int32_t, int64_t

from pyodl._kernels._strips cimport Extent, extent_of, width
from pyodl._kernels._team cimport reach_everything, share_start, stored_size
from pyodl._kernels._tile cimport (
    Register, Segment, Tile, pyodl_shapes, step_is_native, step_lists_terms,
)
from pyodl._kernels._types cimport Arguments, Reach, Team


cdef enum:
    MOST_SHARES = 64  # of the rows


cdef inline int64_t share_of_row(const Extent *whole, const Tile *tile, int shares) noexcept nogil:
    """Return which of so many shares of the rows a tile belongs to."""
    return (tile.first_row - whole.first_row) * shares // max(whole.rows, 1)


cdef inline bint divides_by_rows(const Tile *tiles, int64_t count, int shares) noexcept nogil:
    """Whether shares of rows are as much work as shares of tiles, or nearly so."""
    cdef Extent whole = extent_of(tiles, count)
    cdef int64_t work[MOST_SHARES]
    cdef int64_t t, tile, everything = 0, most = 0
    cdef int share
    if shares > MOST_SHARES:
        return False
    for share in range(shares):
        work[share] = 0
    for t in range(count):
        tile = pyodl_shapes[tiles[t].shape].rows * width(&tiles[t])
        share = <int>share_of_row(&whole, &tiles[t], shares)
        everything += tile
        work[share] += tile
        most = max(most, work[share])
    return 10 * most * shares <= 11 * everything


cdef inline int64_t next_tiles(
    const Arguments *args, Team team, bint by_rows, int64_t t, int64_t *stop
) noexcept nogil:
    """Find the next tiles of a share from ``t`` on: return the first, and set where they stop."""
    cdef const Tile *tiles = <const Tile *>args.arrays[8]
    cdef int64_t count = args.sizes[1]
    cdef Extent whole
    if not by_rows:
        stop[0] = share_start(team.thread + 1, team.threads, count)
        return max(t, share_start(team.thread, team.threads, count))
    whole = extent_of(tiles, count)
    while t < count and share_of_row(&whole, &tiles[t], team.threads) != team.thread:
        t += 1
    stop[0] = t
    while stop[0] < count and share_of_row(&whole, &tiles[stop[0]], team.threads) == team.thread:
        stop[0] += 1
    return t


cdef inline void extend(Reach *reach, int64_t start, int64_t stop) noexcept nogil:
    reach.start = min(reach.start, start)
    reach.stop = max(reach.stop, stop)


cdef inline Reach in_bytes(
    Reach elements, int64_t least, int64_t most, int64_t size
) noexcept nogil:
    """Return what is reached in bytes, if each of the elements stands for a range around it."""
    if elements.stop > elements.start:
        elements.start = (elements.start + least) * size
        elements.stop = (elements.stop + most) * size
    else:
        elements.start = elements.stop = 0
    return elements


cdef inline void extend_by_tile(
    const Arguments *args, const Tile *tile, Reach *a, Reach *out
) noexcept nogil:
    """Extend what is reached of operand a (but for the depth), and of the output, by a tile's."""
    cdef const int32_t *a_row = <const int32_t *>args.arrays[2] + tile.first_row
    cdef const int32_t *out_row = <const int32_t *>args.arrays[5] + tile.first_row
    cdef const Register *registers = <const Register *>args.arrays[6] + tile.first_register
    cdef const Segment *segments
    cdef int64_t i, j, s, first
    for i in range(tile.rows):
        extend(a, a_row[i], a_row[i] + 1)
        for j in range(width(tile)):
            segments = <const Segment *>args.arrays[7] + registers[j].first_segment
            for s in range(registers[j].segments):
                first = out_row[i] + segments[s].out
                extend(out, first, first + (segments[s].count - 1) * args.sizes[3] + 1)


cdef inline Reach contract_reach(const Arguments *args, Team team, int array) noexcept nogil:
    """The share's rows of operand a and of the output, where shares are the same whatever a is."""
    cdef const Tile *tiles = <const Tile *>args.arrays[8]
    cdef const int32_t *a_k = <const int32_t *>args.arrays[3]
    cdef bint by_rows = divides_by_rows(tiles, args.sizes[1], team.threads)
    cdef int step = <int>args.sizes[2]
    cdef Reach a, out
    cdef int64_t t = 0, stop = 0, k, least = INT64_MAX, most = 0
    if (array != 0 and array != 10) or step_lists_terms(step) or args.sizes[0] == 0:
        return reach_everything(args, team, array)
    a.start = out.start = INT64_MAX
    a.stop = out.stop = 0
    t = next_tiles(args, team, by_rows, 0, &stop)
    while t < stop:
        for k in range(t, stop):
            extend_by_tile(args, &tiles[k], &a, &out)
        t = next_tiles(args, team, by_rows, stop, &stop)
    if array == 0:
        for k in range(args.sizes[0]):
            least, most = min(least, a_k[k]), max(most, a_k[k])
        return in_bytes(a, least, most, 2 if step_is_native(step) else 4)
    return in_bytes(out, 0, 0, stored_size(args))
