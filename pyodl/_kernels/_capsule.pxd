"""How a kernel module hands its functions out: as capsules, each of the one signature."""

from cpython.pycapsule cimport PyCapsule_New

from pyodl._kernels._types cimport Kernel

cdef inline object kernel_capsule(Kernel kernel):
    return PyCapsule_New(<void *>kernel, "pyodl_kernel", NULL)
