// exp and log1p in double precision from + - * / only, so that every machine gives equal bits.
// Twin: src/base/exact.rs, which states the errors.
#ifndef POPALIGN_EXACT_CUH
#define POPALIGN_EXACT_CUH
#include "common.cuh"

// e^-x for x >= 0; 0 beyond x = 700.
__device__ inline double exp_neg(double x) {
    if (!(x <= 700.0)) return x > 700.0 ? 0.0 : x;
    i64 k = (i64)(x * 1.4426950408889634 + 0.5);
    double kd = (double)k;
    double r = (kd * 6.93147180369123816490e-01 - x) + kd * 1.90821492927058770002e-10;
    double y = 1.0;
    for (int d = 14; d > 0; d--) y = 1.0 + r * y / (double)d;
    return y * double_of((u64)(1023 - k) << 52);
}

// ln(1 + y) for 0 <= y <= 1, as 2 atanh(y / (2 + y)).
__device__ inline double log1p_unit(double y) {
    double s = y / (2.0 + y);
    double z = s * s;
    double sum = 0.0;
    for (int d = 37; d > 0; d -= 2) sum = 1.0 / (double)d + z * sum;
    return 2.0 * s * sum;
}

#endif
