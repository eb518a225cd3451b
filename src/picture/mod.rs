//! Pictures: reading them from files, bringing them to size and to the planes of numbers that
//! networks take and give.
//!
//! A file is what its bytes say, whatever its name: PNG, JPEG, WebP, BMP, GIF (its first frame) or TIFF
//! (its first picture); others are refused by their format's name. Pixels are those of Pillow's
//! `convert("RGB")`: grey becomes three equal channels, transparency and colour profiles are dropped,
//! palettes and inks become colours, and of 16 bits the upper 8 stay. In two things Pillow is not
//! followed: orientation is obeyed, as by its `ImageOps.exif_transpose` and by OpenCV, and 16 bits of
//! grey keep their upper 8 as OpenCV has them, where Pillow makes all but the darkest white. JPEG files
//! have the very pixels that libjpeg-turbo gives both.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::codecs::bmp::BmpDecoder;
use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageResult, Limits, RgbImage};

use crate::base::fsio;

pub mod format;
mod gif;
mod jpeg;
mod limits;
mod planes;
mod problem;
mod resample;
mod tiff;
mod turned;

use format::Format;
pub use planes::{Pixels, from_planes, planes};
pub use problem::{Problem, Reason};
pub use resample::{Filter, resample, resample_unrounded};
use turned::Turned;

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
        /// Why.
        source: Problem,
    },
}

/// Reads a file.
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

/// Reads the bytes of a file.
///
/// # Errors
/// Why they are no picture.
pub fn decode(bytes: &[u8]) -> Result<RgbImage, Problem> {
    let source = || Cursor::new(bytes);
    let turned = match Format::of(bytes) {
        None if bytes.is_empty() => return Err(Problem::Empty),
        None => return Err(Problem::Unknown),
        Some(Format::Other(name)) => return Err(Problem::Format(name)),
        Some(Format::Jpeg) => whole_jpeg(bytes)?,
        Some(Format::Png) => decoded(
            Format::Png,
            PngDecoder::with_limits(source(), Limits::default()),
        )?,
        Some(Format::Bmp) => decoded(Format::Bmp, BmpDecoder::new(source()))?,
        Some(Format::WebP) => {
            whole_riff(bytes)?;
            decoded(Format::WebP, WebPDecoder::new(source()))?
        }
        Some(Format::Tiff) => tiff::decode(bytes)?,
        Some(Format::Gif) => Turned {
            picture: gif::decode(bytes)?,
            orientation: None,
        },
    };
    Ok(turned.upright())
}

fn whole_jpeg(bytes: &[u8]) -> Result<Turned, Problem> {
    let format = Format::Jpeg.name();
    let file = jpeg::decode(bytes).map_err(|fault| {
        let source = Reason(fault.text);
        match fault.kind {
            jpeg::Kind::Cut => Problem::Truncated { format, source },
            jpeg::Kind::Unsupported => Problem::Kind { format, source },
            jpeg::Kind::TooLarge => Problem::TooLarge { format, source },
            jpeg::Kind::Damaged => Problem::Damaged { format, source },
        }
    })?;
    Ok(Turned {
        picture: file.picture,
        orientation: file.exif.as_deref().and_then(Orientation::from_exif_chunk),
    })
}

/// What a decoder of the `image` crate makes of a file.
fn decoded<D: ImageDecoder>(format: Format, decoder: ImageResult<D>) -> Result<Turned, Problem> {
    let problem = |error| Problem::of_decoder(format, &error);
    let mut decoder = decoder.map_err(problem)?;
    let (width, height) = decoder.dimensions();
    limits::check(format, width, height)?;
    let mut limits = Limits::default();
    limits.reserve(decoder.total_bytes()).map_err(problem)?;
    decoder.set_limits(limits).map_err(problem)?;
    // A damaged note about the orientation doesn't make a picture unreadable.
    let orientation = decoder.orientation().ok();
    let picture = DynamicImage::from_decoder(decoder).map_err(problem)?;
    Ok(Turned {
        picture: eight_bits(picture),
        orientation,
    })
}

/// Of 16 bits the upper ones stay.
fn eight_bits(picture: DynamicImage) -> RgbImage {
    let upper = |v: u16| (v >> 8) as u8;
    match picture {
        DynamicImage::ImageLuma16(_)
        | DynamicImage::ImageLumaA16(_)
        | DynamicImage::ImageRgb16(_)
        | DynamicImage::ImageRgba16(_) => {
            let wide = picture.into_rgb16();
            RgbImage::from_fn(wide.width(), wide.height(), |x, y| {
                image::Rgb(wide.get_pixel(x, y).0.map(upper))
            })
        }
        _ => picture.into_rgb8(),
    }
}

/// A RIFF file says how long it is, and a shorter one lacks something, if only its last rows.
fn whole_riff(bytes: &[u8]) -> Result<(), Problem> {
    let length = bytes.get(4..8).and_then(<[u8]>::first_chunk).copied();
    let length = length.map_or(0, u32::from_le_bytes) as usize;
    // Some writers forget the byte that fills up the last chunk.
    match length + 8 > bytes.len() + 1 {
        false => Ok(()),
        true => Err(Problem::Truncated {
            format: Format::WebP.name(),
            source: Reason(format!(
                "it says it has {} bytes, it has {}",
                length + 8,
                bytes.len()
            )),
        }),
    }
}

#[cfg(test)]
mod tests;
