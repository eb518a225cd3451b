// Mean squared errors of the policy's and the reference's prediction against one target.
//
//   mse_i = mean_k (policy_ik - target_ik)^2,   ref_mse_i = mean_k (reference_ik - target_ik)^2
//
// One block a sample: lane t sums elements t, t + 256 .. in order, then the fixed tree.
// `unet_grad` returns both itself; this kernel serves forward-only passes, which read the
// predictions of a plain UNet. Twin: src/device/cpu.rs `paired_mse`.
#include "common.cuh"

extern "C" __global__ void pa_paired_mse(
    const float *policy, const float *reference, const float *target, float *mse, float *ref_mse,
    i64 batch, i64 n) {
    __shared__ float lanes[LANES];
    for (i64 b = blockIdx.x; b < batch; b += gridDim.x) {
        float p = 0.0f, r = 0.0f;
        for (i64 k = threadIdx.x; k < n; k += LANES) {
            float t = target[b * n + k];
            float dp = policy[b * n + k] - t;
            float dr = reference[b * n + k] - t;
            p = p + dp * dp;
            r = r + dr * dr;
        }
        p = block_sum(p, lanes);
        r = block_sum(r, lanes);
        if (threadIdx.x == 0) {
            mse[b] = p / (float)n;
            ref_mse[b] = r / (float)n;
        }
    }
}
SHIM_EXPORT(pa_paired_mse)
