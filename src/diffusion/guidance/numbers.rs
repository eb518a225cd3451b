//! Options that are several numbers.

/// So many numbers with commas between them.
pub(super) fn numbers<const N: usize>(text: &str) -> Option<[f64; N]> {
    let numbers: Result<Vec<f64>, _> = text.split(',').map(|n| n.trim().parse()).collect();
    numbers.ok()?.try_into().ok()
}
