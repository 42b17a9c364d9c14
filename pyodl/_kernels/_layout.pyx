"""Data movement: strided copies that keep bits, and those that stage operands.

im2row, im2col, padding, transposes and layout changes are one strided copy each; so is what a
contraction reads. Offsets and strides count elements and may be negative (a flip).
"""

from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint16_t, uint32_t
from libc.string cimport memcpy, memset

from pyodl._kernels._capsule cimport kernel_capsule, lone_capsule
from pyodl._kernels._team cimport (
    reach_everything, reach_items, share_out, share_start, stored_size,
)
from pyodl._kernels._tile cimport NEGATIVE_ZERO, may_reach_negative_zero, raise_flag
from pyodl._kernels._types cimport Arguments, Reach, Team, storage_format


cdef extern from "include/stage.h" nogil:
    int STAGE_HALVES
    void *staged_at(int, void *, int64_t) noexcept
    int32_t has_nonfinite(int, const void *, int64_t) noexcept
    void stage_row(int, const void *, int64_t, int64_t, void *, int64_t, int64_t) noexcept
    void stage_plane(
        int, const void *, int64_t, int64_t, void *, int64_t, int64_t, int64_t) noexcept
    void deal_plane(
        int, const void *, int64_t, int64_t, void *, void *, int64_t, int64_t, int64_t) noexcept
    void stage_transposed(
        int, const void *, int64_t, int64_t, void *, int64_t, int64_t, int64_t, int64_t, int64_t,
        int64_t) noexcept


cdef extern from "include/interleave.h" nogil:
    bint interleave_row(int, const void *, const void *, void *, int64_t) noexcept


cdef enum:
    DIMENSIONS = 5

# Where a copy goes: sizes, then source strides, then target strides, outermost first.
cdef struct Walk:
    const int64_t *size
    const int64_t *source
    const int64_t *target


cdef inline Walk walk_of(const Arguments *args) noexcept nogil:
    cdef Walk walk
    walk.size = &args.sizes[0]
    walk.source = &args.sizes[DIMENSIONS]
    walk.target = &args.sizes[2 * DIMENSIONS]
    return walk


cdef inline void copy_row(
    int element, const char *source, int64_t source_stride, char *target, int64_t target_stride,
    int64_t count
) noexcept nogil:
    cdef int64_t i
    if source_stride == 1 and target_stride == 1:
        memcpy(target, source, count * element)
    elif element == 2:
        for i in range(count):
            (<uint16_t *>target)[i * target_stride] = (<const uint16_t *>source)[i * source_stride]
    else:
        for i in range(count):
            (<uint32_t *>target)[i * target_stride] = (<const uint32_t *>source)[i * source_stride]


cdef struct Place:
    int64_t index[4]  # of the outer dimensions
    int64_t source
    int64_t target


cdef inline Place place_of(const Arguments *args, const Walk *w, int64_t row) noexcept nogil:
    """Return where a row of those that the outer four dimensions count begins."""
    cdef Place place
    cdef int64_t d
    place.source = args.sizes[15]
    place.target = args.sizes[16]
    for d in range(DIMENSIONS - 2, -1, -1):
        place.index[d] = row % w.size[d]
        row = row // w.size[d]
        place.source += place.index[d] * w.source[d]
        place.target += place.index[d] * w.target[d]
    return place


cdef inline void next_rows(Place *place, const Walk *w, int64_t count) noexcept nogil:
    """Go on by ``count`` rows that lie in one plane: dimension 3."""
    cdef int64_t d
    place.index[DIMENSIONS - 2] += count
    place.source += count * w.source[DIMENSIONS - 2]
    place.target += count * w.target[DIMENSIONS - 2]
    for d in range(DIMENSIONS - 2, 0, -1):
        if place.index[d] < w.size[d]:
            return
        place.index[d] = 0
        place.source += w.source[d - 1] - w.size[d] * w.source[d]
        place.target += w.target[d - 1] - w.size[d] * w.target[d]
        place.index[d - 1] += 1


