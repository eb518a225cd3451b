//! Bundles whose weights, or the checkpoint they came from, are not what they were.

use std::fs;
use std::path::Path;

use popalign::bundle::{Bundle, Error};

use crate::checkpoint::World;

/// Flips the last byte of a file, in place.
fn damage(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(path, bytes).unwrap();
}

fn refused(out: &Path) -> Error {
    let error = Bundle::open(out).unwrap_err();
    assert!(error.hint().is_some(), "{error} has no hint");
    error
}

#[test]
fn source_weights_written_into() {
    let world = World::new();
    let out = world.exported(&[]);
    damage(&world.unet_weights());
    let error = refused(&out);
    assert!(
        matches!(&error, Error::SourceChanged { path, .. }
        if path.ends_with("unet/diffusion_pytorch_model.safetensors")),
        "{error}"
    );
    // Exporting again makes it whole.
    world.exported(&[]);
    Bundle::open(&out).unwrap();
}

#[test]
fn source_weights_replaced_by_others() {
    let world = World::new();
    let out = world.exported(&[]);
    let weights = world.unet_weights();
    let bytes = fs::read(&weights).unwrap();
    fs::remove_file(&weights).unwrap();
    fs::write(&weights, &bytes).unwrap();
    Bundle::open(&out).expect("the same bytes under another time are the same weights");
    damage(&weights);
    assert!(matches!(refused(&out), Error::SourceChanged { .. }));
}

#[test]
fn source_weights_moved() {
    let world = World::new();
    let out = world.exported(&[]);
    fs::rename(world.src(), world.dir().join("elsewhere")).unwrap();
    let error = refused(&out);
    assert!(
        matches!(&error, Error::SourceMoved { path, .. }
        if path.starts_with(world.src().canonicalize().unwrap_or(world.src()))),
        "{error}"
    );
    fs::rename(world.dir().join("elsewhere"), world.src()).unwrap();
    world.exported(&["--detached"]);
    fs::remove_dir_all(world.src()).unwrap();
    Bundle::open(&out).expect("a detached bundle outlives its checkpoint");
}

#[test]
fn files_missing_from_the_bundle_or_cut_short() {
    let world = World::new();
    for file in [
        "unet/model.onnx",
        "unet_grad/diffusion_pytorch_model.safetensors",
        "vae_decoder/config.json",
        "scheduler/scheduler_config.json",
        "unet/zeros.bin",
        "unet_grad/zeros.bin",
    ] {
        let out = world.exported(&[]);
        fs::remove_file(out.join(file)).unwrap();
        let error = refused(&out);
        assert!(
            matches!(&error, Error::Damaged { file: f, .. } if f == file),
            "{error}"
        );
        assert!(error.to_string().contains("is missing"), "{error}");
    }
    let out = world.exported(&[]);
    fs::write(out.join("vae_decoder/config.json"), "").unwrap();
    let error = refused(&out).to_string();
    assert!(
        error.contains("vae_decoder/config.json is empty"),
        "{error}"
    );
    let out = world.exported(&[]);
    fs::write(out.join("unet/model.onnx"), "short").unwrap();
    assert!(
        refused(&out)
            .to_string()
            .contains("unet/model.onnx has 5 bytes")
    );
}

#[test]
fn folders_that_are_no_bundle() {
    let world = World::new();
    let text = |path: &Path| refused(path).to_string();
    assert!(text(&world.out()).contains("there is no such folder"));
    assert!(text(&world.src()).contains("it has no bundle.json"));
    let out = world.exported(&[]);
    let manifest = fs::read_to_string(out.join("bundle.json")).unwrap();
    let newer = manifest.replace("\"format\": 1", "\"format\": 7");
    fs::write(out.join("bundle.json"), newer).unwrap();
    assert!(text(&out).contains("a bundle of format 7; this version reads format 1"));
    fs::write(out.join("bundle.json"), &manifest[..manifest.len() / 2]).unwrap();
    assert!(text(&out).contains("bundle.json is malformed"));
}

/// On another file system links are impossible: the bytes are copied, and the user is told.
#[test]
fn another_file_system_gets_a_copy() {
    use std::os::unix::fs::MetadataExt;
    let world = World::new();
    let memory = Path::new("/dev/shm");
    let device = |path: &Path| fs::metadata(path).map(|m| m.dev()).ok();
    if device(memory).is_none() || device(memory) == device(world.dir()) {
        // The machine has no second file system to write to.
        return;
    }
    let elsewhere = tempfile::tempdir_in(memory).unwrap();
    let out = elsewhere.path().join("bundle");
    let mut command = crate::checkpoint::pa_export();
    let output = command
        .arg(world.src())
        .arg("-o")
        .arg(&out)
        .output()
        .unwrap();
    let messages = crate::process::stderr(&output);
    assert!(
        messages.contains("is on another file system: copied"),
        "{messages}"
    );
    Bundle::open(&out).unwrap();
    damage(&out.join("unet/diffusion_pytorch_model.safetensors"));
    assert!(matches!(refused(&out), Error::Damaged { .. }));
}
