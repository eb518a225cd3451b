//! Eigenvalues of symmetric matrices: Householder's reduction to three diagonals, then the QL
//! method with implicit shifts.
//!
//! The algorithms are EISPACK's `tred2` and `tql2` (Bowdler, Martin, Reinsch and Wilkinson, 1968),
//! in the public-domain form of NIST's JAMA. A linear-algebra crate would serve only the Fréchet
//! distance and FairPCA, at many times the size of these two functions.

/// Sweeps of QL after which an eigenvalue is given up. Two or three are usual.
const MOST_SWEEPS: usize = 60;

/// Eigenvalues in ascending order, and their vectors.
#[derive(Debug, Clone)]
pub struct Eigen {
    /// The eigenvalues.
    pub values: Vec<f64>,
    /// The vectors as columns, row-major: entry `i` of vector `j` is at `i * n + j`.
    pub vectors: Vec<f64>,
}

/// Decomposes a symmetric matrix `[n, n]`.
///
/// # Panics
/// When `matrix` does not have `n`² entries.
pub fn eigen(matrix: &[f64], n: usize) -> Eigen {
    assert_eq!(matrix.len(), n * n, "entries of a square matrix");
    let mut state = Householder {
        n,
        v: matrix.to_vec(),
        d: vec![0.0; n],
        e: vec![0.0; n],
    };
    if n > 0 {
        state.reduce();
        state.accumulate();
        state.diagonalize();
        state.sort();
    }
    Eigen {
        values: state.d,
        vectors: state.v,
    }
}

/// The product of two matrices `[n, n]`, row-major.
pub fn multiply(a: &[f64], b: &[f64], n: usize) -> Vec<f64> {
    let mut product = vec![0.0; n * n];
    for (row, out) in a.chunks_exact(n).zip(product.chunks_exact_mut(n)) {
        for (&factor, other) in row.iter().zip(b.chunks_exact(n)) {
            out.iter_mut()
                .zip(other)
                .for_each(|(o, x)| *o += factor * x);
        }
    }
    product
}

/// Solves `matrix` x = `right` for a positive definite matrix `[n, n]` and any number of right sides, the
/// columns of `right` (Cholesky); row-major.
///
/// # Panics
/// When `matrix` isn't positive definite, or the rows of `right` aren't `n`.
pub fn solve(matrix: &[f64], n: usize, right: &[f64]) -> Vec<f64> {
    let columns = right.len() / n.max(1);
    assert_eq!((matrix.len(), right.len()), (n * n, n * columns));
    let mut lower = matrix.to_vec();
    for i in 0..n {
        for j in 0..=i {
            let known: f64 = (0..j).map(|k| lower[i * n + k] * lower[j * n + k]).sum();
            let left = matrix[i * n + j] - known;
            assert!(i != j || left > 0.0, "the matrix is positive definite");
            lower[i * n + j] = if i == j {
                left.sqrt()
            } else {
                left / lower[j * n + j]
            };
        }
    }
    let mut x = right.to_vec();
    let mut eliminate =
        |i: usize, others: std::ops::Range<usize>, factor: &dyn Fn(usize) -> f64| {
            for column in 0..columns {
                let known: f64 = others
                    .clone()
                    .map(|k| factor(k) * x[k * columns + column])
                    .sum();
                let own = &mut x[i * columns + column];
                *own = (*own - known) / lower[i * n + i];
            }
        };
    for i in 0..n {
        eliminate(i, 0..i, &|k| lower[i * n + k]);
    }
    for i in (0..n).rev() {
        eliminate(i, i + 1..n, &|k| lower[k * n + i]);
    }
    x
}

/// The symmetric root of a matrix without negative eigenvalues; those that rounding made
/// negative are taken for zero.
pub fn square_root(matrix: &[f64], n: usize) -> Vec<f64> {
    let Eigen { values, vectors } = eigen(matrix, n);
    let roots: Vec<f64> = values.iter().map(|v| v.max(0.0).sqrt()).collect();
    let mut root = vec![0.0; n * n];
    for i in 0..n {
        for j in 0..=i {
            let terms = (0..n).map(|k| vectors[i * n + k] * roots[k] * vectors[j * n + k]);
            let sum = terms.sum();
            root[i * n + j] = sum;
            root[j * n + i] = sum;
        }
    }
    root
}

/// `d` becomes the diagonal and then the eigenvalues, `e` the diagonal below it, `v` the vectors.
struct Householder {
    n: usize,
    v: Vec<f64>,
    d: Vec<f64>,
    e: Vec<f64>,
}

impl Householder {
    fn at(&mut self, i: usize, j: usize) -> &mut f64 {
        &mut self.v[i * self.n + j]
    }

    fn get(&self, i: usize, j: usize) -> f64 {
        self.v[i * self.n + j]
    }

