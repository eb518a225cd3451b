//! Files of every kind are read as Pillow and OpenCV read them, or refused by name.

use std::error::Error as _;

use image::{RgbImage, imageops};
use popalign::score::pictures::{self, Error};

use crate::support::fixture;

/// JPEG decoders may differ by rounding of the transform and of upsampled colour; the most at one
/// value, and on average.
const JPEG: (u8, f64) = (12, 1.0);
/// 16 bits are rounded here, cut off in OpenCV.
const ROUNDED: (u8, f64) = (1, 1.0);
const EXACT: (u8, f64) = (0, 0.0);

fn read(name: &str) -> RgbImage {
    pictures::read(&fixture("formats").join(name)).unwrap()
}

#[test]
fn every_format_is_read_as_the_references_read_it() {
    for (name, (most, mean)) in [
        ("grey.png", EXACT),
        ("one_bit.png", EXACT),
        ("palette.png", EXACT),
        ("alpha.png", EXACT),
        ("grey_alpha.png", EXACT),
        ("bits16.png", ROUNDED),
        ("grey16.png", ROUNDED),
        ("grey.jpg", JPEG),
        ("cmyk.jpg", JPEG),
        ("subsampled.jpg", JPEG),
        ("progressive.jpg", JPEG),
        ("turned6.jpg", JPEG),
    ] {
        let found = read(name);
        let expected = read(&format!("{name}.expected.png"));
        assert_eq!(found.dimensions(), expected.dimensions(), "{name}");
        let off: Vec<u8> = found
            .iter()
            .zip(expected.iter())
            .map(|(a, b)| a.abs_diff(*b))
            .collect();
        let sum: f64 = off.iter().copied().map(f64::from).sum();
        let (worst, average) = (off.iter().max().unwrap(), sum / off.len() as f64);
        assert!(
            *worst <= most && average <= mean,
            "{name}: {worst} at most, {average} on average"
        );
    }
}

#[test]
fn every_exif_orientation_is_obeyed() {
    let raw = read("subsampled.jpg");
    let transposed = imageops::flip_horizontal(&imageops::rotate90(&raw));
    for (turned, expected) in [
        (2, imageops::flip_horizontal(&raw)),
        (3, imageops::rotate180(&raw)),
        (4, imageops::flip_vertical(&raw)),
        (5, transposed.clone()),
        (6, imageops::rotate90(&raw)),
        (7, imageops::rotate180(&transposed)),
        (8, imageops::rotate270(&raw)),
    ] {
        assert!(read(&format!("turned{turned}.jpg")) == expected, "{turned}");
    }
}

#[test]
fn what_is_no_whole_picture_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let png = std::fs::read(fixture("astronaut.png")).unwrap();
    let jpg = std::fs::read(fixture("formats/subsampled.jpg")).unwrap();
    let mut flipped = png.clone();
    flipped[png.len() / 2] ^= 0x40;
    for (name, bytes) in [
        ("cut.png", &png[..png.len() / 2]),
        ("head.png", &png[..40]),
        ("flipped.png", &flipped[..]),
        ("cut.jpg", &jpg[..jpg.len() / 2]),
        ("short.jpg", &jpg[..jpg.len() - 40]),
        ("empty.png", b""),
        ("text.png", b"a photo of a doctor"),
    ] {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let Err(error) = pictures::read(&path) else {
            panic!("{name} is read");
        };
        assert!(matches!(error, Error::Decode { .. }), "{name}: {error}");
        assert!(error.to_string().contains(name), "{error}");
        assert!(error.source().is_some());
    }
    let missing = pictures::read(&dir.path().join("missing.png")).unwrap_err();
    assert!(matches!(missing, Error::File(_)), "{missing}");
    let folder = pictures::read(dir.path()).unwrap_err();
    assert!(matches!(folder, Error::File(_)), "{folder}");
}
