//! Pictures: reading them from files and bringing them to size.
//!
//! A file is what its bytes say, whatever its name. Its EXIF orientation is obeyed, as OpenCV's
//! `imread` does (Pillow's `open` does not; the reference chain calls `ImageOps.exif_transpose`).
//! Grey becomes three equal channels, transparency is dropped and 16 bits are rounded to 8, as
//! Pillow and OpenCV have it, so that a picture says here what it says there.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::error::{DecodingError, ImageFormatHint};
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, RgbImage};

use crate::fsio;

mod resample;

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
/// [`Error::File`]; [`Error::Decode`] for what is cut short, damaged, of another format or larger
/// than half a gigabyte when unpacked.
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
    if reader.format() == Some(ImageFormat::Jpeg) && !jpeg_ends(bytes) {
        let hint = ImageFormatHint::Exact(ImageFormat::Jpeg);
        let reason = "the file is cut short: its end marker is missing";
        return Err(ImageError::Decoding(DecodingError::new(hint, reason)));
    }
    let mut decoder = reader.into_decoder()?;
    // A damaged note about the orientation doesn't make a picture unreadable.
    let orientation = decoder.orientation();
    let mut picture = DynamicImage::from_decoder(decoder)?;
    if let Ok(orientation) = orientation {
        picture.apply_orientation(orientation);
    }
    Ok(picture.into_rgb8())
}

/// Whether a JPEG file has its end. The decoder fills in grey for what is missing of one that was
/// cut short, and a half grey picture would be counted as if it were one.
fn jpeg_ends(bytes: &[u8]) -> bool {
    // Past the start marker. Every segment says how long it is, so that the end marker of a
    // thumbnail inside of one is not taken for the picture's.
    let mut at = 2;
    while let Some(&[marker, kind]) = bytes.get(at..at + 2).and_then(|b| b.first_chunk()) {
        match (marker, kind) {
            (0xFF, 0xD9) => return true,
            // Between segments: fill bytes, restarts; in a scan: its data, where 0xFF is followed
            // by 0.
            (0xFF, 0x01 | 0xD0..=0xD7) => at += 2,
            (0xFF, 0x02..=0xFE) => {
                let length = bytes.get(at + 2..at + 4).and_then(|b| b.first_chunk());
                at += 2 + length.map_or(0, |&l| usize::from(u16::from_be_bytes(l)));
            }
            _ => at += 1,
        }
    }
    false
}