    /// Reflects row by row, from the last up, until three diagonals are left.
    fn reduce(&mut self) {
        let n = self.n;
        for j in 0..n {
            self.d[j] = self.get(n - 1, j);
        }
        for i in (1..n).rev() {
            let scale: f64 = self.d[..i].iter().map(|x| x.abs()).sum();
            let mut h = 0.0;
            if scale == 0.0 {
                self.e[i] = self.d[i - 1];
                for j in 0..i {
                    self.d[j] = self.get(i - 1, j);
                    *self.at(i, j) = 0.0;
                    *self.at(j, i) = 0.0;
                }
            } else {
                h = self.reflect(i, scale);
            }
            self.d[i] = h;
        }
    }

    /// One reflection; returns the squared length of its vector.
    fn reflect(&mut self, i: usize, scale: f64) -> f64 {
        let mut h = 0.0;
        for k in 0..i {
            self.d[k] /= scale;
            h += self.d[k] * self.d[k];
        }
        let f = self.d[i - 1];
        let g = if f > 0.0 { -h.sqrt() } else { h.sqrt() };
        self.e[i] = scale * g;
        h -= f * g;
        self.d[i - 1] = f - g;
        self.e[..i].fill(0.0);
        for j in 0..i {
            let f = self.d[j];
            *self.at(j, i) = f;
            let mut g = self.e[j] + self.get(j, j) * f;
            for k in j + 1..i {
                let vkj = self.get(k, j);
                g += vkj * self.d[k];
                self.e[k] += vkj * f;
            }
            self.e[j] = g;
        }
        let mut f = 0.0;
        for j in 0..i {
            self.e[j] /= h;
            f += self.e[j] * self.d[j];
        }
        let hh = f / (h + h);
        for j in 0..i {
            self.e[j] -= hh * self.d[j];
        }
        for j in 0..i {
            let (f, g) = (self.d[j], self.e[j]);
            for k in j..i {
                let change = f * self.e[k] + g * self.d[k];
                *self.at(k, j) -= change;
            }
            self.d[j] = self.get(i - 1, j);
            *self.at(i, j) = 0.0;
        }
        h
    }

    /// Multiplies the reflections into one orthogonal matrix.
    fn accumulate(&mut self) {
        let n = self.n;
        for i in 0..n - 1 {
            *self.at(n - 1, i) = self.get(i, i);
            *self.at(i, i) = 1.0;
            let h = self.d[i + 1];
            if h != 0.0 {
                for k in 0..=i {
                    self.d[k] = self.get(k, i + 1) / h;
                }
                for j in 0..=i {
                    let g: f64 = (0..=i).map(|k| self.get(k, i + 1) * self.get(k, j)).sum();
                    for k in 0..=i {
                        let change = g * self.d[k];
                        *self.at(k, j) -= change;
                    }
                }
            }
            for k in 0..=i {
                *self.at(k, i + 1) = 0.0;
            }
        }
        for j in 0..n {
            self.d[j] = self.get(n - 1, j);
            *self.at(n - 1, j) = 0.0;
        }
        *self.at(n - 1, n - 1) = 1.0;
        self.e[0] = 0.0;
    }

    /// QL with implicit shifts, eigenvalue by eigenvalue.
    fn diagonalize(&mut self) {
        let n = self.n;
        self.e.rotate_left(1);
        self.e[n - 1] = 0.0;
        let (mut shift, mut largest) = (0.0, 0.0f64);
        for l in 0..n {
            largest = largest.max(self.d[l].abs() + self.e[l].abs());
            let small = f64::EPSILON * largest;
            let m = (l..n).find(|&m| self.e[m].abs() <= small).unwrap_or(n - 1);
            if m > l {
                for _ in 0..MOST_SWEEPS {
                    shift += self.sweep(l, m);
                    if self.e[l].abs() <= small {
                        break;
                    }
                }
            }
            self.d[l] += shift;
            self.e[l] = 0.0;
        }
    }

    /// One implicit QL sweep over rows `l..=m`; returns the shift taken off the diagonal.
    fn sweep(&mut self, l: usize, m: usize) -> f64 {
        let n = self.n;
        let mut g = self.d[l];
        let mut p = (self.d[l + 1] - g) / (2.0 * self.e[l]);
        let mut r = p.hypot(1.0).copysign(p);
        self.d[l] = self.e[l] / (p + r);
        self.d[l + 1] = self.e[l] * (p + r);
        let next = self.d[l + 1];
        let h = g - self.d[l];
        self.d[l + 2..].iter_mut().for_each(|d| *d -= h);
        p = self.d[m];
        let (mut c, mut c2, mut c3) = (1.0, 1.0, 1.0);
        let (mut s, mut s2) = (0.0, 0.0);
        let below = self.e[l + 1];
        for i in (l..m).rev() {
            c3 = c2;
            c2 = c;
            s2 = s;
            g = c * self.e[i];
            let h = c * p;
            r = p.hypot(self.e[i]);
            self.e[i + 1] = s * r;
            s = self.e[i] / r;
            c = p / r;
            p = c * self.d[i] - s * g;
            self.d[i + 1] = h + s * (c * g + s * self.d[i]);
            for k in 0..n {
                let (left, right) = (self.get(k, i), self.get(k, i + 1));
                *self.at(k, i + 1) = s * left + c * right;
                *self.at(k, i) = c * left - s * right;
            }
        }
        p = -s * s2 * c3 * below * self.e[l] / next;
        self.e[l] = s * p;
        self.d[l] = c * p;
        h
    }