cdef inline int staging_of(const Arguments *args) noexcept nogil:
    """Return whether stored values are widened, from which format, or kept as halves."""
    return STAGE_HALVES if args.sizes[17] == 2 else storage_format(args.arithmetic)


cdef inline void stage_part(
    const Arguments *args, const Walk *w, const Place *place, int64_t rows
) noexcept nogil:
    """Stage rows of one plane."""
    cdef int staging = staging_of(args)
    cdef void *target = staged_at(staging, args.arrays[1], place.target)
    cdef void *odd = staged_at(staging, target, args.sizes[18]) if args.sizes[18] else NULL
    cdef int64_t row
    if args.sizes[19]:
        deal_plane(staging, args.arrays[0], place.source, w.source[3], target, odd, w.target[3],
                   rows, args.sizes[19])
    elif w.source[4] == 1 and w.target[4] == 1:
        stage_plane(staging, args.arrays[0], place.source, w.source[3], target, w.target[3], rows,
                    w.size[4])
    else:
        for row in range(rows):
            stage_row(staging, args.arrays[0], place.source + row * w.source[3], w.source[4],
                      staged_at(staging, target, row * w.target[3]), w.target[4], w.size[4])


cdef inline void copy_part(
    const Arguments *args, const Walk *w, const Place *place, int64_t rows
) noexcept nogil:
    """Copy rows of one plane."""
    cdef int element = <int>args.sizes[17]
    cdef int64_t row
    for row in range(rows):
        copy_row(
            element,
            <const char *>args.arrays[0] + (place.source + row * w.source[3]) * element,
            w.source[4],
            <char *>args.arrays[1] + (place.target + row * w.target[3]) * element,
            w.target[4], w.size[4])


cdef inline void walk_rows(
    const Arguments *args, bint stages, int64_t start, int64_t stop
) noexcept nogil:
    """Do rows ``start`` to ``stop`` of those that the outer four dimensions count."""
    cdef Walk w = walk_of(args)
    cdef Place place = place_of(args, &w, start)
    cdef int64_t rows
    while start < stop:
        rows = min(stop - start, w.size[3] - place.index[3])
        if stages:
            stage_part(args, &w, &place, rows)
        else:
            copy_part(args, &w, &place, rows)
        next_rows(&place, &w, rows)
        start += rows


cdef void copy_rows(const Arguments *args, int64_t start, int64_t stop) noexcept nogil:
    walk_rows(args, False, start, stop)


cdef void stage_rows(const Arguments *args, int64_t start, int64_t stop) noexcept nogil:
    walk_rows(args, True, start, stop)


cdef void stage_run(const Arguments *args, int64_t start, int64_t stop) noexcept nogil:
    """Stage elements ``start`` to ``stop`` of the only row there is, a run of neighbours."""
    cdef Walk w = walk_of(args)
    cdef Place place = place_of(args, &w, 0)
    cdef int staging = staging_of(args)
    stage_plane(staging, args.arrays[0], place.source + start, 0,
                staged_at(staging, args.arrays[1], place.target + start), 0, 1, stop - start)


cdef void transpose_rows(const Arguments *args, int64_t start, int64_t stop) noexcept nogil:
    """Stage rows ``start`` to ``stop`` of every matrix, transposed.

    Rows are dimensions 2 and 3, one run of neighbours in the source; columns are dimension 4.
    """
    cdef Walk w = walk_of(args)
    cdef Place place
    cdef int staging = staging_of(args)
    cdef int64_t matrix, rows = w.size[2] * w.size[3]
    for matrix in range(w.size[0] * w.size[1]):
        place = place_of(args, &w, matrix * rows)
        stage_transposed(staging, args.arrays[0], place.source, w.source[4],
                         staged_at(staging, args.arrays[1], place.target), w.size[3], w.target[3],
                         w.target[2], start, stop, w.size[4])


