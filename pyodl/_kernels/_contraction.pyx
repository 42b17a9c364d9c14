"""Contractions: every matmul, convolution and linear layer, in every reduction order.

``out[row, column] = sum over k of a[a_row[row] + a_k[k]] * b[column's offset + b_k[k]]`` over
operands as the step takes them: widened to binary32, or halves. What differs between primitives is
in the offsets alone, which Python lays out once (``pyodl.primitives._contraction``).
"""

from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.string cimport memcpy, memset

from pyodl._kernels._capsule cimport kernel_capsule
from pyodl._kernels._shares cimport Share, contract_reach, next_tiles, share_of
from pyodl._kernels._strips cimport (
    SHARES, Extent, beside, extent_of, next_block, take_strip, width,
)
from pyodl._kernels._tile cimport (
    LEFT_OUT, MAX_LANES, MAX_REGISTERS, MAX_ROWS, MULTIPLIED, NEGATIVE_ZERO, NONFINITE,
    ORDER_SEQUENTIAL, PYODL_LANES, PYODL_SHAPES, PYODL_STEPS, SKIPPED_IN_B, Contraction, Plan,
    Register, Rows, Segment, Tile, all_finite, any_negative_zero, compute_listed_tile,
    compute_tile, compute_whole_tiles, flag_at, in_doubt, listed_shape, make_canonical, many_zeros,
    may_reach_negative_zero, pyodl_shapes, raise_flag, rounding_begin, rounding_restore,
    shape_of_strip, step_cuts_strips, step_is_native, step_lanes, step_lists_terms,
    step_of_exact_products, step_pays_by_pixels, store_rows, store_straight, sum_without_padding,
    with_bounded_step,
)
from pyodl._kernels._team cimport share_out
from pyodl._kernels._types cimport (
    Arguments, Team, float_bits, is_negative_zero, load_value, storage_format,
)


cdef inline void skip_padding(
    const Contraction *c, int step, const uint8_t *real, int padded_b, bint everything,
    int64_t a_row, const Register *register, const Segment *segments, const float *starts,
    float *values
) noexcept nogil:
    """Compute again what multiplied padding may have spoilt: zeros' signs, or ``everything``.

    ``starts`` is where the sums of these lanes began; NULL is +0.
    """
    cdef int64_t s, lane
    for s in range(register.segments):
        for lane in range(segments[s].lane, segments[s].lane + segments[s].count):
            if in_doubt(values[lane], everything):
                values[lane] = sum_without_padding(
                    c, step, real, padded_b, a_row, register.b_column + lane,
                    0.0 if starts == NULL else starts[lane])


cdef inline int32_t has_negative_zero(
    const Register *register, const Segment *segments, const float *values
) noexcept nogil:
    cdef int64_t s, lane
    for s in range(register.segments):
        for lane in range(segments[s].lane, segments[s].lane + segments[s].count):
            if float_bits(values[lane]) == 0x80000000u:
                return 1
    return 0


cdef inline bint has_flag(const Arguments *args, int32_t bits) noexcept nogil:
    return args.arrays[11] != NULL and flag_at(<const int32_t *>args.arrays[11]) & bits


cdef inline bint wants_another_look(const Arguments *args) noexcept nogil:
    """Whether skipped or left out padding may change a result."""
    return args.sizes[4] != MULTIPLIED and (
        may_reach_negative_zero(<int>args.sizes[2]) or args.sizes[6] != 0
        or (args.sizes[4] != LEFT_OUT and has_flag(args, NONFINITE)))


