//! Photographs of groups that are not ours to keep: `scripts/oracle/photos` fetches them, and only
//! what the references say of them is in the repository.

use std::collections::BTreeMap;
use std::path::PathBuf;

use popalign::fsio::sha256_bytes;
use popalign::score::pictures;

use crate::support::{Frozen, chain, frozen, kept, same_attributes, same_faces};

#[test]
fn photographs_are_seen_as_the_references_see_them() {
    let Some(folder) = std::env::var_os("POPALIGN_PHOTOS").map(PathBuf::from) else {
        println!("POPALIGN_PHOTOS is not set: no photographs to look at");
        return;
    };
    let mut chain = chain(&[], 2);
    let mut faces = 0;
    for (name, expected) in frozen::<BTreeMap<String, Frozen>>("photos.json") {
        let bytes = std::fs::read(folder.join(&name)).unwrap();
        assert_eq!(Some(sha256_bytes(&bytes)), expected.file_sha256, "{name}");
        let picture = pictures::decode(&bytes).unwrap();
        let reading = chain
            .read(std::slice::from_ref(&picture))
            .unwrap()
            .remove(0);
        same_faces(&name, &reading.faces, &expected.faces, PIXELS, SCORE);
        same_faces(&name, &reading.faces, &expected.opencv_fit, PIXELS, SCORE);
        for (face, expected) in reading.faces.iter().zip(&expected.faces) {
            let verdict = chain.classify_box(&picture, face.bounds).unwrap();
            let expected = expected.attributes.as_ref().unwrap();
            same_attributes(&name, kept(&verdict), expected, PROBABILITY, YEARS);
            faces += 1;
        }
    }
    assert_eq!(faces, 23);
}

// Our JPEG decoder and the references' differ by up to 3 of 255 in 3% of the values.
const PIXELS: f64 = 1.0;
const SCORE: f64 = 1e-2;
const PROBABILITY: f64 = 0.15;
const YEARS: f64 = 0.3;