cdef inline int64_t rows_of(const Walk *w) noexcept nogil:
    return w.size[0] * w.size[1] * w.size[2] * w.size[3]


cdef inline bint nested(const int64_t *size, const int64_t *stride) noexcept nogil:
    """Whether the rows of a view follow one another in memory."""
    cdef int64_t d, inner = 0
    for d in range(DIMENSIONS - 1, -1, -1):
        if size[d] > 1:
            if stride[d] < 0 or (d < DIMENSIONS - 1 and stride[d] < inner):
                return False
            inner += (size[d] - 1) * stride[d]
    return True


cdef inline Reach reach_rows(
    const Arguments *args, Team team, int array, int64_t element
) noexcept nogil:
    """What the source (array 0) or the target is reached of by a share of the rows."""
    cdef Walk w = walk_of(args)
    cdef const int64_t *stride = w.source if array == 0 else w.target
    cdef int64_t first = share_start(team.thread, team.threads, rows_of(&w))
    cdef int64_t last = share_start(team.thread + 1, team.threads, rows_of(&w)) - 1
    cdef Place start, stop
    cdef Reach reach
    reach.start = reach.stop = 0
    if last < first:
        return reach
    if not nested(w.size, stride):
        return reach_everything(args, team, array)
    start, stop = place_of(args, &w, first), place_of(args, &w, last)
    reach.start = element * (start.source if array == 0 else start.target)
    reach.stop = element * ((stop.source if array == 0 else stop.target) + 1
                            + (w.size[4] - 1) * stride[4])
    return reach


cdef Reach copy_reach(const Arguments *args, Team team, int array) noexcept nogil:
    return reach_rows(args, team, array, args.sizes[17])


cdef void copy(const Arguments *args, Team team) noexcept nogil:
    """Copy bits. Arrays: source, target. Sizes: 5 sizes, 5 source strides, 5 target strides,
    source offset, target offset, bytes of an element. Split over rows."""
    cdef Walk w = walk_of(args)
    share_out(args, rows_of(&w), team, copy_rows)


cdef inline bint is_transposed(const Arguments *args, const Walk *w) noexcept nogil:
    """Whether runs of neighbours become columns of neighbours."""
    cdef bint one_run = w.source[3] == 1 and (w.size[2] == 1 or w.source[2] == w.size[3])
    return one_run and w.target[4] == 1 and w.source[4] != 1 and args.sizes[19] == 0


cdef inline bint is_one_run(const Arguments *args, const Walk *w) noexcept nogil:
    """Whether neighbours stay neighbours, all of them."""
    return rows_of(w) == 1 and w.source[4] == w.target[4] == 1 and args.sizes[19] == 0


cdef void stage(const Arguments *args, Team team) noexcept nogil:
    """Copy stored values to operands: floats, or halves, by the bytes of a target's element.

    Arrays and sizes: as for `copy`; a third array is a guard: one int32, and nothing is done where
    it is zero. Two more sizes deal rows out: how far elements with odd numbers go from those with
    even ones, which the strides describe (0: nowhere), and the length of the rows (0: no dealing).
    """
    cdef Walk w = walk_of(args)
    if args.arrays[2] != NULL and (<const int32_t *>args.arrays[2])[0] == 0:
        return
    if is_transposed(args, &w):
        share_out(args, w.size[2] * w.size[3], team, transpose_rows)
    elif is_one_run(args, &w):
        share_out(args, w.size[4], team, stage_run)
    else:
        share_out(args, rows_of(&w), team, stage_rows)


