//! A picture as its file stores it, and how it is to be seen.

use image::metadata::Orientation;
use image::{DynamicImage, RgbImage};

/// A decoded picture, and how it is to be turned.
pub(super) struct Turned {
    pub(super) picture: RgbImage,
    pub(super) orientation: Option<Orientation>,
}

impl Turned {
    /// The picture as it is to be seen.
    pub(super) fn upright(self) -> RgbImage {
        let Some(orientation) = self.orientation else {
            return self.picture;
        };
        let mut picture = DynamicImage::from(self.picture);
        picture.apply_orientation(orientation);
        picture.into_rgb8()
    }
}
