//! The same answers as the reference chain and OpenCV on the same pixels.

use std::collections::BTreeMap;

use image::RgbImage;
use popalign::base::fsio::sha256_bytes;
use popalign::picture::{Filter, resample};
use serde::Deserialize;

use crate::support::{
    Frozen, PIXELS, PROBABILITY, YEARS, astronaut, chain, frozen, kept, recipes, same_attributes,
    same_faces,
};

#[derive(Deserialize)]
struct Resampled {
    bounds: [i64; 4],
    size: [u32; 2],
    filter: Filter,
    sha256: String,
}

#[test]
fn crops_and_sizes_are_pillows_to_the_bit() {
    let astronaut = astronaut();
    for case in frozen::<Vec<Resampled>>("resample.json") {
        let found = resample(&astronaut, case.bounds, case.size, case.filter);
        let (bounds, size, filter) = (case.bounds, case.size, case.filter);
        assert_eq!(found.dimensions(), size.into());
        let same = sha256_bytes(found.as_raw()) == case.sha256;
        assert!(same, "{bounds:?} to {size:?}, {filter:?}");
    }
}

fn looked_at() -> Vec<(&'static str, RgbImage, Frozen)> {
    let mut expected: BTreeMap<String, Frozen> = frozen("faces.json");
    let look = |(name, picture)| {
        let frozen = expected.remove(name).unwrap();
        assert!(frozen.is(&picture), "{name} is not the picture looked at");
        (name, picture, frozen)
    };
    recipes().into_iter().map(look).collect()
}

#[test]
fn faces_and_attributes_are_the_reference_chains() {
    let mut chain = chain(&[], 2);
    let cases = looked_at();
    let pictures: Vec<RgbImage> = cases.iter().map(|c| c.1.clone()).collect();
    let readings = chain.read(&pictures).unwrap();
    let mut faces = 0;
    for ((name, picture, expected), reading) in cases.iter().zip(&readings) {
        same_faces(name, &reading.faces, &expected.faces, PIXELS, PROBABILITY);
        same_faces(
            name,
            &reading.faces,
            &expected.opencv_fit,
            PIXELS,
            PROBABILITY,
        );
        for (face, expected) in reading.faces.iter().zip(&expected.faces) {
            let verdict = chain.classify_box(picture, face.bounds).unwrap();
            let expected = expected.attributes.as_ref().unwrap();
            same_attributes(name, kept(&verdict), expected, PROBABILITY, YEARS);
            faces += 1;
        }
    }
    assert_eq!(faces, 26);
}

#[test]
fn a_picture_at_its_own_size_has_opencvs_faces() {
    let mut chain = chain(&[("resize = \"fit\"", "resize = \"none\"")], 2);
    for (name, picture, expected) in looked_at() {
        let reading = chain.read(&[picture]).unwrap().remove(0);
        same_faces(
            name,
            &reading.faces,
            &expected.opencv_none,
            PIXELS,
            PROBABILITY,
        );
    }
}
