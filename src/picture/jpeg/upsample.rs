//! A component's samples at the picture's size, as libjpeg's "fancy" upsampling has them: between
//! two samples, three quarters of the nearer one and one of the other, rounded up and down in turn.

use super::fault::Fault;

/// The samples of a component.
#[derive(Debug)]
pub(super) struct Plane<'a> {
    pub(super) samples: &'a [u8],
    pub(super) stride: usize,
    pub(super) width: usize,
    pub(super) height: usize,
}

impl Plane<'_> {
    fn row(&self, y: usize) -> &[u8] {
        &self.samples[y * self.stride..][..self.width]
    }

    /// The row above (or below) `y`; at the edge, itself.
    fn neighbour(&self, y: usize, above: bool) -> &[u8] {
        match above {
            true => self.row(y.saturating_sub(1)),
            false => self.row((y + 1).min(self.height - 1)),
        }
    }
}

/// The plane widened and heightened by these factors and cut to the picture.
pub(super) fn full(
    plane: &Plane,
    expand: [usize; 2],
    width: usize,
    height: usize,
) -> Result<Vec<u8>, Fault> {
    // Narrow planes are not worth the trouble to libjpeg.
    let fancy = plane.width > 2;
    let mut out = Vec::with_capacity(width * height);
    let mut line = Vec::new();
    for y in 0..height {
        let (from, above) = (y / expand[1], y % 2 == 0);
        let row = plane.row(from.min(plane.height - 1));
        line.clear();
        match expand {
            [1, 1] => line.extend_from_slice(row),
            [2, 1] if fancy => widen(row, &mut line),
            [1, 2] => {
                let bias = if above { 1 } else { 2 };
                let other = plane.neighbour(from, above);
                let mix = |(a, b): (&u8, &u8)| (3 * u16::from(*a) + u16::from(*b) + bias) >> 2;
                line.extend(row.iter().zip(other).map(mix).map(|v| v as u8));
            }
            [2, 2] if fancy => {
                let other = plane.neighbour(from, above);
                let sum = |(a, b): (&u8, &u8)| 3 * u16::from(*a) + u16::from(*b);
                widen_sums(row.iter().zip(other).map(sum), &mut line);
            }
            [h, _] => line.extend(row.iter().flat_map(|&v| std::iter::repeat_n(v, h))),
        }
        out.extend_from_slice(line.get(..width).ok_or("a damaged frame")?);
    }
    Ok(out)
}

/// Twice as wide.
fn widen(row: &[u8], out: &mut Vec<u8>) {
    let at = |x: usize| u16::from(row[x]);
    let last = row.len() - 1;
    for x in 0..=last {
        let left = match x {
            0 => at(0),
            _ => (3 * at(x) + at(x - 1) + 1) >> 2,
        };
        let right = match x {
            _ if x == last => at(x),
            _ => (3 * at(x) + at(x + 1) + 2) >> 2,
        };
        out.extend([left as u8, right as u8]);
    }
}

/// The same of sums that weigh 4.
fn widen_sums(sums: impl Iterator<Item = u16>, out: &mut Vec<u8>) {
    let mut sums = sums.peekable();
    let mut last = None;
    while let Some(this) = sums.next() {
        let left = match last {
            None => (4 * this + 8) >> 4,
            Some(last) => (3 * this + last + 8) >> 4,
        };
        let right = match sums.peek() {
            None => (4 * this + 7) >> 4,
            Some(next) => (3 * this + next + 7) >> 4,
        };
        out.extend([left as u8, right as u8]);
        last = Some(this);
    }
}
