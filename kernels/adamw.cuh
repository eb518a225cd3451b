// One element's AdamW update, whatever holds its moments.
//
//   m = m + (1 - beta1) (g - m),   v = beta2 v + (1 - beta2) g^2
//   p = (1 - lr wd) p - (lr / (1 - beta1^t)) m / (sqrt(v) / sqrt(1 - beta2^t) + eps)
//
// Decoupled weight decay (Loshchilov and Hutter 2019), operations in the order of
// torch.optim.AdamW. Twin: src/device/cpu.rs `adamw_element`.
#ifndef POPALIGN_ADAMW_CUH
#define POPALIGN_ADAMW_CUH
#include "common.cuh"

// keep = 1 - lr wd; rate = lr / (1 - beta1^t); root = sqrt(1 - beta2^t); one1 = 1 - beta1,
// one2 = 1 - beta2: computed in double on the host and rounded once.
struct AdamWStep { float keep, rate, root, one1, beta2, one2, eps; };

__device__ inline void adamw_element(AdamWStep s, float g, float *p, float *m, float *v) {
    *m = *m + s.one1 * (g - *m);
    *v = s.beta2 * *v + s.one2 * g * g;
    float denominator = sqrtf(*v) / s.root + s.eps;
    *p = *p * s.keep - s.rate * *m / denominator;
}

#endif
