//! Kernels and their CPU twins.
