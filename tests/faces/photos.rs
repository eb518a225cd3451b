//! Photographs of groups that are not ours to keep: `scripts/oracle/photos` fetches them, and only
//! what the references say of them is in the repository.

use std::collections::BTreeMap;
use std::path::PathBuf;

use popalign::base::fsio::sha256_bytes;
use popalign::picture;

use crate::support::{
    Frozen, PIXELS, PROBABILITY, YEARS, chain, frozen, kept, same_attributes, same_faces,
};

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
        let picture = picture::decode(&bytes).unwrap();
        assert!(expected.is(&picture), "{name} has other pixels");
        let reading = chain
            .read(std::slice::from_ref(&picture))
            .unwrap()
            .remove(0);
        same_faces(&name, &reading.faces, &expected.faces, PIXELS, PROBABILITY);
        same_faces(
            &name,
            &reading.faces,
            &expected.opencv_fit,
            PIXELS,
            PROBABILITY,
        );
        for (face, expected) in reading.faces.iter().zip(&expected.faces) {
            let verdict = chain.classify_box(&picture, face.bounds).unwrap();
            let expected = expected.attributes.as_ref().unwrap();
            same_attributes(&name, kept(&verdict), expected, PROBABILITY, YEARS);
            faces += 1;
        }
    }
    assert_eq!(faces, 23);
}
