"""The kernels built for x86-64-v4; only extension modules land here."""
