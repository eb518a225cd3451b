//! The first picture of a TIFF file, as Pillow has it.
//!
//! The `image` crate reads no palettes, no grey beside alpha and no YCbCr, and rounds inks another way
//! than Pillow, so its `tiff` crate is asked for the samples as they are stored.

use std::io::{Cursor, ErrorKind};

use image::RgbImage;
use image::metadata::Orientation;
use tiff::decoder::{Decoder, DecodingResult};
use tiff::tags::Tag;
use tiff::{ColorType, TiffError};

use super::format::Format;
use super::problem::{Problem, Reason};
use super::turned::Turned;
use super::{jpeg, limits};

/// The photometric interpretations of palettes and of grey levels.
const PALETTE: u8 = 3;
const GREY: u8 = 1;
/// What an extra sample says of itself that is alpha by which colours were multiplied.
const ASSOCIATED: u16 = 1;

/// The samples of a picture.
struct Samples {
    values: DecodingResult,
    size: [usize; 2],
    /// How many a pixel has.
    each: usize,
    /// Their bits.
    bits: u8,
    /// Whether those of one kind stand together.
    planar: bool,
}

/// What samples are.
enum Colors {
    Grey,
    /// Indices of a palette: all reds, greens and blues in 16 bits.
    Palette(Vec<u16>),
    Rgb,
    Cmyk,
    YCbCr,
}

/// Decodes a file.
pub(super) fn decode(bytes: &[u8]) -> Result<Turned, Problem> {
    let indexed = as_grey(bytes);
    let bytes = indexed.as_deref().unwrap_or(bytes);
    let mut decoder = Decoder::new(Cursor::new(bytes)).map_err(problem)?;
    let (width, height) = decoder.dimensions().map_err(problem)?;
    limits::check(Format::Tiff, width, height)?;
    let kind = decoder.colortype().map_err(problem)?;
    let (colors, each) = match kind {
        ColorType::Gray(_) if indexed.is_some() => {
            let map = decoder.get_tag_u16_vec(Tag::ColorMap).map_err(problem)?;
            (Colors::Palette(map), 1)
        }
        ColorType::Gray(_) => (Colors::Grey, 1),
        ColorType::GrayA(_) => (Colors::Grey, 2),
        ColorType::Multiband { num_samples, .. } => (Colors::Grey, usize::from(num_samples)),
        ColorType::RGB(_) => (Colors::Rgb, 3),
        ColorType::RGBA(_) => (Colors::Rgb, 4),
        ColorType::CMYK(_) => (Colors::Cmyk, 4),
        ColorType::CMYKA(_) => (Colors::Cmyk, 5),
        ColorType::YCbCr(_) => (Colors::YCbCr, 3),
        other => return Err(unsupported(format!("{other:?}"))),
    };
    let few = kind.bit_depth() < 8;
    if (few && each > 1) || ![1, 2, 4, 8, 16, 32, 64].contains(&kind.bit_depth()) {
        return Err(unsupported(format!("{kind:?}")));
    }
    let extra = decoder.find_tag_unsigned_vec::<u16>(Tag::ExtraSamples);
    let associated = extra
        .map_err(problem)?
        .is_some_and(|e| e.first() == Some(&ASSOCIATED));
    let orientation = decoder.find_tag_unsigned::<u8>(Tag::Orientation);
    let mut values = DecodingResult::U8(Vec::new());
    let layout = decoder.read_image_to_buffer(&mut values).map_err(problem)?;
    let samples = Samples {
        values,
        size: [width as usize, height as usize],
        each,
        bits: kind.bit_depth(),
        planar: layout.planes > 1,
    };
    Ok(Turned {
        picture: samples.picture(&colors, associated && each > 1)?,
        // A damaged note about the orientation doesn't make a picture unreadable.
        orientation: orientation.ok().flatten().and_then(Orientation::from_exif),
    })
}

impl Samples {
    fn picture(&self, colors: &Colors, associated: bool) -> Result<RgbImage, Problem> {
        let [width, height] = self.size;
        let alpha = match colors {
            Colors::Grey => 1,
            _ => 3,
        };
        let mut pixels = Vec::with_capacity(3 * width * height);
        for place in 0..width * height {
            let at = |sample: usize| self.at(place, sample);
            let mut pixel = match colors {
                Colors::Grey => [at(0)?; 3],
                Colors::Palette(map) => entry(map, self.index(place))?,
                Colors::Rgb => [at(0)?, at(1)?, at(2)?],
                Colors::Cmyk => {
                    let light = [at(0)?, at(1)?, at(2)?].map(|ink| 255 - ink);
                    jpeg::inked(light, 255 - at(3)?)
                }
                Colors::YCbCr => jpeg::rgb(at(0)?, at(1)?, at(2)?),
            };
            if associated {
                let alpha = u32::from(at(alpha)?);
                pixel = pixel.map(|v| {
                    (u32::from(v) * 255)
                        .checked_div(alpha)
                        .unwrap_or(0)
                        .min(255) as u8
                });
            }
            pixels.extend_from_slice(&pixel);
        }
        RgbImage::from_raw(width as u32, height as u32, pixels)
            .ok_or_else(|| unsupported("its samples don't fill it".to_owned()))
    }

