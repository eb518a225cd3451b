//! Files of every format beside Pillow's pixels (`scripts/oracle/formats.py`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Frozen {
    read: Vec<Read>,
    refused: Vec<Refused>,
}

#[derive(Deserialize)]
struct Read {
    name: String,
    file: String,
    /// How far a value may be off, of 255.
    most: u8,
    size: [u32; 2],
    pixels: String,
}

#[derive(Deserialize)]
struct Refused {
    name: String,
    file: String,
    problem: String,
}

fn frozen() -> Frozen {
    let text = include_str!("../../tests/fixtures/pictures/formats.json");
    serde_json::from_str(text).unwrap()
}

#[test]
fn pixels_are_pillows() {
    let mut wrong = Vec::new();
    for case in frozen().read {
        let found = match decode(&STANDARD.decode(&case.file).unwrap()) {
            Ok(found) => found,
            Err(problem) => {
                wrong.push(format!("{}: {problem}: {:?}", case.name, problem.reason()));
                continue;
            }
        };
        let expected = STANDARD.decode(&case.pixels).unwrap();
        if <[u32; 2]>::from(found.dimensions()) != case.size {
            wrong.push(format!("{}: {:?}", case.name, found.dimensions()));
            continue;
        }
        let both = found.as_raw().iter().zip(&expected);
        let worst = both.map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        if worst > case.most {
            wrong.push(format!("{}: {worst} off", case.name));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_is_not_read_is_refused_by_name() {
    let mut wrong = Vec::new();
    for case in frozen().refused {
        let found = match decode(&STANDARD.decode(&case.file).unwrap()) {
            Ok(_) => "it is read".to_owned(),
            Err(problem) => problem.to_string(),
        };
        if found != case.problem {
            wrong.push(format!("{}: {found}, expected {}", case.name, case.problem));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Whatever the damage, it is a typed problem.
#[test]
fn damaged_files_never_crash() {
    for case in frozen().read {
        let file = STANDARD.decode(&case.file).unwrap();
        for at in (0..file.len()).step_by(5) {
            let mut turned = file.clone();
            turned[at] ^= 0x55;
            let _ = decode(&turned);
            let mut full = file.clone();
            full[at] = 0xFF;
            let _ = decode(&full);
            let _ = decode(&file[..at]);
        }
    }
}

/// A small file may say that it is a large picture; it is refused before memory is taken.
#[test]
fn headers_of_giants_are_refused() {
    let mut checked = 0;
    for case in frozen().read {
        let mut file = STANDARD.decode(&case.file).unwrap();
        match &case.name[..] {
            // Width and height of 2^16.
            "rgb16.png" => file[16..24].copy_from_slice(&[0, 1, 0, 0, 0, 1, 0, 0]),
            "rgb.bmp" => file[18..26].copy_from_slice(&[0, 0, 1, 0, 0, 0, 1, 0]),
            // Of almost as much.
            "palette.gif" => file[6..10].fill(0xFF),
            _ => continue,
        }
        checked += 1;
        // A checksum may be found wrong first.
        let problem = decode(&file).unwrap_err().to_string();
        let refused = ["too large", "damaged"]
            .iter()
            .any(|kind| problem.starts_with(kind));
        assert!(refused, "{}: {problem}", case.name);
    }
    assert_eq!(checked, 3);
}

/// Pillow makes all but the darkest of 16 bits of grey white; the upper byte is what OpenCV has.
#[test]
fn wide_grey_keeps_its_upper_byte() {
    let mut bytes = Vec::new();
    let wide = image::ImageBuffer::from_fn(4, 1, |x, _| image::Luma([x as u16 * 20_000]));
    DynamicImage::ImageLuma16(wide)
        .write_to(&mut Cursor::new(&mut bytes), image::ImageFormat::Png)
        .unwrap();
    let row: Vec<u8> = decode(&bytes).unwrap().pixels().map(|p| p.0[0]).collect();
    assert_eq!(row, [0, 78, 156, 234]);
}
