"""Kernels bound to their arrays, and programs of them that run without the interpreter."""

from cpython.buffer cimport (
    Py_buffer, PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.pycapsule cimport PyCapsule_GetContext, PyCapsule_GetPointer
from cython.parallel cimport parallel
from libc.stdint cimport uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memmove, memset, strcmp

from pyodl._kernels._schedule cimport (
    EVERYONE, FETCHED_BYTE, STREAMED_BYTE, WINDOW, Call, schedule,
)
from pyodl._kernels._types cimport (
    PYODL_MAX_ARRAYS, PYODL_MAX_SCALARS, PYODL_MAX_SIZES, Arguments, Kernel, Team, load_value,
    storage_format, store_value,
)

from numpy import generic, ndarray


cdef extern from "include/host.h" nogil:
    int host_has_openmp() noexcept
    int host_processors() noexcept
    int host_x86_level() noexcept
    double host_seconds() noexcept

cdef extern from "include/team.h" nogil:
    ctypedef struct Barrier "pyodl_barrier":
        unsigned arrivals
    Team team_here() noexcept
    void team_meet(Barrier *, Team) noexcept


def has_openmp():
    """Return whether the kernels were built with OpenMP."""
    return bool(host_has_openmp())


def processors():
    """Return how many processors OpenMP sees; 1 without OpenMP."""
    return host_processors()


def x86_level():
    """Return the x86-64 level (1, 3 or 4) of the host, 5 with AVX512-FP16; 0 elsewhere."""
    return host_x86_level()


cdef double parallel_work = 1e5


def set_parallel_work(double work):
    """Set the work from which on an operation may be divided among threads; return the old value.

    Below it, what they fetch from one another costs more than they save. Programs go by what was
    set when they were made. Tests set 0: then every operation passes for a long one.
    """
    global parallel_work
    old, parallel_work = parallel_work, work
    return old


cdef inline void take_part(const Call *call, Team team) noexcept nogil:
    """Do the calling thread's part of an operation."""
    if call.owner == team.thread:
        team.thread, team.threads = 0, 1
    if call.owner == EVERYONE or team.threads == 1:
        call.kernel(call.arguments, team)


cdef void walk(
    const Call *calls, int count, Team team, Barrier *barrier, double *times
) noexcept nogil:
    """Do the calling thread's part of all operations; note when each began if ``times`` is there.

    All threads of a team come to the same meetings, since these depend on nothing but the calls.
    """
    cdef int i
    for i in range(count):
        if calls[i].meets or times != NULL:
            team_meet(barrier, team)
        if times != NULL and team.thread == 0:
            times[i] = host_seconds()
        take_part(&calls[i], team)
    if times != NULL:
        team_meet(barrier, team)
        if team.thread == 0:
            times[count] = host_seconds()


cdef void walk_together(
    const Call *calls, int count, int threads, Barrier *barrier, double *times
) noexcept nogil:
    """Walk the operations in one parallel region; alone if OpenMP gives another team."""
    cdef Team alone, team
    alone.thread, alone.threads = 0, 1
    if threads == 1:  # a region of one is a system call, and more
        walk(calls, count, alone, barrier, times)
        return
    with parallel(num_threads=threads):
        team = team_here()
        if team.threads == threads:
            walk(calls, count, team, barrier, times)
        elif team.thread == 0:
            walk(calls, count, alone, barrier, times)


cdef void run_calls(const Call *calls, int count, int threads, double *times) noexcept nogil:
    """Run operations that were scheduled for so many threads."""
    cdef Barrier barrier
    barrier.arrivals = 0
    walk_together(calls, count, threads, &barrier, times)


cdef class Operation:
    """One kernel, bound to arrays, sizes and scalars.

    Binding is for callers that have checked their arguments: it looks at contiguity and counts,
    not at meaning. The arrays are kept alive and read or written in place at every run.

    Parameters
    ----------
    name : str
        Name of the kernel; `name` and `macs` may be set afterwards, for profiles and schedules, in
        which an element counts as three multiply-accumulates. So may `effort`, the time of one of
        its own in those of a binary32 sum, and `guarded`: that the operation is hardly ever needed,
        and is then done in no time.
    kernel : capsule
        The kernel, from ``pyodl._kernels.KERNELS``.
    inputs, outputs : sequence of ndarray or None
        C-contiguous arrays, in the kernel's order; outputs are writable. None passes NULL.
    sizes : sequence of int
    scalars : sequence of float
        Rounded to the storage format by the caller.
    arithmetic, cores : int

    Raises
    ------
    ValueError
        If an array is not C-contiguous, an output is not writable, or there are too many items.
    """

    cdef Arguments arguments
    cdef Kernel kernel
    cdef bint lone
    cdef tuple arrays
    cdef int inputs
    cdef uintptr_t stops[12]
    cdef public str name
    cdef public long long macs
    cdef public double effort
    cdef public bint guarded
    cdef double elements
    cdef double bytes

    def __init__(self, str name, kernel, inputs, outputs, sizes=(), scalars=(),
                 int arithmetic=0, int cores=1):
        cdef int i
        self.name = name
        self.effort = 1
        self.kernel = <Kernel>PyCapsule_GetPointer(kernel, "pyodl_kernel")
        self.lone = PyCapsule_GetContext(kernel) != NULL
        self.arrays = (*inputs, *outputs)
        self.inputs = len(inputs)
        if (len(self.arrays) > PYODL_MAX_ARRAYS or len(sizes) > PYODL_MAX_SIZES
                or len(scalars) > PYODL_MAX_SCALARS):
            raise ValueError(f"{name}: too many arrays, sizes or scalars for one kernel")
        for i, array in enumerate(self.arrays):
            if array is None:
                self.arguments.arrays[i] = NULL
                continue
            if not array.flags.c_contiguous:
                raise ValueError(f"{name}: array {i} is not C-contiguous")
            self.elements += array.size
            self.bytes += array.nbytes
            address, read_only = array.__array_interface__["data"]
            if read_only and i >= len(inputs):
                raise ValueError(f"{name}: output array {i} is read-only")
            self.arguments.arrays[i] = <void *><uintptr_t>address
            self.stops[i] = <uintptr_t>address + <uintptr_t>array.nbytes
        for i, size in enumerate(sizes):
            self.arguments.sizes[i] = size
        for i, scalar in enumerate(scalars):
            self.arguments.scalars[i] = scalar
        self.arguments.arithmetic = arithmetic
        self.arguments.cores = cores

    def run(self, int num_threads=1):
        """Run the kernel on ``num_threads`` host threads; the GIL is released.

        A region of its own must be worth more than a part in a program's.
        """
        cdef Call call = self.call()
        cdef int threads = 1
        if call.divisible and self.work() >= 5 * parallel_work and num_threads > 1:
            threads, call.owner = num_threads, EVERYONE
        with nogil:
            run_calls(&call, 1, threads, NULL)

    cdef double work(self) noexcept:
        """Return about how long it takes, in multiply-adds that are not rounded."""
        return self.effort * self.macs + 3 * self.elements

    cdef Call call(self) noexcept:
        """Return what a schedule goes by; the first thread is the owner."""
        cdef Call call
        memset(&call, 0, sizeof(Call))
        call.kernel = self.kernel
        call.arguments = &self.arguments
        call.work = 0 if self.guarded else self.work()
        call.bytes = self.bytes
        call.fetched = (FETCHED_BYTE if self.macs else STREAMED_BYTE) * self.bytes
        if parallel_work == 0:
            call.work, call.fetched = 1e9, 0
        call.divisible = not self.lone and self.work() >= parallel_work
        return call

    cdef bint disturbs(self, Operation other) noexcept:
        """Return whether one of the two operations writes what the other one reads or writes."""
        cdef int i, j, n = len(self.arrays), m = len(other.arrays)
        for i in range(n):
            for j in range(other.inputs if i < self.inputs else 0, m):
                if (<uintptr_t>self.arguments.arrays[i] < other.stops[j]
                        and <uintptr_t>other.arguments.arrays[j] < self.stops[i]):
                    return True
        return False

    def set_scalars(self, *scalars):
        """Replace the scalars, such as a learning rate that follows a schedule."""
        cdef int i
        for i, scalar in enumerate(scalars):
            self.arguments.scalars[i] = scalar


cdef class Program:
    """A fixed sequence of operations, run by one call.

    Parameters
    ----------
    operations : iterable of Operation
    """

    cdef Call *calls
    cdef int threads  # that the calls are scheduled for
    cdef int team  # those of them that have a part
    cdef int runs  # under way
    cdef readonly tuple operations

    def __cinit__(self, operations):
        cdef int i, j
        cdef Operation operation, before
        self.operations = tuple(operations)
        self.threads = self.team = 1
        self.calls = <Call *>calloc(len(self.operations) + 1, sizeof(Call))
        if self.calls == NULL:
            raise MemoryError
        for i, item in enumerate(self.operations):
            operation = item
            self.calls[i] = operation.call()
            for j in range(max(i - WINDOW + 1, 0), i):
                before = self.operations[j]
                if operation.disturbs(before):
                    self.calls[i].disturbed |= 1u << (i - j)

    def __dealloc__(self):
        free(self.calls)

    def __len__(self):
        return len(self.operations)

    cdef int prepare(self, int num_threads) except -1:
        """Schedule the operations for so many threads; one is enough if it does everything."""
        cdef int i, count = len(self.operations)
        if num_threads != self.threads:
            if not schedule(self.calls, count, num_threads):
                raise MemoryError
            self.threads, self.team = num_threads, 1
            for i in range(count):
                if self.calls[i].owner != 0:
                    self.team = num_threads
        return 0

    def run(self, int num_threads=1):
        """Run every operation in order on ``num_threads`` host threads; the GIL is released.

        All threads walk the operations in one parallel region: each does its own and its part of
        those that are divided, and they meet where one needs what another has done.
        """
        cdef int count = len(self.operations)
        if self.runs == 0:  # a schedule that somebody walks stays as it is
            self.prepare(num_threads)
        self.runs += 1
        with nogil:
            run_calls(self.calls, count, self.team, NULL)
        self.runs -= 1

    def timed(self, int num_threads=1):
        """Run every operation and return a list of (name, seconds); threads meet before each."""
        cdef int i, count = len(self.operations)
        cdef double *times = <double *>calloc(count + 1, sizeof(double))
        if times == NULL:
            raise MemoryError
        try:
            if self.runs == 0:
                self.prepare(num_threads)
            self.runs += 1
            with nogil:
                run_calls(self.calls, count, self.team, times)
            self.runs -= 1
            return [(operation.name, times[i + 1] - times[i])
                    for i, operation in enumerate(self.operations)]
        finally:
            free(times)


cdef class Step:
    """A network's training step: what goes in, its program and the loss that comes out.

    After a step the processor's caches hold the network's tensors, and neither the interpreter's
    code nor NumPy's: a few of their calls then take as long as a small layer. A step like the one
    before is hence one call, and calls nobody else.

    Parameters
    ----------
    program : Program
    image, target, loss : ndarray
        The network's own, in the storage format.
    arithmetic : int
    """

    cdef Program program
    cdef tuple arrays
    cdef tuple settings
    cdef int threads
    cdef Py_buffer image
    cdef Py_buffer target
    cdef const void *loss
    cdef int format
    cdef bint has_views

    def __init__(self, Program program, image, target, loss, int arithmetic):
        self.program = program
        self.arrays = (image, target, loss)
        self.settings = None
        self.threads = 1
        self.format = storage_format(arithmetic)
        self.loss = <const void *><uintptr_t>loss.__array_interface__["data"][0]
        try:
            PyObject_GetBuffer(image, &self.image, PyBUF_FORMAT | PyBUF_C_CONTIGUOUS)
            PyObject_GetBuffer(target, &self.target, PyBUF_FORMAT | PyBUF_C_CONTIGUOUS)
        except (BufferError, ValueError):  # bfloat16 has no views
            PyBuffer_Release(&self.image)
            return
        self.has_views = True

    def __dealloc__(self):
        if self.has_views:
            PyBuffer_Release(&self.image)
            PyBuffer_Release(&self.target)

    def settle(self, int threads, loss, lr, weight_decay, num_threads):
        """Remember the settings that have been checked and are in effect.

        Not those that may change behind our back, such as a rate in an array without dimensions.
        """
        settings = (loss, lr, weight_decay, num_threads)
        immutable = all(isinstance(each, (str, int, float, generic, type(None)))
                        for each in settings)
        self.threads = threads
        self.settings = settings if immutable else None

    def forget(self):
        """Forget the settings, which are in effect no longer."""
        self.settings = None

    def take(self, image, target, loss, lr, weight_decay, num_threads):
        """Take the step if nothing is to be checked; return its loss as stored, or None.

        The settings must be the very objects in effect, the image an array like the network's and
        the target one of its classes. Whatever else a step takes, and what it refuses, is left to
        others; then nothing is written.
        """
        if self.settings is None or not (
                self.settings[0] is loss and self.settings[1] is lr
                and self.settings[2] is weight_decay and self.settings[3] is num_threads):
            return None
        return self.run() if self.put(image, target) else None

    def run(self):
        """Run the program on what is there; return the loss as stored."""
        self.program.run(self.threads)
        return load_value(self.format, self.loss, 0)

    cdef bint put(self, image, target) except -1:
        """Copy an image in and make the target one-hot; return whether they could be taken."""
        cdef Py_buffer given
        cdef bint fits
        cdef int i
        if not self.has_views or type(image) is not ndarray or type(target) is not int:
            return False
        if self.target.ndim != 1 or not 0 <= target < self.target.shape[0]:
            return False
        try:
            PyObject_GetBuffer(image, &given, PyBUF_FORMAT | PyBUF_C_CONTIGUOUS)
        except (BufferError, ValueError):
            return False
        fits = strcmp(given.format, self.image.format) == 0 and given.ndim == self.image.ndim
        for i in range(given.ndim if fits else 0):
            fits = fits and given.shape[i] == self.image.shape[i]
        if fits:
            memmove(self.image.buf, given.buf, self.image.len)
            memset(self.target.buf, 0, self.target.len)
            store_value(self.format, self.target.buf, target, 1.0)
        PyBuffer_Release(&given)
        return fits
