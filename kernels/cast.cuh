// Conversions between single precision and the two 16-bit formats, rounding to nearest even, by
// integer arithmetic: the same bits everywhere, without cuda_fp16.h. Twin: the `half` crate.
#ifndef POPALIGN_CAST_CUH
#define POPALIGN_CAST_CUH
#include "common.cuh"

__device__ inline u16 bf16_of(float x) {
    u32 bits = bits_of(x);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return (u16)((bits >> 16) | 0x40u);
    return (u16)((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

__device__ inline float float_of_bf16(u16 h) { return float_of((u32)h << 16); }

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

__device__ inline float float_of_f16(u16 h) {
    u32 sign = ((u32)h & 0x8000u) << 16;
    u32 exponent = ((u32)h >> 10) & 0x1Fu;
    u32 m = (u32)h & 0x3FFu;
    if (exponent == 31u) return float_of(sign | 0x7F800000u | (m ? 0x400000u : 0u) | (m << 13));
    if (exponent) return float_of(sign | ((exponent + 112u) << 23) | (m << 13));
    // Subnormal: m 2^-24, exact in single precision.
    float value = (float)m * 5.9604644775390625e-8f;
    return float_of(sign | bits_of(value));
}

#define COPY_NONE 0u
#define COPY_F16 1u
#define COPY_BF16 2u

// Element k of a 16-bit copy of the parameters, where one is kept.
__device__ inline void write_copy(u16 *copy, u32 kind, i64 k, float value) {
    if (kind == COPY_F16) copy[k] = f16_of(value);
    if (kind == COPY_BF16) copy[k] = bf16_of(value);
}

#endif
