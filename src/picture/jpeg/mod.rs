//! JPEG files, decoded to the very pixels that Pillow and OpenCV see.
//!
//! The standard leaves a decoder some freedom in rounding and in how colour is brought to full
//! size, and decoders use it: three percent of the values of a photograph differ by up to 3 of 255
//! between libjpeg-turbo and the `image` crate. Face classifiers make tenths of a probability of
//! that where a face's box moves by a pixel. So this is libjpeg-turbo's arithmetic at its defaults:
//! the accurate integer transform, "fancy" upsampling, 16-bit fixed-point colour.
//!
//! Baseline, extended and progressive files of 8 bits with Huffman codes are read; others, and
//! files that are damaged or cut short, are refused with the reason.

mod fault;
mod header;
mod huffman;
mod idct;
mod scan;
mod upsample;

use image::RgbImage;

pub(super) use fault::{Fault, Kind};
use header::{ColorSpace, Header, Reader};
use upsample::Plane;

/// A decoded file.
#[derive(Debug)]
pub(super) struct Jpeg {
    /// Its pixels, not yet turned.
    pub(super) picture: RgbImage,
    /// Its EXIF data, if there is any.
    pub(super) exif: Option<Vec<u8>>,
}

/// Decodes a file; the error says what is wrong with it.
pub(super) fn decode(bytes: &[u8]) -> Result<Jpeg, Fault> {
    let mut reader = Reader::new(bytes)?;
    let mut header = Header::default();
    while let Some(scan) = reader.until_scan(&mut header)? {
        let frame = header.frame.as_mut().ok_or("a scan before its frame")?;
        let end = scan::decode(frame, &scan, &header.tables, reader.rest())?;
        reader.skip(end);
    }
    let cut = || Fault::cut("the file is cut short: its end marker is missing");
    let Some(frame) = &header.frame else {
        return Err(match reader.ended {
            true => "a file without a picture".into(),
            false => cut(),
        });
    };
    if !reader.ended && (frame.progressive || !frame.complete()) {
        return Err(cut());
    }
    if !frame.complete() {
        return Err("a colour without a scan".into());
    }
    let space = header.color_space(frame)?;
    let planes: Vec<Vec<u8>> = frame
        .components
        .iter()
        .map(|component| {
            let samples = idct::samples(component);
            let plane = Plane {
                samples: &samples,
                stride: 8 * component.columns,
                width: component.width,
                height: component.height,
            };
            upsample::full(&plane, component.expand(frame)?, frame.width, frame.height)
        })
        .collect::<Result<_, Fault>>()?;
    Ok(Jpeg {
        picture: colors(space, &planes, frame.width, frame.height),
        exif: header.exif,
    })
}

/// Whole planes to pixels.
fn colors(space: ColorSpace, planes: &[Vec<u8>], width: usize, height: usize) -> RgbImage {
    let mut picture = RgbImage::new(width as u32, height as u32);
    let pixels = picture.chunks_exact_mut(3);
    match (space, planes) {
        (ColorSpace::Grey, [grey]) => {
            for (pixel, &v) in pixels.zip(grey) {
                pixel.fill(v);
            }
        }
        (_, [a, b, c]) => {
            let convert = if space == ColorSpace::Rgb {
                |a, b, c| [a, b, c]
            } else {
                rgb
            };
            for (((pixel, &a), &b), &c) in pixels.zip(a).zip(b).zip(c) {
                pixel.copy_from_slice(&convert(a, b, c));
            }
        }
        (_, planes) => {
            for (i, pixel) in pixels.enumerate() {
                let at = |plane: usize| planes[plane][i];
                let light = if space == ColorSpace::Cmyk {
                    [at(0), at(1), at(2)]
                } else {
                    rgb(at(0), at(1), at(2)).map(|v| 255 - v)
                };
                pixel.copy_from_slice(&inked(light, at(3)));
            }
        }
    }
    picture
}

pub(super) fn rgb(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    /// A constant in 16 bits of fraction.
    const fn fix(x: f64) -> i32 {
        (x * 65536.0 + 0.5) as i32
    }
    const HALF: i32 = 1 << 15;
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    let red = y + ((fix(1.402) * cr + HALF) >> 16);
    let green = y + ((-fix(0.34414) * cb - fix(0.71414) * cr + HALF) >> 16);
    let blue = y + ((fix(1.772) * cb + HALF) >> 16);
    [red, green, blue].map(|v| v.clamp(0, 255) as u8)
}

/// Printing inks to colours as Pillow does it: the file is taken to hold what is *not* printed, as
/// Adobe's programs write it.
pub(super) fn inked(light: [u8; 3], key: u8) -> [u8; 3] {
    let key = u32::from(key);
    light.map(|v| {
        let product = u32::from(255 - v) * key + 128;
        (key - ((product + (product >> 8)) >> 8)) as u8
    })
}
