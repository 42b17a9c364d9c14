"""How a kernel module hands its functions out: as capsules, each of the one signature."""

from cpython.pycapsule cimport PyCapsule_New, PyCapsule_SetContext

from pyodl._kernels._team cimport reach_everything
from pyodl._kernels._types cimport Kernel, ReachOf


cdef inline object kernel_capsule(Kernel kernel, ReachOf reach=reach_everything):
    """Hand out a kernel that does the calling thread's share, and what a share reaches."""
    capsule = lone_capsule(kernel)
    PyCapsule_SetContext(capsule, <void *>reach)
    return capsule


cdef inline object lone_capsule(Kernel kernel):
    """Hand out a kernel that does all of its work; one thread of a team calls it."""
    return PyCapsule_New(<void *>kernel, "pyodl_kernel", NULL)
