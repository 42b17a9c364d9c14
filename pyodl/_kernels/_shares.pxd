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
    MOST_TEAM = 64  # threads that may share rows


# Tiles that a thread runs, and those of them that were found last.
cdef struct Share:
    const Tile *tiles
    int64_t count  # of all tiles
    Extent whole
    Team team
    bint by_rows
    int64_t start
    int64_t stop


cdef inline int64_t share_of_row(const Extent *whole, const Tile *tile, int shares) noexcept nogil:
    """Return which of so many shares of the rows a tile belongs to."""
    return (tile.first_row - whole.first_row) * shares // max(whole.rows, 1)


cdef inline bint divides_by_rows(
    const Tile *tiles, int64_t count, const Extent *whole, int shares
) noexcept nogil:
    """Whether shares of rows are as much work as shares of tiles, or nearly so."""
    cdef int64_t work[MOST_TEAM]
    cdef int64_t t, tile, everything = 0, most = 0
    cdef int share
    if shares > MOST_TEAM:
        return False
    for share in range(shares):
        work[share] = 0
    for t in range(count):
        tile = pyodl_shapes[tiles[t].shape].rows * width(&tiles[t])
        share = <int>share_of_row(whole, &tiles[t], shares)
        everything += tile
        work[share] += tile
        most = max(most, work[share])
    return 10 * most * shares <= 11 * everything


cdef inline Share share_of(const Arguments *args, Team team) noexcept nogil:
    """Return which tiles a thread runs, none of them found yet."""
    cdef Share share
    share.tiles, share.count, share.team = <const Tile *>args.arrays[8], args.sizes[1], team
    share.whole = extent_of(share.tiles, share.count)
    share.by_rows = divides_by_rows(share.tiles, share.count, &share.whole, team.threads)
    share.start = share.stop = 0
    return share


cdef inline bint next_tiles(Share *share) noexcept nogil:
    """Find the next tiles that follow one another; return whether there are any."""
    cdef int64_t t = share.stop
    cdef Team team = share.team
    if not share.by_rows:
        share.start = max(t, share_start(team.thread, team.threads, share.count))
        share.stop = share_start(team.thread + 1, team.threads, share.count)
        return share.start < share.stop
    while t < share.count and (
        share_of_row(&share.whole, &share.tiles[t], team.threads) != team.thread
    ):
        t += 1
    share.start = t
    while t < share.count and (
        share_of_row(&share.whole, &share.tiles[t], team.threads) == team.thread
    ):
        t += 1
    share.stop = t
    return share.start < share.stop


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
    cdef const int32_t *a_k = <const int32_t *>args.arrays[3]
    cdef int step = <int>args.sizes[2]
    cdef Share share
    cdef Reach a, out
    cdef int64_t k, least = INT64_MAX, most = 0
    if (array != 0 and array != 10) or step_lists_terms(step) or args.sizes[0] == 0:
        return reach_everything(args, team, array)
    a.start = out.start = INT64_MAX
    a.stop = out.stop = 0
    share = share_of(args, team)
    while next_tiles(&share):
        for k in range(share.start, share.stop):
            extend_by_tile(args, &share.tiles[k], &a, &out)
    if array == 0:
        for k in range(args.sizes[0]):
            least, most = min(least, a_k[k]), max(most, a_k[k])
        return in_bytes(a, least, most, 2 if step_is_native(step) else 4)
    return in_bytes(out, 0, 0, stored_size(args))
