// Prodigy: AdamW whose step size is estimated from how far the parameters have come.
//
//   m = beta1 m + d (1 - beta1) g,   v = beta2 v + d^2 (1 - beta2) g^2,   s = beta3 s + (d^2 / d0) g
//   along = sum_k g_k (p0_k - p_k),  size = sum_k |s_k|
//
// and, once the host has made the next d of these two sums,
//
//   p = (1 - wd eta) p - eta m / (sqrt(v) + d' eps)
//
// with eta of the old d and d' the next. Mishchenko and Defazio 2023, "Prodigy: An Expeditiously Adaptive
// Parameter-Free Learner", in the order of the prodigyopt package. Sums in double precision over chunks of
// 65536 elements, whatever the grid. Twin: src/device/prodigy.rs.
#include "common.cuh"

#define CHUNK 65536

// m_rate = d (1 - beta1), v_rate = d^2 (1 - beta2), s_rate = d^2 / d0: computed in double on the host and
// rounded once; so are keep = 1 - wd eta, rate = eta and eps = d' eps.
struct ProdigyMoments { float beta1, m_rate, beta2, v_rate, beta3, s_rate; };
struct ProdigyUpdate { float keep, rate, eps; };

// clip: [2] from pa_norm; start: p at the first update; partial: [2, ceil(n / CHUNK)], along and size.
extern "C" __global__ void pa_prodigy_moments(
    const float *grad, const float *clip, const float *p, const float *start, float *m, float *v,
    float *s, i64 n, double *partial, ProdigyMoments step) {
    __shared__ double lanes[LANES];
    float factor = clip[1];
    i64 chunks = (n + CHUNK - 1) / CHUNK;
    for (i64 chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
        i64 end = (chunk + 1) * CHUNK < n ? (chunk + 1) * CHUNK : n;
        double along = 0.0, size = 0.0;
        for (i64 k = chunk * CHUNK + threadIdx.x; k < end; k += LANES) {
            float g = factor * grad[k];
            float sk = step.beta3 * s[k] + step.s_rate * g;
            m[k] = step.beta1 * m[k] + step.m_rate * g;
            v[k] = step.beta2 * v[k] + step.v_rate * g * g;
            s[k] = sk;
            along = along + (double)g * (double)(start[k] - p[k]);
            size = size + (double)fabsf(sk);
        }
        along = block_sum(along, lanes);
        size = block_sum(size, lanes);
        if (threadIdx.x == 0) {
            partial[chunk] = along;
            partial[chunks + chunk] = size;
        }
    }
}
SHIM_EXPORT(pa_prodigy_moments)

// sums: [2], along and size. One block.
extern "C" __global__ void pa_prodigy_sums(const double *partial, i64 chunks, double *sums) {
    __shared__ double lanes[LANES];
    for (int which = 0; which < 2; which++) {
        double sum = 0.0;
        for (i64 k = threadIdx.x; k < chunks; k += LANES) sum = sum + partial[which * chunks + k];
        sum = block_sum(sum, lanes);
        if (threadIdx.x == 0) sums[which] = sum;
    }
}
SHIM_EXPORT(pa_prodigy_sums)

extern "C" __global__ void pa_prodigy_update(
    const float *m, const float *v, float *p, i64 n, ProdigyUpdate step) {
    for (i64 k = first_index(); k < n; k += index_stride())
        p[k] = p[k] * step.keep - step.rate * m[k] / (sqrtf(v[k]) + step.eps);
}
SHIM_EXPORT(pa_prodigy_update)
