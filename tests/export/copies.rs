//! How weight files stand in a bundle: hard links, reflinks, files of its own.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use popalign::bundle::Bundle;
use tempfile::TempDir;

use crate::checkpoint::{World, pa_export};
use crate::process::{failed, succeeded};

/// Asks for a bundle's weights: what `--verify` says, whose graphs need no loading to say it.
fn verified(bundle: &Path) -> String {
    let mut command = crate::process::pa_export();
    succeeded(&command.arg("--verify").arg(bundle).output().unwrap())
}

/// The weight files of a bundle that have other names too.
fn hard_links(bundle: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in fs::read_dir(bundle).unwrap() {
        let folder = folder.unwrap().path();
        let files = folder.is_dir().then(|| fs::read_dir(folder).unwrap());
        for file in files.into_iter().flatten() {
            let file = file.unwrap();
            if file.metadata().unwrap().nlink() > 1 && file.path().is_file() {
                found.push(file.path());
            }
        }
    }
    found
}

#[test]
fn a_bundle_of_its_own_shares_no_file_and_outlives_its_checkpoint() {
    let world = World::new();
    let output = world.export(&["--copy", "--json"]);
    let said = succeeded(&output);
    assert!(said.contains("0 hard links"), "{said}");
    assert!(!said.contains("another file system"), "{said}");
    let events = String::from_utf8(output.stdout).unwrap();
    assert!(
        events.contains(r#"{"event":"linked","hard_links":0"#),
        "{events}"
    );
    assert_eq!(hard_links(&world.out()), [] as [PathBuf; 0]);
    fs::remove_dir_all(world.src()).unwrap();
    Bundle::open(world.out()).unwrap();
    let said = verified(&world.out());
    assert!(!said.contains("a hard link"), "{said}");
    assert!(!said.contains("--copy"), "{said}");
}

#[test]
fn merged_weights_are_copied_for_each_graph_too() {
    let world = World::new();
    world.exported(&["--copy", "--dtype", "fp16", "--convert"]);
    assert_eq!(hard_links(&world.out()), [] as [PathBuf; 0]);
    Bundle::open(world.out()).unwrap();
}

#[test]
fn hard_links_are_told_of() {
    let world = World::new();
    let said = succeeded(&world.export(&[]));
    if hard_links(&world.out()).is_empty() {
        // The temporary folder's file system has reflinks.
        assert!(said.contains("0 hard links"), "{said}");
        return;
    }
    for said in [said, verified(&world.out())] {
        assert!(
            said.contains("onnx refuses weights that are hard"),
            "{said}"
        );
        assert!(said.contains("--copy"), "{said}");
    }
    let said = verified(&world.out());
    let line = "unet/diffusion_pytorch_model.safetensors: unchanged, a hard link";
    assert!(said.contains(line), "{said}");
}

#[test]
fn nothing_is_copied_where_nothing_is_exported() {
    let world = World::new();
    for other in ["--plan", "--list", "--verify"] {
        let mut command = pa_export();
        command.arg(other).arg(world.src()).arg("--copy");
        failed(&command.output().unwrap(), 2, &["cannot be used with"]);
    }
}

/// A file system of its own in a file, mounted while this lives.
struct Mounted(TempDir);

impl Mounted {
    /// Makes one that has reflinks; nothing, and why, where the machine has no program for it or lets
    /// nobody mount it.
    fn new() -> Result<Self, String> {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        let file = fs::File::create(&image).unwrap();
        file.set_len(400 << 20).unwrap();
        let point = dir.path().join("mounted");
        fs::create_dir(&point).unwrap();
        let kinds = [("mkfs.btrfs", "-q"), ("mkfs.xfs", "-q")];
        let made = kinds.iter().any(|(program, quiet)| {
            run(Command::new(program).arg(quiet).arg(&image)).is_ok_and(|o| o.status.success())
        });
        if !made {
            return Err("neither mkfs.btrfs nor mkfs.xfs can be run".into());
        }
        let output = run(Command::new("mount")
            .args(["-o", "loop"])
            .arg(&image)
            .arg(&point));
        match output {
            Ok(output) if output.status.success() => Ok(Self(dir)),
            Ok(output) => Err(crate::process::stderr(&output)),
            Err(problem) => Err(problem.to_string()),
        }
    }

    fn point(&self) -> PathBuf {
        self.0.path().join("mounted")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = run(Command::new("umount").arg(self.point()));
    }
}

fn run(command: &mut Command) -> std::io::Result<Output> {
    command.stdin(Stdio::null()).output()
}

#[test]
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn where_there_are_reflinks_weights_are_reflinks() {
    let mounted = match Mounted::new() {
        Ok(mounted) => mounted,
        Err(problem) => {
            eprintln!("SKIPPED: no file system with reflinks can be mounted: {problem}");
            return;
        }
    };
    let world = World::inside(tempfile::tempdir_in(mounted.point()).unwrap());
    let said = succeeded(&world.export(&[]));
    assert!(said.contains("weights: 0 hard links"), "{said}");
    assert!(said.contains("0 files"), "{said}");
    assert_eq!(hard_links(&world.out()), [] as [PathBuf; 0]);
    let said = verified(&world.out());
    let line = "unet_grad/diffusion_pytorch_model.safetensors: unchanged, a reflink";
    assert!(said.contains(line), "{said}");
    // Written into, the checkpoint's file is another one than the bundle's.
    let weights = world.unet_weights();
    let own = world.out().join("unet/diffusion_pytorch_model.safetensors");
    let before = fs::read(&own).unwrap();
    fs::write(&weights, b"another").unwrap();
    assert!(fs::read(&own).unwrap() == before);
}
