"""How a kernel module hands its functions out: as capsules, each of the one signature."""

from cpython.pycapsule cimport PyCapsule_New, PyCapsule_SetContext

from pyodl._kernels._types cimport Kernel


cdef inline object kernel_capsule(Kernel kernel):
    """Hand out a kernel that does the calling thread's share."""
    return PyCapsule_New(<void *>kernel, "pyodl_kernel", NULL)


cdef inline object lone_capsule(Kernel kernel):
    """Hand out a kernel that does all of its work; one thread of a team calls it."""
    capsule = kernel_capsule(kernel)
    PyCapsule_SetContext(capsule, <void *>kernel)
    return capsule
