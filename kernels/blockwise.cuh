// Eight-bit numbers scaled by blocks: Dettmers et al. 2022, "8-bit optimizers via block-wise
// quantization". A block's numbers are divided by their largest magnitude and replaced by the index
// of the nearest of 256 ascending values. Twin: src/device/blockwise.rs, which has the two maps.
#ifndef POPALIGN_BLOCKWISE_CUH
#define POPALIGN_BLOCKWISE_CUH
#include "common.cuh"

typedef unsigned char u8;

// Values of a map, and elements of a block: one for each thread.
#define CODES LANES
// The code of zero in the signed map.
#define SIGNED_ZERO 127u

// The code of the value nearest to x. A number in the middle of two, which is computed in single
// precision, takes the even code.
__device__ inline u32 nearest_code(const float *map, float x) {
    u32 low = 0;
    for (u32 step = CODES / 2; step > 0; step >>= 1)
        if (x > map[low + step]) low += step;
    u32 high = low + 1 < CODES ? low + 1 : low;
    float middle = (map[low] + map[high]) * 0.5f;
    return x > middle || (x == middle && (low & 1u)) ? high : low;
}

// The same for a signed number in a block whose largest magnitude is `top`. A number below zero
// keeps its sign: the first moment says which way to go. Zero stays exactly zero.
__device__ inline u8 signed_code(const float *map, float value, float top) {
    u32 code = nearest_code(map, top > 0.0f ? value / top : 0.0f);
    return (u8)(value < 0.0f && code == SIGNED_ZERO ? code - 1 : code);
}

__device__ inline u8 unsigned_code(const float *map, float value, float top) {
    return (u8)nearest_code(map, top > 0.0f ? value / top : 0.0f);
}

#endif
