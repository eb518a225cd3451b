// Per-sample factors c_i = dL / d mse_i of the losses, and what the log shows.
//
//   g_i = ref_mse_i - mse_i                      (implied reward / beta)
//   popalign: mu = alpha mean(g winners) + (1 - alpha) mean(g losers), detached
//             z_i = s_i beta (g_i - mu),  L = mean_i -ln sigmoid(z_i)
//             c_i = s_i beta sigmoid(-z_i) / N
//   dpo:      z = beta (g_w - g_l) / 2,   L = mean over pairs of -ln sigmoid(z)
//             c_w = beta sigmoid(-z) / N,  c_l = -c_w
//   set:      z = beta sum over the set of (g_w - g_l) / 2,   L = mean over sets of -ln sigmoid(z)
//             c_w = S beta sigmoid(-z) / N,  c_l = -c_w, for sets of S pairs; dpo is S = 1
//   sft:      L = mean over winners of mse,  c_w = 2 / N,  c_l = 0
//
// Each pair's term, and so its c_i, is multiplied with its scale; the pairs of a set have one.
// Sample 2p is the winner and 2p + 1 the loser of pair p; N = 2 pairs; s = +1 winner, -1 loser.
// Source: the official main.py (loss=popalign, bce_offset=sigmoid), Wallace et al. 2023 eq. 14, and the
// PopAlign paper's eq. 8 and 14, before Jensen's inequality makes pairs of sets: the log of a product of
// likelihoods is their sum, each term estimated at its pair's time step as Diffusion-DPO does.
// Double precision: g is a small difference and beta is in the thousands. One block.
// Twin: src/device/cpu.rs `weights`.
#include "common.cuh"
#include "exact.cuh"

#define LOSS_POPALIGN 0u
#define LOSS_DPO 1u
#define LOSS_SFT 2u

// By how much the winners of pair p's set lead.
__device__ inline double lead_of(const float *mse, const float *ref_mse, i64 p, i64 set) {
    i64 first = p - p % set;
    double sum = 0.0;
    for (i64 q = first; q < first + set; q++) {
        double gw = (double)ref_mse[2 * q] - (double)mse[2 * q];
        double gl = (double)ref_mse[2 * q + 1] - (double)mse[2 * q + 1];
        sum = sum + (gw - gl);
    }
    return sum;
}

// Lane t sums pairs t, t + 256 ..; then the fixed tree.
// summary: loss, mu, accuracy (share of sets whose winners lead, ties half), margin (mean beta (g_w - g_l)).
extern "C" __global__ void pa_weights(
    const float *mse, const float *ref_mse, const float *scale, float *c, double *summary, i64 pairs,
    i64 set, u32 kind, double beta, double alpha) {
    __shared__ double lanes[LANES];
    double winners = 0.0, losers = 0.0, right = 0.0;
    for (i64 p = threadIdx.x; p < pairs; p += LANES) {
        double gw = (double)ref_mse[2 * p] - (double)mse[2 * p];
        double gl = (double)ref_mse[2 * p + 1] - (double)mse[2 * p + 1];
        winners = winners + gw;
        losers = losers + gl;
        double lead = lead_of(mse, ref_mse, p, set);
        right = right + (lead > 0.0 ? 1.0 : (lead == 0.0 ? 0.5 : 0.0));
    }
    double count = (double)pairs;
    double mean_w = block_sum(winners, lanes) / count;
    double mean_l = block_sum(losers, lanes) / count;
    double accuracy = block_sum(right, lanes) / count;
    double mu = kind == LOSS_POPALIGN ? alpha * mean_w + (1.0 - alpha) * mean_l : 0.0;
    double n = 2.0 * count;
    double loss = 0.0;
    for (i64 p = threadIdx.x; p < pairs; p += LANES) {
        double gw = (double)ref_mse[2 * p] - (double)mse[2 * p];
        double gl = (double)ref_mse[2 * p + 1] - (double)mse[2 * p + 1];
        double own = (double)scale[p];
        if (kind == LOSS_SFT) {
            loss = loss + own * (double)mse[2 * p];
            c[2 * p] = (float)(own * (2.0 / n));
            c[2 * p + 1] = 0.0f;
            continue;
        }
        for (int side = 0; side < 2; side++) {
            double sign = side == 0 ? 1.0 : -1.0;
            double z = kind == LOSS_DPO ? 0.5 * beta * lead_of(mse, ref_mse, p, set)
                                        : sign * beta * ((side == 0 ? gw : gl) - mu);
            double e = exp_neg(z < 0.0 ? -z : z);
            double miss = z < 0.0 ? 1.0 / (1.0 + e) : e / (1.0 + e);
            // -ln sigmoid(z) = max(-z, 0) + ln(1 + e^-|z|); for dpo every sample holds its set's
            // term, whose mean over samples is its mean over sets.
            loss = loss + own * ((z < 0.0 ? -z : 0.0) + log1p_unit(e));
            c[2 * p + side] = (float)(own * ((double)set * (sign * beta * miss / n)));
        }
    }
    loss = block_sum(loss, lanes) / (kind == LOSS_SFT ? count : n);
    if (threadIdx.x == 0) {
        summary[0] = loss;
        summary[1] = mu;
        summary[2] = accuracy;
        summary[3] = beta * (mean_w - mean_l);
    }
}
SHIM_EXPORT(pa_weights)
