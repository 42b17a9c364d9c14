"""The kernels built for x86-64-v3; only extension modules land here."""