cdef Reach stage_reach(const Arguments *args, Team team, int array) noexcept nogil:
    cdef Walk w = walk_of(args)
    cdef int64_t element = stored_size(args) if array == 0 else args.sizes[17]
    cdef Reach reach
    if array > 1 or is_transposed(args, &w):
        return reach_everything(args, team, array)
    if is_one_run(args, &w):
        reach = reach_items(team, w.size[4], element)
        reach.start += args.sizes[15 + array] * element
        reach.stop += args.sizes[15 + array] * element
        return reach
    reach = reach_rows(args, team, array, element)
    if args.sizes[19] == 0 or reach.stop == INT64_MAX:
        return reach
    if args.sizes[18] < 0:
        return reach_everything(args, team, array)
    # Of rows that are dealt out, elements with odd numbers are read, too, and go elsewhere.
    reach.stop += (args.sizes[19] - 2 * w.size[4] + 1 if array == 0 else args.sizes[18]) * element
    return reach


cdef inline const void *row_of(const void *phase, int64_t row, int64_t bytes) noexcept nogil:
    if phase == NULL:
        return NULL
    return <const char *>phase + row * bytes


cdef void interleave_rows(const Arguments *args, int64_t start, int64_t stop) noexcept nogil:
    cdef int format = storage_format(args.arithmetic)
    cdef int64_t element = stored_size(args)
    cdef int64_t rows = args.sizes[1], width = args.sizes[2], place = args.sizes[3]
    cdef int64_t plane = args.sizes[4], stride = args.sizes[5], row
    cdef bint negative_zero = False
    for row in range(start, stop):
        negative_zero |= interleave_row(
            format,
            row_of(args.arrays[0], row, (width + 1) // 2 * element),
            row_of(args.arrays[1], row, width // 2 * element),
            <char *>args.arrays[2] + (row // rows * plane + place + row % rows * stride) * element,
            width)
    if negative_zero and may_reach_negative_zero(<int>args.sizes[6]):
        raise_flag(<int32_t *>args.arrays[3], NEGATIVE_ZERO)


cdef void interleave(const Arguments *args, Team team) noexcept nogil:
    """Write rows whose even columns are one tensor's and whose odd columns are another's.

    Arrays: even, odd (channels, rows, columns; NULL is zeros), out, flag (int32 of `Doubt`, raised
    where a sum is -0). Sizes: channels, rows, columns of a row of ``out``; where its first row
    lies; elements of its planes, and between its rows; step.
    """
    share_out(args, args.sizes[0] * args.sizes[1], team, interleave_rows)


cdef Reach interleave_reach(const Arguments *args, Team team, int array) noexcept nogil:
    """Rows of even and odd columns; whole channels of what comes of them."""
    cdef int64_t rows = args.sizes[1], width = args.sizes[2], size = args.sizes[0] * rows
    cdef Reach reach
    if array < 2:
        return reach_items(team, size, (width + 1 - array) // 2 * stored_size(args))
    if array > 2:
        return reach_everything(args, team, array)
    reach = reach_items(team, size, 1)
    reach.start = reach.start // rows * args.sizes[4] * stored_size(args)
    reach.stop = (reach.stop + rows - 1) // rows * args.sizes[4] * stored_size(args)
    return reach


cdef void clear_bytes(const Arguments *args, int64_t start, int64_t stop) noexcept nogil:
    memset(<char *>args.arrays[0] + start, 0, stop - start)


cdef void clear(const Arguments *args, Team team) noexcept nogil:
    """Set every bit of a tensor to 0. Arrays: out. Sizes: bytes."""
    share_out(args, args.sizes[0], team, clear_bytes)


cdef void find_nonfinite(const Arguments *args, Team team) noexcept nogil:
    """Set a flag to whether a tensor has an infinity or a NaN. Arrays: x, flag. Sizes: n.

    One thread looks: the flag cannot be lowered by one and raised by others without a meeting.
    """
    (<int32_t *>args.arrays[1])[0] = has_nonfinite(
        storage_format(args.arithmetic), args.arrays[0], args.sizes[0])


KERNELS = {
    "copy": kernel_capsule(copy, copy_reach),
    "stage": kernel_capsule(stage, stage_reach),
    "interleave": kernel_capsule(interleave, interleave_reach),
    "clear": kernel_capsule(clear),
    "find_nonfinite": lone_capsule(find_nonfinite),
}
