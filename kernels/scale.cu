// The B factors of all LoRA layers multiplied with one number, in one launch.
//
//   to[k] = (k in a B factor ? scale : 1) from[k]
//
// A layer's product counts alpha / rank, which the networks' graphs don't have: their B is multiplied on
// the way in, the gradient of B on the way out. Twin: src/device/cpu.rs `scale`.
#include "common.cuh"

// offsets: [factors + 1], ascending from 0; factors are A and B of a layer in turn; from, to:
// [offsets[factors]].
extern "C" __global__ void pa_scale(
    const float *from, float *to, const i64 *offsets, i64 factors, float scale) {
    i64 total = offsets[factors];
    for (i64 e = first_index(); e < total; e += index_stride()) {
        i64 low = 0, high = factors;
        while (high - low > 1) {
            i64 middle = (low + high) / 2;
            if (offsets[middle] <= e) low = middle; else high = middle;
        }
        to[e] = low % 2 == 1 ? scale * from[e] : from[e];
    }
}
SHIM_EXPORT(pa_scale)
