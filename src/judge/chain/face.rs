//! A face, as detectors find it.

use serde::{Deserialize, Serialize};

/// A face in a picture. Coordinates are pixels of the picture, and may lie outside of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Face {
    /// Left, top, right and bottom of its box.
    pub bounds: [f64; 4],
    /// The person's right eye, left eye, tip of the nose, right and left corner of the mouth.
    pub landmarks: [[f64; 2]; 5],
    /// How sure the detector is, 0..1.
    pub score: f32,
}

impl Face {
    /// Width and height of the box.
    pub fn size(&self) -> [f64; 2] {
        let [left, top, right, bottom] = self.bounds;
        [right - left, bottom - top]
    }

    /// The face in a picture whose pixels are `ratio` times as large.
    pub(super) fn divided(mut self, ratio: f64) -> Self {
        let all = self.bounds.iter_mut();
        for x in all.chain(self.landmarks.iter_mut().flatten()) {
            *x /= ratio;
        }
        self
    }
}
