"""The kernels built for AVX512-FP16; only extension modules land here."""
