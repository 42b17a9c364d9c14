"""Kernels bound to their arrays, each to be run by itself or in a program."""

from cpython.pycapsule cimport PyCapsule_GetContext, PyCapsule_GetPointer
from cython.parallel cimport parallel
from libc.stdint cimport uintptr_t
from libc.string cimport memset

from pyodl._kernels._spans cimport Call, Task, measure
from pyodl._kernels._types cimport (
    PYODL_MAX_ARRAYS, PYODL_MAX_SCALARS, PYODL_MAX_SIZES, Kernel, ReachOf, Team,
)


cdef extern from "include/host.h" nogil:
    int host_has_openmp() noexcept
    int host_processors() noexcept
    int host_x86_level() noexcept
    double host_seconds() noexcept

cdef extern from "include/team.h" nogil:
    Team team_here() noexcept


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

    Below it, what they fetch from one another costs more than it saves. Tests set 0: then every
    operation passes for a long one, and no program is tried out on one thread.
    """
    global parallel_work
    old, parallel_work = parallel_work, work
    return old


cdef bint divides_everything() noexcept:
    """Whether every operation passes for a long one."""
    return parallel_work == 0


cdef void run_alone(const Call *calls, int count, double *times) noexcept nogil:
    """Run operations in order on the calling thread; with ``times``, note when each began."""
    cdef Team alone
    cdef int i
    alone.thread, alone.threads = 0, 1
    for i in range(count):
        if times != NULL:
            times[i] = host_seconds()
        calls[i].kernel(calls[i].arguments, alone)
    if times != NULL:
        times[count] = host_seconds()


cdef void run_divided(const Call *call, int threads) noexcept nogil:
    """Run one operation on so many threads, or as many as OpenMP gives."""
    with parallel(num_threads=threads):
        call.kernel(call.arguments, team_here())


cdef class Operation:
    """One kernel, bound to arrays, sizes and scalars.

    Binding is for callers that have checked their arguments: it looks at contiguity and counts,
    not at meaning. The arrays are kept alive and read or written in place at every run.

    Parameters
    ----------
    name : str
        Name of the kernel; `name` and `macs` may be set afterwards, for profiles and rates. So may
        `effort`, the time of one of its own multiply-accumulates in those of a binary32 sum.
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

    def __init__(self, str name, kernel, inputs, outputs, sizes=(), scalars=(),
                 int arithmetic=0, int cores=1):
        cdef int i
        self.name = name
        self.effort = 1
        self.kernel = <Kernel>PyCapsule_GetPointer(kernel, "pyodl_kernel")
        self.reach_of = <ReachOf>PyCapsule_GetContext(kernel)
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
        cdef double work = self.effort * self.macs + 3 * self.elements
        cdef bint divided = call.reach != NULL and work >= 5 * parallel_work and num_threads > 1
        with nogil:
            if divided:
                run_divided(&call, num_threads)
            else:
                run_alone(&call, 1, NULL)

    def run_part(self, int thread, int threads):
        """Run the part of one of so many threads."""
        cdef Team team
        team.thread, team.threads = thread, threads
        with nogil:
            self.kernel(&self.arguments, team)

    def reach(self, int thread, int threads):
        """Return the bytes [start, stop) of each array that a thread's part reads or writes.

        An operation that cannot be divided has no parts; None stands for them.
        """
        cdef Call call = self.call()
        cdef Task task
        cdef int i
        cdef uintptr_t base
        if self.reach_of == NULL:
            return None
        task.part.thread, task.part.threads = thread, threads
        measure(&call, &task)
        spans = []
        for i in range(call.arrays):
            base = <uintptr_t>self.arguments.arrays[i]
            spans.append((task.spans[i].start - base, task.spans[i].stop - base))
        return spans

    cdef Call call(self) noexcept:
        """Return what a schedule goes by."""
        cdef Call call
        cdef int i
        memset(&call, 0, sizeof(Call))
        call.kernel, call.reach, call.arguments = self.kernel, self.reach_of, &self.arguments
        call.arrays, call.inputs = <int>len(self.arrays), self.inputs
        for i in range(call.arrays):
            call.stops[i] = self.stops[i]
        return call

    def set_scalars(self, *scalars):
        """Replace the scalars, such as a learning rate that follows a schedule."""
        cdef int i
        for i, scalar in enumerate(scalars):
            self.arguments.scalars[i] = scalar
