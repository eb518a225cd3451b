//! Pictures: reading them from files, bringing them to size and to the planes of numbers that
//! networks take and give.
//!
//! A file is what its bytes say, whatever its name. Its EXIF orientation is obeyed, as OpenCV's
//! `imread` does (Pillow's `open` does not; the reference chain calls `ImageOps.exif_transpose`).
//! JPEG files have the very pixels that libjpeg-turbo gives both. Grey becomes three equal
//! channels, transparency is dropped and 16 bits are rounded to 8, as Pillow and OpenCV have it, so
//! that a picture says here what it says there.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::error::{DecodingError, ImageFormatHint};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, RgbImage};

use crate::base::fsio;

mod jpeg;
mod planes;
mod resample;

pub use planes::{Pixels, from_planes, planes};
pub use resample::{Filter, resample};

/// Why a file is no picture.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be read.
    #[error(transparent)]
    File(#[from] fsio::Error),
    /// The file is read, but is no whole picture in a format that is known.
    #[error("{} can't be read as a picture", path.display())]
    Decode {
        /// The file.
        path: PathBuf,
        /// The decoder's reason.
        source: ImageError,
    },
}

/// Reads a PNG or JPEG file.
///
/// # Errors
/// [`Error::File`]; [`Error::Decode`] for what is cut short, damaged, of another format or far too
/// large when unpacked.
pub fn read(path: &Path) -> Result<RgbImage, Error> {
    let bytes = fsio::read(path)?;
    decode(&bytes).map_err(|source| Error::Decode {
        path: path.to_path_buf(),
        source,
    })
}

/// Reads the bytes of a PNG or JPEG file.
///
/// # Errors
/// As [`read`].
pub fn decode(bytes: &[u8]) -> Result<RgbImage, ImageError> {
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
    let (mut picture, orientation) = if reader.format() == Some(ImageFormat::Jpeg) {
        let hint = ImageFormatHint::Exact(ImageFormat::Jpeg);
        let file = jpeg::decode(bytes)
            .map_err(|reason| ImageError::Decoding(DecodingError::new(hint, reason)))?;
        let orientation = file.exif.as_deref().and_then(Orientation::from_exif_chunk);
        (DynamicImage::from(file.picture), orientation)
    } else {
        let mut decoder = reader.into_decoder()?;
        // A damaged note about the orientation doesn't make a picture unreadable.
        let orientation = decoder.orientation().ok();
        (DynamicImage::from_decoder(decoder)?, orientation)
    };
    if let Some(orientation) = orientation {
        picture.apply_orientation(orientation);
    }
    Ok(picture.into_rgb8())
}
