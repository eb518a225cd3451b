// Exponential moving average of the parameters.
//
//   ema = ema - (1 - decay) (ema - p)
//
// as diffusers' EMAModel.step. Twin: src/device/cpu.rs `ema`.
#include "common.cuh"

extern "C" __global__ void pa_ema(const float *p, float *ema, i64 n, float one_minus_decay) {
    for (i64 k = first_index(); k < n; k += index_stride())
        ema[k] = ema[k] - one_minus_decay * (ema[k] - p[k]);
}
SHIM_EXPORT(pa_ema)
