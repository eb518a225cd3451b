// Weighted sum of per-sample LoRA gradients over all factors in one launch.
//
//   sum[offset_m + k] += sum_i c[places_i] grad_m[i, k]      for every factor m and element k
//
// The samples are added one after another, so a global batch cut into any micro-batches gives the
// same bits. A sample with a c of 0 is skipped: it must not turn an infinite gradient into NaN.
// Twin: src/device/cpu.rs `accumulate`.
#include "common.cuh"

// offsets: [factors + 1], ascending from 0, the place of each factor in `sum`;
// grads: [batch * offsets[factors]], factor after factor, grad_m being [batch, offset_{m+1} - offset_m];
// places: [batch], where each sample's factor is in `c`, which holds the whole batch's.
extern "C" __global__ void pa_accumulate(
    const float *grads, const i64 *offsets, i64 factors, const float *c, const i64 *places,
    i64 batch, float *sum) {
    i64 total = offsets[factors];
    for (i64 e = first_index(); e < total; e += index_stride()) {
        i64 low = 0, high = factors;
        while (high - low > 1) {
            i64 middle = (low + high) / 2;
            if (offsets[middle] <= e) low = middle; else high = middle;
        }
        i64 n = offsets[low + 1] - offsets[low];
        const float *grad = grads + batch * offsets[low] + (e - offsets[low]);
        float value = sum[e];
        for (i64 i = 0; i < batch; i++) {
            float own = c[places[i]];
            if (own != 0.0f) value = value + own * grad[i * n];
        }
        sum[e] = value;
    }
}
SHIM_EXPORT(pa_accumulate)
