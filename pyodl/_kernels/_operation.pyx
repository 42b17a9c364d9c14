"""Kernels bound to their arrays, and programs of them that run without the interpreter."""

from cpython.buffer cimport (
    Py_buffer, PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memmove, memset, strcmp

from pyodl._kernels._types cimport (
    PYODL_FLOAT32, PYODL_MAX_ARRAYS, PYODL_MAX_SCALARS, PYODL_MAX_SIZES, Arguments, Kernel,
    accumulator_format, load_value, storage_format, store_value,
)

from time import perf_counter

from numpy import generic, ndarray


cdef extern from "include/host.h" nogil:
    int host_has_openmp() noexcept
    int host_processors() noexcept
    int host_x86_level() noexcept


def has_openmp():
    """Return whether the kernels were built with OpenMP."""
    return bool(host_has_openmp())


def processors():
    """Return how many processors OpenMP sees; 1 without OpenMP."""
    return host_processors()


def x86_level():
    """Return the x86-64 level (1, 3 or 4) of the host, 5 with AVX512-FP16; 0 elsewhere."""
    return host_x86_level()


cdef double parallel_work = 5e5


def set_parallel_work(double work):
    """Set the work from which an operation uses more than one thread; return the old value.

    Below it, waking a second thread costs more than it saves. Tests set 0 to thread everything.
    """
    global parallel_work
    old, parallel_work = parallel_work, work
    return old


cdef class Operation:
    """One kernel, bound to arrays, sizes and scalars.

    Binding is for callers that have checked their arguments: it looks at contiguity and counts,
    not at meaning. The arrays are kept alive and read or written in place at every run.

    Parameters
    ----------
    name : str
        Name of the kernel; `name` and `macs` may be set afterwards, for profiles. An operation
        without multiply-accumulates is taken to be worth eight of them for each element.
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
    cdef tuple arrays
    cdef public str name
    cdef public long long macs
    cdef double elements

    def __init__(self, str name, kernel, inputs, outputs, sizes=(), scalars=(),
                 int arithmetic=0, int cores=1):
        cdef int i
        self.name = name
        self.kernel = <Kernel>PyCapsule_GetPointer(kernel, "pyodl_kernel")
        self.arrays = (*inputs, *outputs)
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
        for i, size in enumerate(sizes):
            self.arguments.sizes[i] = size
        for i, scalar in enumerate(scalars):
            self.arguments.scalars[i] = scalar
        self.arguments.arithmetic = arithmetic
        self.arguments.cores = cores

    def run(self, int num_threads=1):
        """Run the kernel on ``num_threads`` host threads; the GIL is released."""
        num_threads = self.threads(num_threads)
        with nogil:
            self.kernel(&self.arguments, num_threads)

    cdef int threads(self, int num_threads) noexcept nogil:
        """Return how many of the threads are worth waking."""
        cdef double work = self.macs if self.macs else 8 * self.elements
        if self.macs and accumulator_format(self.arguments.arithmetic) != PYODL_FLOAT32:
            work *= 4  # each sum is rounded to 16 bits
        return num_threads if work >= parallel_work else 1

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

    cdef Kernel *kernels
    cdef const Arguments **arguments
    cdef bint *threaded
    cdef readonly tuple operations

    def __cinit__(self, operations):
        cdef Py_ssize_t i
        cdef Operation operation
        self.operations = tuple(operations)
        self.kernels = <Kernel *>calloc(len(self.operations) + 1, sizeof(Kernel))
        self.arguments = <const Arguments **>calloc(len(self.operations) + 1, sizeof(void *))
        self.threaded = <bint *>calloc(len(self.operations) + 1, sizeof(bint))
        if self.kernels == NULL or self.arguments == NULL or self.threaded == NULL:
            raise MemoryError
        for i, item in enumerate(self.operations):
            operation = item
            self.kernels[i] = operation.kernel
            self.arguments[i] = &operation.arguments
            self.threaded[i] = operation.threads(2) == 2

    def __dealloc__(self):
        free(self.kernels)
        free(self.arguments)
        free(self.threaded)

    def __len__(self):
        return len(self.operations)

    def run(self, int num_threads=1):
        """Run every operation in order on ``num_threads`` host threads; the GIL is released."""
        cdef Py_ssize_t i, n = len(self.operations)
        with nogil:
            for i in range(n):
                self.kernels[i](self.arguments[i], num_threads if self.threaded[i] else 1)

    def timed(self, int num_threads=1):
        """Run every operation and return a list of (name, seconds)."""
        seconds = []
        for operation in self.operations:
            start = perf_counter()
            operation.run(num_threads)
            seconds.append((operation.name, perf_counter() - start))
        return seconds


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
