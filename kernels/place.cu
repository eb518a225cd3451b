// The errors of a micro-batch, put where its samples stand in the batch.
//
//   to[r, places[i]] = from[r, i]
//
// Twin: src/device/cpu.rs `place`.
#include "common.cuh"

// from: [2, n]; places: [n]; to: [2, total].
extern "C" __global__ void pa_place(
    const float *from, const i64 *places, i64 n, float *to, i64 total) {
    for (i64 k = first_index(); k < 2 * n; k += index_stride()) {
        i64 row = k / n;
        to[row * total + places[k - row * n]] = from[k];
    }
}
SHIM_EXPORT(pa_place)