cdef int32_t look_again(
    const Arguments *args, const Contraction *c, const Tile *tile, const int32_t *a_row,
    const float *starts, float *values
) noexcept nogil:
    """Mend what skipped padding changes in a tile; return whether a result is in doubt."""
    cdef const Register *registers = <const Register *>args.arrays[6] + tile.first_register
    cdef const Segment *segments
    cdef const uint8_t *real = <const uint8_t *>args.arrays[9]
    cdef int step = <int>args.sizes[2]
    cdef int padding = <int>args.sizes[4]
    cdef bint everything = padding != LEFT_OUT and has_flag(args, NONFINITE)  # or others raise it
    cdef int64_t i, j, at
    cdef int32_t doubt = 0
    cdef const float *start = NULL
    cdef float *result
    for i in range(tile.rows):
        for j in range(width(tile)):
            at = (i * width(tile) + j) * step_lanes(step)
            result = values + at
            segments = <const Segment *>args.arrays[7] + registers[j].first_segment
            if padding == LEFT_OUT:
                doubt |= has_negative_zero(&registers[j], segments, result)
            elif registers[j].padded:
                if starts != NULL:
                    start = starts + at
                skip_padding(c, step, real, padding == SKIPPED_IN_B, everything, a_row[i],
                             &registers[j], segments, start, result)
    return doubt


