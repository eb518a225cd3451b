// Philox4x32-10 and Box-Muller normals; twin: src/random/philox.rs, which has the sources.
#ifndef POPALIGN_PHILOX_CUH
#define POPALIGN_PHILOX_CUH
#include "common.cuh"

struct Words { u32 w[4]; };
struct Normals { float x[4]; };

__device__ inline Words philox4x32_10(Words c, u32 key0, u32 key1) {
    for (int round = 0; round < 10; round++) {
        u64 p0 = (u64)0xD2511F53u * c.w[0];
        u64 p1 = (u64)0xCD9E8D57u * c.w[2];
        Words next;
        next.w[0] = (u32)(p1 >> 32) ^ c.w[1] ^ key0;
        next.w[1] = (u32)p1;
        next.w[2] = (u32)(p0 >> 32) ^ c.w[3] ^ key1;
        next.w[3] = (u32)p0;
        c = next;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    return c;
}

// A word as a number in (0, 1].
__device__ inline float unit_open(u32 word) {
    return (float)word * 2.3283064e-10f + 1.1641532e-10f;
}

__device__ inline float exact_ln(float x) {
    u32 bits = bits_of(x);
    int exponent = (int)(bits >> 23) - 126;
    float m = float_of((bits & 0x007FFFFFu) | 0x3F000000u);
    if (m < 0.707106769f) {
        exponent -= 1;
        m = m + m;
    }
    float e = (float)exponent;
    float d = m - 1.0f;
    float z = d * d;
    float y = 7.0376836e-2f;
    y = y * d - 1.151461e-1f;
    y = y * d + 1.1676999e-1f;
    y = y * d - 1.2420141e-1f;
    y = y * d + 1.4249323e-1f;
    y = y * d - 1.6668057e-1f;
    y = y * d + 2.0000715e-1f;
    y = y * d - 2.4999994e-1f;
    y = y * d + 3.333333e-1f;
    y = y * d * z;
    y = y + e * -2.1219444e-4f;
    y = y - 0.5f * z;
    return (d + y) + e * 0.6933594f;
}

// Sine and cosine of word / 2^32 of a full turn.
__device__ inline void sin_cos_turn(u32 word, float *sine, float *cosine) {
    u32 quadrant = (word + (1u << 29)) >> 30;
    int rest = (int)(word - (quadrant << 30));
    float x = (float)rest * 1.4629181e-9f;
    float z = x * x;
    float s = ((-1.9515296e-4f * z + 8.332161e-3f) * z - 1.6666655e-1f) * z * x + x;
    float c = ((2.4433157e-5f * z - 1.3887316e-3f) * z + 4.1666646e-2f) * z * z - 0.5f * z + 1.0f;
    float a = (quadrant & 1u) ? c : s;
    float b = (quadrant & 1u) ? s : c;
    *sine = (quadrant >= 2u) ? -a : a;
    *cosine = (quadrant == 1u || quadrant == 2u) ? -b : b;
}

__device__ inline Normals normals_of(Words words) {
    Normals out;
    for (int pair = 0; pair < 2; pair++) {
        float radius = sqrtf(-2.0f * exact_ln(unit_open(words.w[2 * pair])));
        float s, c;
        sin_cos_turn(words.w[2 * pair + 1], &s, &c);
        out.x[2 * pair] = radius * c;
        out.x[2 * pair + 1] = radius * s;
    }
    return out;
}

#endif