    /// A sample in eight bits: of 16 the upper ones, of few as many levels; others stand for
    /// themselves.
    fn at(&self, place: usize, sample: usize) -> Result<u8, Problem> {
        if self.bits < 8 {
            let levels = (1u16 << self.bits) - 1;
            return Ok((u16::from(self.index(place)) * 255 / levels) as u8);
        }
        let index = match self.planar {
            true => sample * self.size[0] * self.size[1] + place,
            false => place * self.each + sample,
        };
        let missing = || unsupported("its samples don't fill it".to_owned());
        let value = match &self.values {
            DecodingResult::U8(v) => v.get(index).copied(),
            DecodingResult::I8(v) => v.get(index).map(|v| v.cast_unsigned()),
            DecodingResult::U16(v) => v.get(index).map(|v| (v >> 8) as u8),
            DecodingResult::I16(v) => v.get(index).map(|v| (*v).clamp(0, 255) as u8),
            DecodingResult::U32(v) => v.get(index).map(|v| (*v).min(255) as u8),
            DecodingResult::I32(v) => v.get(index).map(|v| (*v).clamp(0, 255) as u8),
            DecodingResult::F32(v) => v.get(index).map(|v| *v as u8),
            DecodingResult::F64(v) => v.get(index).map(|v| *v as u8),
            _ => return Err(unsupported(format!("samples of {} bits", self.bits))),
        };
        value.ok_or_else(missing)
    }

    /// The one sample of a pixel, of up to eight bits: rows begin with a byte.
    fn index(&self, place: usize) -> u8 {
        let DecodingResult::U8(bytes) = &self.values else {
            return 0;
        };
        let [width, bits] = [self.size[0], usize::from(self.bits)];
        let stride = (width * bits).div_ceil(8);
        let first = (place % width) * bits;
        let byte = bytes.get(place / width * stride + first / 8).copied();
        let rest = byte.unwrap_or(0) << (first % 8);
        rest >> (8 - bits.min(8))
    }
}

/// A colour of a palette: the upper bytes of its three numbers.
fn entry(map: &[u16], index: u8) -> Result<[u8; 3], Problem> {
    let colors = map.len() / 3;
    let part = |part: usize| {
        map.get(part * colors + usize::from(index))
            .map(|v| (v >> 8) as u8)
    };
    match (part(0), part(1), part(2)) {
        (Some(r), Some(g), Some(b)) if usize::from(index) < colors => Ok([r, g, b]),
        _ => Err(damaged(format!("its palette has no color {index}"))),
    }
}

/// The file with its palette's indices called grey levels: the decoder takes those.
fn as_grey(bytes: &[u8]) -> Option<Vec<u8>> {
    let little = bytes.starts_with(b"II");
    let number = |at: usize, length: usize| -> Option<usize> {
        let bytes = bytes.get(at..at.checked_add(length)?)?;
        let add = |sum: usize, byte: &u8| sum << 8 | usize::from(*byte);
        Some(match little {
            true => bytes.iter().rev().fold(0, add),
            false => bytes.iter().fold(0, add),
        })
    };
    // Where the directory's offset stands, its length, that of the number of entries, of an entry, and
    // where in it the value is.
    let [at, offset, count, size, value] = match number(2, 2)? {
        43 => [8, 8, 8, 20, 12],
        _ => [4, 4, 2, 12, 8],
    };
    let directory = number(at, offset)?;
    let entries = number(directory, count)?.min(bytes.len() / size);
    let first = directory.checked_add(count)?;
    let mut places = (0..entries).map(|entry| first + entry * size);
    let tag = usize::from(Tag::PhotometricInterpretation.to_u16());
    let place = places.find(|&place| number(place, 2) == Some(tag))? + value;
    if number(place, 2)? != usize::from(PALETTE) {
        return None;
    }
    let mut grey = bytes.to_vec();
    grey[place + usize::from(!little)] = GREY;
    Some(grey)
}

fn damaged(text: String) -> Problem {
    Problem::Damaged {
        format: Format::Tiff.name(),
        source: Reason(text),
    }
}

fn unsupported(text: String) -> Problem {
    Problem::Kind {
        format: Format::Tiff.name(),
        source: Reason(text),
    }
}

fn problem(error: TiffError) -> Problem {
    let (format, source) = (Format::Tiff.name(), Reason(error.to_string()));
    match error {
        TiffError::IoError(io) if io.kind() == ErrorKind::UnexpectedEof => {
            Problem::Truncated { format, source }
        }
        TiffError::UnsupportedError(_) => Problem::Kind { format, source },
        TiffError::LimitsExceeded => Problem::TooLarge { format, source },
        _ => Problem::Damaged { format, source },
    }
}