cdef void store_tile(const Arguments *args, const Tile *tile, float *values) noexcept nogil:
    """Round a tile to the storage format and store it, as a whole or register by register.

    To be stored as a whole, a register of twice as many lanes is two.
    """
    cdef const Register *registers = <const Register *>args.arrays[6] + tile.first_register
    cdef const Segment *runs
    cdef int format = storage_format(args.arithmetic)
    cdef int32_t columns[MAX_REGISTERS]
    cdef bint straight = args.sizes[3] == 1
    cdef Rows rows
    cdef int64_t j, part
    cdef int count = 0
    rows.lanes = step_lanes(<int>args.sizes[2])
    rows.row_size = width(tile) * rows.lanes
    rows.out_rows = <const int32_t *>args.arrays[5] + tile.first_row
    rows.rows = tile.rows
    make_canonical(values, pyodl_shapes[tile.shape].rows * rows.row_size)
    for j in range(width(tile)):
        runs = <const Segment *>args.arrays[7] + registers[j].first_segment
        straight = straight and registers[j].segments == 1 and runs.count == rows.lanes
        for part in range(rows.lanes // PYODL_LANES):
            columns[count] = runs.out + <int32_t>part * PYODL_LANES
            count += 1
    if straight:
        store_straight(format, args.arrays[10], values, rows.out_rows, tile.rows, columns, count)
        return
    for j in range(width(tile)):
        rows.values = values + j * rows.lanes
        rows.runs = <const Segment *>args.arrays[7] + registers[j].first_segment
        rows.run_count = registers[j].segments
        store_rows(format, args.arrays[10], args.sizes[3], &rows)


cdef void load_starts(const Arguments *args, const Tile *tile, float *starts) noexcept nogil:
    """Load what the outputs of a tile hold: the stored sums of an earlier part of K."""
    cdef const int32_t *out_rows = <const int32_t *>args.arrays[5] + tile.first_row
    cdef const Register *registers = <const Register *>args.arrays[6] + tile.first_register
    cdef const Segment *segments
    cdef int format = storage_format(args.arithmetic)
    cdef int64_t i, j, s, lane, size = step_lanes(<int>args.sizes[2])
    for i in range(tile.rows):
        for j in range(width(tile)):
            segments = <const Segment *>args.arrays[7] + registers[j].first_segment
            for s in range(registers[j].segments):
                for lane in range(segments[s].count):
                    starts[(i * width(tile) + j) * size + segments[s].lane + lane] = (
                        load_value(format, args.arrays[10],
                                   out_rows[i] + segments[s].out + lane * args.sizes[3]))


cdef bint stored_negative_zero(const Arguments *args, const Tile *tile) noexcept nogil:
    """Whether an output of a tile, already stored, is -0."""
    cdef const int32_t *out_rows = <const int32_t *>args.arrays[5] + tile.first_row
    cdef const Register *registers = <const Register *>args.arrays[6] + tile.first_register
    cdef const Segment *segments
    cdef int format = storage_format(args.arithmetic)
    cdef int64_t i, j, s, lane
    for i in range(tile.rows):
        for j in range(width(tile)):
            segments = <const Segment *>args.arrays[7] + registers[j].first_segment
            for s in range(registers[j].segments):
                for lane in range(segments[s].count):
                    if is_negative_zero(format, args.arrays[10],
                                        out_rows[i] + segments[s].out + lane * args.sizes[3]):
                        return True
    return False


cdef void place_tile(
    const Arguments *args, const Tile *tile, int32_t *a_row, int32_t *b_column
) noexcept nogil:
    """Set where a tile's rows and registers lie; rows that its shape lacks repeat the last."""
    cdef const int32_t *rows = <const int32_t *>args.arrays[2] + tile.first_row
    cdef const Register *registers = <const Register *>args.arrays[6] + tile.first_register
    cdef int64_t i
    for i in range(pyodl_shapes[tile.shape].rows):
        a_row[i] = rows[min(i, tile.rows - 1)]
    for i in range(width(tile)):
        b_column[i] = registers[i].b_column


cdef int32_t finish_tile(
    const Arguments *args, const Contraction *c, const Tile *tile, const float *starts,
    float *values
) noexcept nogil:
    """Mend and store a tile; return whether a result is in doubt (`LEFT_OUT`)."""
    cdef const int32_t *a_row = <const int32_t *>args.arrays[2] + tile.first_row
    cdef int32_t doubt = 0
    if wants_another_look(args):
        doubt = look_again(args, c, tile, a_row, starts, values)
    store_tile(args, tile, values)
    return doubt


cdef int32_t run_tile(
    const Arguments *args, const Contraction *c, const Tile *tile
) noexcept nogil:
    """Compute and store one tile; return whether a result is in doubt (`LEFT_OUT`)."""
    cdef int32_t a_row[MAX_ROWS]
    cdef int32_t b_column[MAX_REGISTERS]
    cdef float values[24 * MAX_LANES]
    cdef float starts[24 * MAX_LANES]
    cdef bint resumes = args.sizes[6] != 0
    if args.sizes[5] and not has_flag(args, NONFINITE) and not stored_negative_zero(args, tile):
        return 0
    if resumes:
        memset(starts, 0, sizeof(starts))
        load_starts(args, tile, starts)
        memcpy(values, starts, sizeof(starts))
    place_tile(args, tile, a_row, b_column)
    compute_tile(c, <int>args.sizes[2], tile.order, tile.shape, a_row, b_column, resumes, values)
    return finish_tile(args, c, tile, starts if resumes else NULL, values)


cdef int32_t run_strip(
    const Arguments *args, const Contraction *c, const Tile *strip
) noexcept nogil:
    """Cut a strip into tiles anew, and run them."""
    cdef Tile tile = strip[0]
    cdef int64_t stop = strip.first_row + strip.rows
    cdef int32_t doubt = 0
    while tile.first_row < stop:
        tile.shape = shape_of_strip(<int>width(strip), stop - tile.first_row)
        tile.rows = <int32_t>min(pyodl_shapes[tile.shape].rows, stop - tile.first_row)
        doubt |= run_tile(args, c, &tile)
        tile.first_row += tile.rows
    return doubt


cdef int32_t run_tiles(
    const Arguments *args, const Contraction *c, int64_t start, int64_t stop
) noexcept nogil:
    """Run tiles, those that may be stored at once many in a call, unless they have NaNs."""
    cdef Plan plan
    cdef int64_t t = start, done
    cdef int32_t doubt = 0
    cdef bint everything = args.sizes[5] == 0 or has_flag(args, NONFINITE)
    cdef bint at_once = everything and args.sizes[6] == 0 and not wants_another_look(args)
    plan.sum = c[0]
    plan.a_row = <const int32_t *>args.arrays[2]
    plan.out_row = <const int32_t *>args.arrays[5]
    plan.registers = <const Register *>args.arrays[6]
    plan.tiles = <const Tile *>args.arrays[8]
    plan.out = args.arrays[10]
    plan.lane_stride = args.sizes[3]
    while t < stop:
        done = t
        if at_once:
            t = compute_whole_tiles(
                &plan, <int>args.sizes[2], storage_format(args.arithmetic), t, stop)
        if t == done:
            doubt |= run_tile(args, c, &plan.tiles[t])
            t += 1
    return doubt


cdef int32_t run_strips(
    const Arguments *args, const Contraction *c, int64_t start, int64_t stop
) noexcept nogil:
    """Run tiles in strips of those that follow one another."""
    cdef const Tile *tiles = <const Tile *>args.arrays[8]
    cdef Tile strip
    cdef int64_t t = start
    cdef int32_t doubt = 0
    while t < stop:
        t = take_strip(tiles, t, stop, &strip)
        doubt |= run_strip(args, c, &strip)
    return doubt


cdef int32_t run_listed_tile(
    const Arguments *args, const Contraction *c, const Tile *tile
) noexcept nogil:
    """Compute and store one tile from the terms that count; from all of them if it has a -0."""
    cdef int32_t a_row[MAX_ROWS]
    cdef int32_t b_column[MAX_REGISTERS]
    cdef float values[24 * MAX_LANES]
    cdef int step = <int>args.sizes[2]
    place_tile(args, tile, a_row, b_column)
    compute_listed_tile(c, step, tile.shape, a_row, b_column, False, values)
    if may_reach_negative_zero(step) and any_negative_zero(
        values, tile.rows * width(tile) * step_lanes(step)
    ):
        compute_listed_tile(c, step, tile.shape, a_row, b_column, True, values)
    return finish_tile(args, c, tile, NULL, values)


cdef int32_t run_band(
    const Arguments *args, const Contraction *c, const Extent *whole, const Tile *band,
    int64_t registers, int64_t start, int64_t stop
) noexcept nogil:
    """Cut shares of so many registers into tiles of listed terms, and run them."""
    cdef Tile tile
    cdef int64_t column = 0
    cdef int32_t doubt = 0
    while column < registers:
        tile = band[0]
        tile.rows = 0
        tile.shape = listed_shape(registers - column, band.rows)
        tile.first_register += <int32_t>column
        while next_block(
            whole, band, pyodl_shapes[tile.shape].rows, start, stop, &tile
        ):
            doubt |= run_listed_tile(args, c, &tile)
        column += width(&tile)
    return doubt


cdef int32_t run_bands(
    const Arguments *args, const Contraction *c, int64_t start, int64_t stop
) noexcept nogil:
    """Run shares of all bands, strips of the same rows; by lists where their order allows it."""
    cdef const Tile *tiles = <const Tile *>args.arrays[8]
    cdef int64_t after, registers, t = 0, count = args.sizes[1]
    cdef Extent whole = extent_of(tiles, count)
    cdef Tile band, last, strip
    cdef int32_t doubt = 0
    while t < count:
        t = take_strip(tiles, t, count, &band)
        if band.order != ORDER_SEQUENTIAL:
            strip = band
            strip.rows = 0
            while next_block(&whole, &band, MAX_ROWS, start, stop, &strip):
                doubt |= run_strip(args, c, &strip)
            continue
        last = band
        registers = width(&band)
        while t < count:
            after = take_strip(tiles, t, count, &strip)
            if not beside(&last, &strip):
                break
            t, last = after, strip
            registers += width(&strip)
        doubt |= run_band(args, c, &whole, &band, registers, start, stop)
    return doubt


cdef inline Contraction contraction_of(const Arguments *args) noexcept nogil:
    cdef Contraction c
    c.a = args.arrays[0]
    c.b = args.arrays[1]
    c.a_k = <const int32_t *>args.arrays[3]
    c.b_k = <const int32_t *>args.arrays[4]
    c.depth = args.sizes[0]
    return c


cdef inline void contract_part(
    const Arguments *args, int64_t start, int64_t stop, bint by_lists
) noexcept nogil:
    cdef Contraction c = contraction_of(args)
    cdef int step = <int>args.sizes[2]
    cdef int32_t doubt
    cdef unsigned mode = rounding_begin(step)
    if by_lists:
        doubt = run_bands(args, &c, start, stop)
    elif step_cuts_strips(step):
        doubt = run_strips(args, &c, start, stop)
    else:
        doubt = run_tiles(args, &c, start, stop)
    rounding_restore(mode)
    if args.sizes[4] == LEFT_OUT and doubt:
        raise_flag(<int32_t *>args.arrays[11], NEGATIVE_ZERO)


cdef void contract_tiles(const Arguments *args, int64_t start, int64_t stop) noexcept nogil:
    contract_part(args, start, stop, False)


cdef void contract_own_tiles(const Arguments *args, Team team) noexcept nogil:
    """Run the tiles of a thread's share."""
    cdef Share share
    if team.threads == 1:
        contract_tiles(args, 0, args.sizes[1])
        return
    share = share_of(args, team)
    while next_tiles(&share):
        contract_tiles(args, share.start, share.stop)


cdef void contract_shares(const Arguments *args, int64_t start, int64_t stop) noexcept nogil:
    contract_part(args, start, stop, True)


cdef bint reads_finite(const Arguments *args) noexcept nogil:
    """Whether b is finite: all of it, or what the registers read of it where that is far less."""
    cdef const Register *registers = <const Register *>args.arrays[6]
    cdef Contraction c = contraction_of(args)
    cdef int64_t count = extent_of(<const Tile *>args.arrays[8], args.sizes[1]).registers, j, k
    if 2 * c.depth * count * PYODL_LANES >= args.sizes[8]:
        return all_finite(<const float *>c.b, args.sizes[8])
    for k in range(c.depth):
        for j in range(count):
            if not all_finite(
                <const float *>c.b + registers[j].b_column + c.b_k[k], PYODL_LANES
            ):
                return False
    return True


cdef inline bint pays_to_list(const Arguments *args, bint finite) noexcept nogil:
    """Whether to leave out terms whose operand a is zero: no NaN comes of them, and many are.

    ``finite``: b is known to be.
    """
    return (
        step_lists_terms(<int>args.sizes[2]) and args.sizes[0] > 0
        and args.sizes[5] == 0 and args.sizes[6] == 0
        and (args.sizes[4] == MULTIPLIED or args.sizes[4] == LEFT_OUT)
        and many_zeros(<const float *>args.arrays[0], args.sizes[7])
        and (finite or reads_finite(args))
    )


cdef void contract(const Arguments *args, Team team) noexcept nogil:
    """Run a contraction, tile by tile.

    Arrays: a, b (float, or halves where `OPERANDS` says so); a_row, a_k, b_k, out_row (int32);
    registers, segments, tiles (int32 records); real (uint8, of the padded operand, or NULL); out
    (storage); flag (int32 of `Doubt`: in, about the operand that meets padding; out, for
    `LEFT_OUT`, about the result; or NULL).
    Sizes: K, tiles, step, lane stride, padding, guarded (nothing runs unless the flag is set, and
    where it is set for a -0 only the tiles that hold one do), resumes (sums start from what the
    output holds), elements of a's buffer, of b's.
    """
    cdef Arguments own
    if args.sizes[5] and not has_flag(args, NONFINITE | NEGATIVE_ZERO):
        return
    own = args[0] if args.sizes[6] else with_bounded_step(args, args.sizes[7], args.sizes[8])
    if pays_to_list(&own, own.sizes[2] != args.sizes[2]):  # bounded operands are finite
        share_out(&own, SHARES, team, contract_shares)
    else:
        contract_own_tiles(&own, team)


# By step: outputs in one register, the format of operands; where zeros are left out; which one is
# the quickest where products are exact.
LANES = tuple(step_lanes(step) for step in range(PYODL_STEPS))
OPERANDS = tuple("float16" if step_is_native(step) else "float32" for step in range(PYODL_STEPS))
SHAPES = tuple(
    (pyodl_shapes[i].rows, pyodl_shapes[i].registers, pyodl_shapes[i].together)
    for i in range(PYODL_SHAPES)
)
BY_PIXELS = tuple(bool(step_pays_by_pixels(step)) for step in range(PYODL_STEPS))
OF_EXACT_PRODUCTS = tuple(step_of_exact_products(step) for step in range(PYODL_STEPS))
LISTS_TERMS = tuple(bool(step_lists_terms(step)) for step in range(PYODL_STEPS))
KERNELS = {"contract": kernel_capsule(contract, contract_reach)}
