//! Files of every kind are read as Pillow and OpenCV read them, or refused by name.

use std::error::Error as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::{RgbImage, imageops};
use popalign::base::fsio::sha256_bytes;
use popalign::picture;
use popalign::picture::Error;
use serde::Deserialize;

use crate::support::{fixture, frozen};

fn read(name: &str) -> RgbImage {
    picture::read(&fixture("formats").join(name)).unwrap()
}

#[test]
fn every_format_is_read_as_the_references_read_it() {
    for name in [
        "grey.png",
        "one_bit.png",
        "palette.png",
        "alpha.png",
        "grey_alpha.png",
        "bits16.png",
        "grey16.png",
        "grey.jpg",
        "cmyk.jpg",
        "subsampled.jpg",
        "progressive.jpg",
        "turned6.jpg",
    ] {
        let found = read(name);
        let expected = read(&format!("{name}.expected.png"));
        assert!(found == expected, "{name}");
    }
}

#[derive(Deserialize)]
struct Jpeg {
    name: String,
    sha256: String,
    file: String,
}

fn jpegs() -> Vec<(Jpeg, Vec<u8>)> {
    let cases: Vec<Jpeg> = frozen("jpeg.json");
    let decoded = |case: Jpeg| {
        let file = STANDARD.decode(&case.file).unwrap();
        (case, file)
    };
    cases.into_iter().map(decoded).collect()
}

#[test]
fn jpeg_pixels_are_libjpegs_to_the_bit() {
    for (case, file) in jpegs() {
        let found = picture::decode(&file).unwrap();
        assert_eq!(sha256_bytes(found.as_raw()), case.sha256, "{}", case.name);
    }
}

#[test]
fn a_damaged_jpeg_is_read_or_refused_but_never_crashes() {
    let files = jpegs();
    // Every 7th byte of every file: turned, dropped, or the end of the file.
    for (case, file) in files.iter().filter(|(_, file)| file.len() < 2500) {
        for at in (2..file.len()).step_by(7) {
            let mut turned = file.clone();
            turned[at] ^= 0x55;
            let mut full = file.clone();
            full[at] = 0xFF;
            let dropped = [&file[..at], &file[at + 1..]].concat();
            for damaged in [&turned, &full, &dropped] {
                let _ = picture::decode(damaged);
            }
            let cut = picture::decode(&file[..at]);
            // Without its end marker a sequential file is still whole.
            assert!(
                cut.is_err() || at + 2 >= file.len(),
                "{} cut at {at}",
                case.name
            );
        }
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
        let Err(error) = picture::read(&path) else {
            panic!("{name} is read");
        };
        assert!(matches!(error, Error::Decode { .. }), "{name}: {error}");
        assert!(error.to_string().contains(name), "{error}");
        assert!(error.source().is_some());
    }
    let missing = picture::read(&dir.path().join("missing.png")).unwrap_err();
    assert!(matches!(missing, Error::File(_)), "{missing}");
    let folder = picture::read(dir.path()).unwrap_err();
    assert!(matches!(folder, Error::File(_)), "{folder}");
}
