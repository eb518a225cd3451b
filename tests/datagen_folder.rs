//! The data set folder: what is written is read, unfinished and damaged ones are refused by name.

#![expect(
    clippy::unwrap_used,
    reason = "a test that unwraps fails with the reason it should"
)]

use std::collections::BTreeMap;
use std::path::Path;

use popalign::data::dataset::{Dataset, Error, Kind, LatentsRef, METADATA, PictureRow, TEXT};
use popalign::data::manifest::{DatasetManifest, Layout};
use popalign::data::writer::{DatasetWriter, Finish, latents_name};
use popalign::prompts::caption_id;
use popalign::store::Store;

const IMAGES: usize = 5;
const LATENT: [usize; 3] = [4, 2, 3];
const CAPTIONS: [&str; 2] = ["a photo of a doctor", "a photo of a female doctor"];

fn manifest(steps: u32) -> DatasetManifest {
    let layout = Layout {
        width: 24,
        height: 16,
        latent: LATENT,
        prompt_embeds: [3, 2],
        pooled: Some(4),
        captions: CAPTIONS.len(),
        images: IMAGES,
        unit_images: 2,
        size_conditions: None,
        ragged: false,
    };
    let config = serde_json::json!({"steps": steps, "seed": 7});
    let versions = BTreeMap::from([("popalign".to_owned(), "0".to_owned())]);
    DatasetManifest::new(config.as_object().unwrap().clone(), versions, layout)
}

fn row(index: usize) -> PictureRow {
    let prompt = CAPTIONS[index % 2].to_owned();
    let specific = index % 2 == 1;
    PictureRow {
        file_name: Some(format!("images/{index}.png")),
        neutral_prompt: CAPTIONS[0].to_owned(),
        subject: "doctor".to_owned(),
        kind: if specific {
            Kind::Specific
        } else {
            Kind::Neutral
        },
        axes: specific
            .then(|| ("gender".to_owned(), "female".to_owned()))
            .into_iter()
            .collect(),
        seed: 7,
        prompt_id: caption_id(&prompt),
        prompt,
        image_id: (index / 2) as u32,
        identity: BTreeMap::new(),
        drawn_prompt: None,
        latents: LatentsRef {
            file: latents_name(index / 2),
            index: index % 2,
        },
        sha256: None,
        verdict: None,
        dropped: (index == 3).then(|| "mismatch:gender".to_owned()),
    }
}

fn latent(index: usize) -> Vec<f32> {
    (0..24).map(|i| (index * 100 + i) as f32).collect()
}

/// A writer of a folder.
fn open(dir: impl AsRef<Path>, manifest: DatasetManifest) -> Result<DatasetWriter, Error> {
    DatasetWriter::open(Store::Folder(dir.as_ref().to_path_buf()), manifest)
}

fn write_unit(writer: &DatasetWriter, unit: usize) {
    let range = writer.layout().unit(unit);
    for index in range.clone() {
        let name = format!("images/{index}.png");
        writer.write_image(&name, &[index as u8]).unwrap();
    }
    let rows: Vec<PictureRow> = range.clone().map(row).collect();
    let latents: Vec<f32> = range.flat_map(latent).collect();
    writer.write_unit(unit, &rows, &latents).unwrap();
}

fn write_text(writer: &DatasetWriter) {
    let ids: Vec<u32> = CAPTIONS.iter().map(|c| caption_id(c)).collect();
    writer
        .write_text::<Error>(&ids, |i| {
            Ok((vec![i as f32; 6], Some(vec![-(i as f32); 4])))
        })
        .unwrap();
}

fn write_whole(dir: &Path) {
    let writer = open(dir, manifest(20)).unwrap();
    write_text(&writer);
    for unit in 0..writer.layout().units() {
        write_unit(&writer, unit);
    }
    assert!(matches!(writer.finish().unwrap(), Finish::Complete(_)));
}

#[test]
fn what_is_written_is_read() {
    let dir = tempfile::tempdir().unwrap();
    write_whole(dir.path());
    let set = Dataset::open(dir.path()).unwrap();
    assert_eq!(set.rows().len(), IMAGES);
    assert_eq!(set.kept().map(|(i, _)| i).collect::<Vec<_>>(), [0, 1, 2, 4]);
    assert_eq!(set.time_ids(), [16.0, 24.0, 0.0, 0.0, 16.0, 24.0]);
    for index in 0..IMAGES {
        assert_eq!(set.rows()[index], row(index));
        assert_eq!(set.latents(index).unwrap(), latent(index));
    }
    let text = set.embeddings(caption_id(CAPTIONS[1])).unwrap();
    assert_eq!(
        (text.prompt_embeds, text.pooled),
        (&[1.0; 6][..], Some(&[-1.0; 4][..]))
    );
    let outcome = set.manifest().outcome.as_ref().unwrap();
    assert_eq!(outcome.kept, 4);
    assert_eq!(
        outcome.dropped,
        BTreeMap::from([("mismatch:gender".to_owned(), 1)])
    );
    assert!(!dir.path().join("parts").exists());
}

