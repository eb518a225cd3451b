//! YuNet 2023mar: what its answers mean, and which boxes stay.
//!
//! As OpenCV's FaceDetectorYN has it (`modules/objdetect/src/face_detect.cpp`): the network answers
//! for every cell of three grids whether there is a face at its centre, and which. There are no
//! prior boxes.

use super::face::Face;

/// Sides of the cells, in pixels of what the network sees.
pub(super) const STRIDES: [usize; 3] = [8, 16, 32];
/// As many candidates as OpenCV considers, best first.
const TOP: usize = 5000;
/// A box this many times as large as the grid is no answer but a broken model.
const LARGEST: f64 = 16.0;

/// The answers on one grid, row by row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grid<'a> {
    /// Side of a cell.
    pub(super) stride: usize,
    /// Cells in a row.
    pub(super) columns: usize,
    /// Probability of a face, one per cell.
    pub(super) cls: &'a [f32],
    /// Probability that its box is good, one per cell.
    pub(super) obj: &'a [f32],
    /// Offset of the centre and logarithm of the sizes, in cells; four per cell.
    pub(super) bbox: &'a [f32],
    /// Offsets of the five landmarks, in cells; ten per cell.
    pub(super) kps: &'a [f32],
}

impl Grid<'_> {
    /// The faces of at least this score, in the order of the cells.
    ///
    /// # Errors
    /// Words for a box that can't be one.
    pub(super) fn decode(&self, least: f32) -> Result<Vec<Face>, String> {
        let mut faces = Vec::new();
        for (cell, (cls, obj)) in self.cls.iter().zip(self.obj).enumerate() {
            let score = (cls.clamp(0.0, 1.0) * obj.clamp(0.0, 1.0)).sqrt();
            if score.is_nan() {
                return Err(format!("a score of {cls} · {obj}"));
            }
            if score >= least {
                faces.push(self.face(cell, score)?);
            }
        }
        Ok(faces)
    }

    fn face(&self, cell: usize, score: f32) -> Result<Face, String> {
        let stride = self.stride as f64;
        let (row, column) = (cell / self.columns, cell % self.columns);
        let at = |x: f32, y: f32| {
            [
                (column as f64 + f64::from(x)) * stride,
                (row as f64 + f64::from(y)) * stride,
            ]
        };
        let bbox = &self.bbox[4 * cell..][..4];
        let [x, y] = at(bbox[0], bbox[1]);
        let side = |log: f32| f64::from(log.exp()) * stride;
        let (width, height) = (side(bbox[2]), side(bbox[3]));
        let kps = self.kps[10 * cell..][..10].chunks_exact(2);
        let mut landmarks = [[0.0; 2]; 5];
        for (landmark, xy) in landmarks.iter_mut().zip(kps) {
            *landmark = at(xy[0], xy[1]);
        }
        let limit = LARGEST * (self.columns.max(self.cls.len() / self.columns) as f64) * stride;
        let all = [x, y, width, height];
        let mut numbers = all.iter().chain(landmarks.iter().flatten());
        if let Some(n) = numbers.find(|n| !n.is_finite() || n.abs() > limit) {
            return Err(format!("a face with a coordinate of {n} pixels"));
        }
        Ok(Face {
            bounds: [
                x - width / 2.0,
                y - height / 2.0,
                x + width / 2.0,
                y + height / 2.0,
            ],
            landmarks,
            score,
        })
    }
}

/// Leaves the best of the boxes that overlap each other by more than `most`, best first.
pub(super) fn suppress(mut faces: Vec<Face>, most: f32) -> Vec<Face> {
    // Stable, so that of equals the first cell wins.
    faces.sort_by(|a, b| b.score.total_cmp(&a.score));
    faces.truncate(TOP);
    let mut kept: Vec<(Face, Rect)> = Vec::new();
    for face in faces {
        let rect = Rect::new(face.bounds);
        if kept.iter().all(|(_, other)| rect.overlap(other) <= most) {
            kept.push((face, rect));
        }
    }
    kept.into_iter().map(|(face, _)| face).collect()
}

/// A box in whole pixels, cut towards zero: OpenCV measures overlap on those.
#[derive(Debug, Clone, Copy)]
struct Rect {
    x: i64,
    y: i64,
    width: i64,
    height: i64,
}

impl Rect {
    fn new([left, top, right, bottom]: [f64; 4]) -> Self {
        Self {
            x: left as i64,
            y: top as i64,
            width: (right - left) as i64,
            height: (bottom - top) as i64,
        }
    }

    fn area(&self) -> i64 {
        self.width * self.height
    }

    /// Intersection over union; 1 for two boxes without area.
    fn overlap(&self, other: &Self) -> f32 {
        let both = self.area() + other.area();
        if both <= 0 {
            return 1.0;
        }
        let side = |a: i64, a_size: i64, b: i64, b_size: i64| {
            ((a + a_size).min(b + b_size) - a.max(b)).max(0)
        };
        let shared = side(self.x, self.width, other.x, other.width)
            * side(self.y, self.height, other.y, other.height);
        // Through the distance and in these precisions, as it is written there.
        let distance = 1.0 - shared as f64 / (both - shared) as f64;
        1.0 - distance as f32
    }
}

#[cfg(test)]
mod tests;
