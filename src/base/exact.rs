//! exp and log1p in double precision from `+ - * /` only: equal bits on every machine.
//!
//! Library functions differ between the C library, CUDA and Rust in the last place, and the
//! training step promises the same bits on all of them. Twin of `kernels/exact.cuh`.

/// e^-x for x >= 0, within 1e-15 relative; 0 beyond x = 700; NaN for NaN.
pub(crate) fn exp_neg(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    if x > 700.0 {
        return 0.0;
    }
    let k = (x * std::f64::consts::LOG2_E + 0.5) as i64;
    let kd = k as f64;
    // ln 2 in two parts; the first has 32 bits, so that k times it is exact.
    let r = (kd * 6.931_471_803_691_238e-1 - x) + kd * 1.908_214_929_270_587_7e-10;
    let mut y = 1.0;
    for d in (1..=14).rev() {
        y = 1.0 + r * y / f64::from(d);
    }
    y * f64::from_bits(((1023 - k) as u64) << 52)
}

/// ln(1 + y) for 0 <= y <= 1, within 1e-15 relative, as 2 atanh(y / (2 + y)).
pub(crate) fn log1p_unit(y: f64) -> f64 {
    let s = y / (2.0 + y);
    let z = s * s;
    let mut sum = 0.0;
    for d in (1..=37).rev().step_by(2) {
        sum = 1.0 / f64::from(d) + z * sum;
    }
    2.0 * s * sum
}

/// −ln σ(z) = max(−z, 0) + ln(1 + e^−|z|): a logistic loss.
pub(crate) fn neg_log_sigmoid(z: f64) -> f64 {
    (if z < 0.0 { -z } else { 0.0 }) + log1p_unit(exp_neg(z.abs()))
}

/// σ(−z), the slope of [`neg_log_sigmoid`] but for its sign.
pub(crate) fn sigmoid_neg(z: f64) -> f64 {
    let e = exp_neg(z.abs());
    if z < 0.0 {
        1.0 / (1.0 + e)
    } else {
        e / (1.0 + e)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_follow_the_library() {
        for i in 0..20_000 {
            let x = f64::from(i) * 0.0349;
            let (a, b) = (exp_neg(x), (-x).exp());
            // Below the normal range the comparison is absolute: both are 0 or near it.
            assert!((a - b).abs() <= 2e-15 * b + 1e-300, "exp(-{x}): {a} {b}");
            let y = f64::from(i) / 20_000.0;
            let (a, b) = (log1p_unit(y), y.ln_1p());
            assert!((a - b).abs() <= 2e-15 * b, "log1p({y}): {a} {b}");
        }
        assert_eq!(exp_neg(0.0), 1.0);
        assert_eq!(exp_neg(1e9), 0.0);
        assert!(exp_neg(f64::NAN).is_nan());
        assert!((log1p_unit(1.0) - std::f64::consts::LN_2).abs() < 1e-15);
    }
}