#[test]
fn pieces_in_any_order_make_the_same_folder() {
    let (whole, pieces) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write_whole(whole.path());
    let first = open(pieces.path(), manifest(20)).unwrap();
    write_unit(&first, 2);
    // The second writer is there before the first is gone, and leaves the joining to the last.
    let second = open(pieces.path(), manifest(20)).unwrap();
    assert_eq!(first.finish().unwrap(), Finish::UnitsLeft(2));
    assert!(second.unit_done(2).unwrap() && !second.unit_done(0).unwrap());
    assert!(matches!(
        Dataset::open(pieces.path()),
        Err(Error::Unfinished { .. })
    ));
    write_text(&second);
    write_unit(&second, 1);
    write_unit(&second, 0);
    let third = open(pieces.path(), manifest(20)).unwrap();
    assert_eq!(second.finish().unwrap(), Finish::LeftToOthers);
    std::fs::write(pieces.path().join("images/.partial-x"), "torn").unwrap();
    assert!(matches!(third.finish().unwrap(), Finish::Complete(_)));
    assert_eq!(listing(whole.path()), listing(pieces.path()));
}

fn listing(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            for (inner, bytes) in listing(&path) {
                files.insert(format!("{name}/{inner}"), bytes);
            }
        } else {
            files.insert(name, std::fs::read(&path).unwrap());
        }
    }
    files
}

#[test]
fn another_configuration_is_refused_by_its_key() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path(), manifest(20)).unwrap());
    let error = open(dir.path(), manifest(30)).unwrap_err().to_string();
    assert!(
        error.contains("another `steps`: it has 20, this run has 30"),
        "{error}"
    );
}

#[test]
fn damage_is_named_with_its_file_and_row() {
    let edit = |from: &str, to: &str| {
        let (from, to) = (from.to_owned(), to.to_owned());
        move |dir: &Path| {
            let text = std::fs::read_to_string(dir.join(METADATA)).unwrap();
            assert!(text.contains(&from), "{text}");
            std::fs::write(dir.join(METADATA), text.replacen(&from, &to, 1)).unwrap();
        }
    };
    let cut = |name: &'static str| {
        move |dir: &Path| {
            let bytes = std::fs::read(dir.join(name)).unwrap();
            std::fs::write(dir.join(name), &bytes[..bytes.len() - 1]).unwrap();
        }
    };
    type Damage = Box<dyn Fn(&Path)>;
    let cases: Vec<(Damage, &str)> = vec![
        (
            Box::new(edit("images/0.png", "../0.png")),
            "metadata.jsonl:1: `../0.png` is not a path inside",
        ),
        (
            Box::new(edit(
                "\"prompt\":\"a photo of a doctor",
                "\"prompt\":\"a photo of a nurse",
            )),
            "metadata.jsonl:1: prompt_id",
        ),
        (
            Box::new(edit("\"kind\":\"neutral\"", "\"kind\":\"odd\"")),
            "metadata.jsonl:1: not a row",
        ),
        (
            Box::new(edit("\"index\":1", "\"index\":7")),
            "metadata.jsonl:2: latents-00000.safetensors has no latents 7",
        ),
        (
            Box::new(cut(TEXT)),
            "text.safetensors is not a whole safetensors file",
        ),
        (
            Box::new(cut("latents-00001.safetensors")),
            "latents-00001.safetensors is not a whole",
        ),
        (
            Box::new(|dir| std::fs::remove_file(dir.join("latents-00002.safetensors")).unwrap()),
            "metadata.jsonl:5: `latents-00002.safetensors` is missing",
        ),
        (
            Box::new(|dir| std::fs::remove_file(dir.join("manifest.json")).unwrap()),
            "is not a data set",
        ),
        (
            Box::new(|dir| std::fs::write(dir.join(METADATA), "").unwrap()),
            "has 0 rows, its manifest says 5",
        ),
    ];
    for (damage, expected) in cases {
        let dir = tempfile::tempdir().unwrap();
        write_whole(dir.path());
        damage(dir.path());
        let error = read_all(dir.path()).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

fn read_all(dir: &Path) -> Result<(), Error> {
    let set = Dataset::open(dir)?;
    for row in 0..set.rows().len() {
        set.latents(row)?;
    }
    Ok(())
}
