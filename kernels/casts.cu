// Casts of whole buffers from single precision to fp16 or bf16, rounding to nearest even, by integer
// arithmetic: the same bits everywhere, without cuda_fp16.h. Twin: src/device/cpu.rs `to_half`.
#include "common.cuh"

__device__ inline u16 bf16_of(float x) {
    u32 bits = bits_of(x);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return (u16)((bits >> 16) | 0x40u);
    return (u16)((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

__device__ inline u16 f16_of(float x) {
    u32 bits = bits_of(x);
    u32 sign = (bits >> 16) & 0x8000u;
    u32 mag = bits & 0x7FFFFFFFu;
    if (mag > 0x7F800000u) return (u16)(sign | 0x7E00u | ((mag >> 13) & 0x3FFu));
    if (mag >= 0x477FF000u) return (u16)(sign | 0x7C00u);
    if (mag >= 0x38800000u) {
        u32 even = (mag >> 13) & 1u;
        return (u16)(sign | ((mag - 0x38000000u + 0xFFFu + even) >> 13));
    }
    if (mag < 0x33000000u) return (u16)sign;
    u32 shift = 126u - (mag >> 23);
    u32 m = (mag & 0x7FFFFFu) | 0x800000u;
    u32 kept = m >> shift;
    u32 rest = m & ((1u << shift) - 1u);
    u32 tie = 1u << (shift - 1u);
    if (rest > tie || (rest == tie && (kept & 1u))) kept++;
    return (u16)(sign | kept);
}

#define HALF_F16 1u

// kind: 1 fp16, 2 bf16
extern "C" __global__ void pa_to_half(const float *from, u16 *to, i64 n, u32 kind) {
    for (i64 k = first_index(); k < n; k += index_stride())
        to[k] = kind == HALF_F16 ? f16_of(from[k]) : bf16_of(from[k]);
}
SHIM_EXPORT(pa_to_half)
