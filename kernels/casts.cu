// Casts of whole buffers between single precision and fp16 or bf16 (round to nearest even).
// Twin: src/device/cpu.rs `to_half`, `from_half`.
#include "cast.cuh"

// kind: 1 fp16, 2 bf16
extern "C" __global__ void pa_to_half(const float *from, u16 *to, i64 n, u32 kind) {
    for (i64 k = first_index(); k < n; k += index_stride()) write_copy(to, kind, k, from[k]);
}
SHIM_EXPORT(pa_to_half)

extern "C" __global__ void pa_from_half(const u16 *from, float *to, i64 n, u32 kind) {
    for (i64 k = first_index(); k < n; k += index_stride())
        to[k] = kind == COPY_F16 ? float_of_f16(from[k]) : float_of_bf16(from[k]);
}
SHIM_EXPORT(pa_from_half)