    /// Puts the eigenvalues in ascending order.
    fn sort(&mut self) {
        let n = self.n;
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|&a, &b| self.d[a].total_cmp(&self.d[b]));
        let values = order.iter().map(|&i| self.d[i]).collect();
        let mut vectors = vec![0.0; n * n];
        for row in 0..n {
            for (to, &from) in order.iter().enumerate() {
                vectors[row * n + to] = self.get(row, from);
            }
        }
        (self.d, self.v) = (values, vectors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, normal};

    fn random_symmetric(n: usize, seed: u64) -> Vec<f64> {
        let mut x = vec![0.0f32; n * n];
        normal(seed, Purpose::Bootstrap, 0, 0, 0, &mut x);
        let at = |i: usize, j: usize| f64::from(x[i.max(j) * n + i.min(j)]);
        (0..n * n).map(|k| at(k / n, k % n)).collect()
    }

    fn transposed(a: &[f64], n: usize) -> Vec<f64> {
        (0..n * n).map(|k| a[(k % n) * n + k / n]).collect()
    }

    fn largest_difference(a: &[f64], b: &[f64]) -> f64 {
        a.iter()
            .zip(b)
            .map(|(x, y)| (x - y).abs())
            .fold(0.0, f64::max)
    }

    #[test]
    fn a_positive_definite_system_is_solved() {
        let matrix = [4.0, 2.0, 0.6, 2.0, 5.0, 1.0, 0.6, 1.0, 3.0];
        let x = [1.0, -2.0, 3.0, 0.5, -1.0, 2.0];
        let entry = |i: usize, c: usize| (0..3).map(|k| matrix[i * 3 + k] * x[k * 2 + c]).sum();
        let right: Vec<f64> = (0..6).map(|place| entry(place / 2, place % 2)).collect();
        let found = solve(&matrix, 3, &right);
        assert!(
            found.iter().zip(x).all(|(a, b)| (a - b).abs() < 1e-12),
            "{found:?}"
        );
    }

    #[test]
    fn small_matrices_are_exact() {
        assert!(eigen(&[], 0).values.is_empty());
        assert_eq!(eigen(&[3.0], 1).values, [3.0]);
        let two = eigen(&[2.0, 1.0, 1.0, 2.0], 2).values;
        assert!((two[0] - 1.0).abs() < 1e-15 && (two[1] - 3.0).abs() < 1e-15);
        let diagonal = eigen(&[5.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 2.0], 3);
        assert_eq!(diagonal.values, [-1.0, 2.0, 5.0]);
    }

    #[test]
    fn the_parts_make_the_matrix_again() {
        for (n, seed) in [(2, 1), (3, 2), (10, 3), (64, 4)] {
            let matrix = random_symmetric(n, seed);
            let Eigen { values, vectors } = eigen(&matrix, n);
            assert!(values.is_sorted());
            let mut scaled = vectors.clone();
            for row in scaled.chunks_exact_mut(n) {
                row.iter_mut().zip(&values).for_each(|(x, v)| *x *= v);
            }
            let turned = transposed(&vectors, n);
            // A few roundings per entry of numbers near n.
            let tolerance = 1e-14 * n as f64;
            assert!(largest_difference(&multiply(&scaled, &turned, n), &matrix) < tolerance);
            let identity: Vec<f64> = (0..n * n)
                .map(|k| f64::from(u8::from(k / n == k % n)))
                .collect();
            assert!(largest_difference(&multiply(&vectors, &turned, n), &identity) < tolerance);
        }
    }

    #[test]
    fn equal_and_zero_eigenvalues_are_found() {
        let n = 6;
        let ones = vec![1.0; n * n];
        let Eigen { values, .. } = eigen(&ones, n);
        assert!((values[5] - 6.0).abs() < 1e-14);
        assert!(values[..5].iter().all(|v| v.abs() < 1e-14), "{values:?}");
        assert!(eigen(&[0.0; 9], 3).values.iter().all(|&v| v == 0.0));
    }

    #[test]
    fn a_root_times_itself_is_the_matrix() {
        let n = 12;
        let a = random_symmetric(n, 9);
        let matrix = multiply(&a, &transposed(&a, n), n);
        let root = square_root(&matrix, n);
        assert!(largest_difference(&multiply(&root, &root, n), &matrix) < 1e-12);
    }
}
