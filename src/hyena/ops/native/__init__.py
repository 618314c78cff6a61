"""The native convolution kernel: a library of plain C functions, called through ctypes."""
