//! An interrupt ends a command wherever it is: while a graph loads, while a hub is silent, while a file
//! is written. Nothing half-written is left.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod endless;
#[path = "../process/mod.rs"]
mod process;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use popalign::base::fsio::{AtomicDir, AtomicFile};
use popalign::cli::{self, Outcome};

/// A command that should end is given this long; by itself it would take far longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts a command, waits until it says `expected`, and sends it a signal. Gives all that it said.
#[track_caller]
fn interrupted_at(command: &mut Command, expected: &str, signal: &str) -> String {
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut said = String::new();
    for line in lines.by_ref().map(Result::unwrap) {
        said += &format!("{line}\n");
        if line.contains(expected) {
            break;
        }
    }
    assert!(said.contains(expected), "{said}");
    send(signal, &child);
    assert_eq!(ended(&mut child), Some(130), "{said}");
    lines
        .map(Result::unwrap)
        .for_each(|line| said += &format!("{line}\n"));
    said
}

fn send(signal: &str, child: &Child) {
    let id = child.id().to_string();
    assert!(
        Command::new("kill")
            .args([signal, &id])
            .status()
            .unwrap()
            .success()
    );
}

/// The exit code of a command that should end soon.
fn ended(child: &mut Child) -> Option<i32> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    None
}

/// A folder of one picture, and a chain whose model takes longer to load than any test may.
fn world(dir: &Path) {
    fs::create_dir_all(dir.join("a doctor")).unwrap();
    image::RgbImage::new(8, 8)
        .save(dir.join("a doctor/1.png"))
        .unwrap();
    fs::write(dir.join("model.onnx"), endless::model()).unwrap();
    let chain = "name = \"endless\"\n[[model]]\npath = \"model.onnx\"\ninput = \"x\"\nsize = [8, 8]\n\
        [[model.output]]\noutput = \"y\"\naxis = \"gender\"\nlabels = [\"female\", \"male\"]\n";
    fs::write(dir.join("chain.toml"), chain).unwrap();
}

#[test]
fn a_graph_that_loads_says_so_and_is_left() {
    let dir = tempfile::tempdir().unwrap();
    world(dir.path());
    for signal in ["-INT", "-TERM"] {
        let mut command = process::pa_score();
        command.args(["--ep", "cpu", "--threads", "1", "--chain"]);
        command
            .arg(dir.path().join("chain.toml"))
            .arg(dir.path().join("a doctor"));
        command.arg("--out").arg(dir.path().join("scores.json"));
        let said = interrupted_at(&mut command, "model.onnx: ", signal);
        assert!(said.contains("loading "), "{said}");
        assert!(said.contains("nothing is left half-written"), "{said}");
        assert!(!dir.path().join("scores.json").exists());
    }
}

/// The filter of a data set loads before anything is drawn.
#[test]
fn a_filter_that_loads_is_left_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    world(dir.path());
    let bundle = dir.path().join("bundle");
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/models/demo");
    let mut export = process::pa_export();
    export.arg(demo).arg("-o").arg(&bundle).arg("--no-grad");
    process::succeeded(&export.output().unwrap());
    fs::write(dir.path().join("prompts.txt"), "doctor\n").unwrap();
    let mut command = process::pa_datagen();
    command.args(["--ep", "cpu", "--threads", "1", "--neutral", "1", "--json"]);
    command.arg("--model").arg(&bundle);
    command.arg("--prompts").arg(dir.path().join("prompts.txt"));
    command.arg("--filter").arg(dir.path().join("chain.toml"));
    command
        .arg("--out")
        .arg(dir.path().join("out"))
        .stdout(Stdio::piped());
    interrupted_at(&mut command, "loading ", "-INT");
    assert!(!dir.path().join("out").exists());
}

#[test]
fn a_hub_that_is_silent_is_left() {
    let hub = TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut command = process::pa_export();
    command
        .arg("org/silent")
        .arg("-o")
        .arg(dir.path().join("bundle"));
    command.env(
        "HF_ENDPOINT",
        format!("http://{}", hub.local_addr().unwrap()),
    );
    command.env("HF_HOME", dir.path().join("cache"));
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    // It has asked; nobody will answer.
    let (connection, _) = hub.accept().unwrap();
    let mut request = String::new();
    BufReader::new(&connection).read_line(&mut request).unwrap();
    assert!(
        request.starts_with("GET /api/models/org/silent"),
        "{request}"
    );
    send("-INT", &child);
    assert_eq!(ended(&mut child), Some(130));
    assert!(!dir.path().join("bundle").exists());
}

/// What the child of the next test writes into; no test by itself.
const FOLDER: &str = "POPALIGN_TEST_INTERRUPTED";

/// Run by the next test in a process of its own: a command that writes for ever.
#[test]
fn writes_for_ever() {
    let Some(dir) = std::env::var_os(FOLDER) else {
        return;
    };
    let dir = Path::new(&dir).to_path_buf();
    cli::main(move |_| {
        let staged = AtomicDir::create(dir.join("bundle"))?;
        let mut whole = AtomicFile::create(dir.join("whole"))?;
        whole.write_all(b"whole")?;
        whole.commit()?;
        let mut file = AtomicFile::create(dir.join("file"))?;
        let mut inside = AtomicFile::create(staged.path().join("weights"))?;
        eprintln!("writing for ever");
        for round in 0.. {
            file.write_all(&[0; 4096])?;
            file.flush()?;
            inside.write_all(&[0; 4096])?;
            fs::write(staged.path().join(format!("{}", round % 100)), [0; 4096])?;
        }
        Ok(Outcome::Done)
    });
}

#[test]
fn what_is_being_written_is_removed() {
    for signal in ["-INT", "-TERM"] {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "writes_for_ever", "--nocapture"])
            .env(FOLDER, dir.path());
        command.stdout(Stdio::null());
        interrupted_at(&mut command, "writing for ever", signal);
        let left: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(left, ["whole"]);
    }
}
