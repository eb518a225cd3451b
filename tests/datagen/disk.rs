//! A disk that is full, and one that can't be written to: named, and the run goes on afterwards.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::process::{failed, stderr};
use crate::world::{SDXL, World, listing, same};

/// A small file system in memory, mounted while this lives.
struct Small(TempDir);

impl Small {
    /// Nothing, and why, where nobody lets it be mounted.
    fn new(options: &str) -> Result<Self, String> {
        let dir = tempfile::tempdir().unwrap();
        let small = Self(dir);
        small.mount(&["-t", "tmpfs", "-o", options, "tmpfs"])?;
        Ok(small)
    }

    fn mount(&self, words: &[&str]) -> Result<(), String> {
        let mut command = Command::new("mount");
        match command.args(words).arg(self.0.path()).output() {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(stderr(&output)),
            Err(problem) => Err(problem.to_string()),
        }
    }

    fn out(&self) -> PathBuf {
        self.0.path().join("out")
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).output();
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn a_disk_that_is_full_or_read_only_is_named_and_the_run_goes_on() {
    let disk = match Small::new("size=400k") {
        Ok(disk) => disk,
        Err(problem) => {
            eprintln!("SKIPPED: no small file system can be mounted: {problem}");
            return;
        }
    };
    let world = World::new(&SDXL, &["ox", "doctor"]);
    let options = ["--neutral", "64", "--steps", "2"];
    let whole = world.done("whole", &options);
    let size: usize = listing(&whole).values().map(Vec::len).sum();
    assert!(size > 400 << 10, "{size} bytes fit");
    let out = disk.out().display().to_string();
    let run = || world.run(&out, &options);
    let full = run();
    failed(&full, 1, &["No space left on device", &out]);
    disk.mount(&["-o", "remount,ro"]).unwrap();
    failed(&run(), 1, &["Read-only file system", &out]);
    disk.mount(&["-o", "remount,rw,size=20m"]).unwrap();
    let said = run();
    assert!(said.status.success(), "{}", stderr(&said));
    same(&whole, &disk.out());
}
