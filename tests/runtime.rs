//! ONNX Runtime through our session: names, types, shapes, defaults, and what is refused.
//!
//! The models are made by `scripts/oracle/runtime_model.py`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;

use ndarray::{arr0, arr1, arr2};
use popalign::runtime::{ElementType, Ep, Error, Feed, Runtime, Session, SessionOptions};

fn model(name: &str) -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/runtime");
    dir.join(name)
}

fn open(name: &str) -> Session {
    let runtime = Runtime::load().unwrap();
    Session::open(&runtime, model(name), &SessionOptions::new(Ep::Cpu, 0, 1)).unwrap()
}

#[test]
fn declared_inputs_outputs_and_defaults() {
    let mut session = open("mixed.onnx");
    let names = |specs: &[popalign::runtime::TensorSpec]| -> Vec<String> {
        specs.iter().map(|s| s.name.clone()).collect()
    };
    assert_eq!(names(session.inputs()), ["x", "timestep"]);
    assert_eq!(names(session.optional_inputs()), ["scale"]);
    assert_eq!(names(session.outputs()), ["y", "echo"]);
    assert_eq!(session.input("x").unwrap().dims, [None, Some(2)]);
    assert_eq!(session.input("timestep").unwrap().dtype, ElementType::Int64);
    assert_eq!(session.ep(), Ep::Cpu);

    let feed = Feed::new()
        .f32_slice("x", &[1.0, 2.0, 3.0, 4.0], &[2, 2])
        .i64_slice("timestep", &[10], &[]);
    let outputs = session.run(&feed).unwrap();
    assert_eq!(
        outputs.f32("y").unwrap(),
        arr2(&[[12.0, 14.0], [16.0, 18.0]]).into_dyn()
    );
    assert_eq!(outputs.i64("echo").unwrap(), arr0(10).into_dyn());
    // The default is replaced where it is fed, and only for that run.
    let feed = Feed::new()
        .f32_slice("x", &[1.0, 3.0, 2.0, 4.0], &[2, 2])
        .f32_slice("timestep", &[10.0], &[])
        .f32_slice("scale", &[-1.0], &[]);
    let replaced = session.run(&feed).unwrap();
    assert_eq!(replaced.f32_slice("y").unwrap(), [9.0, 7.0, 8.0, 6.0]);
    drop(session);
    assert_eq!(outputs.f32_vec("y").unwrap(), [12.0, 14.0, 16.0, 18.0]);
}

#[test]
fn fp32_values_are_cast_to_a_half_graph_and_back() {
    let outputs = open("half.onnx")
        .run(&Feed::new().f32_slice("x", &[1.5, -3.0], &[2]))
        .unwrap();
    assert_eq!(outputs.f32("y").unwrap(), arr1(&[2.25, 9.0]).into_dyn());
    assert!(matches!(
        outputs.f32_slice("y"),
        Err(Error::OutputType { .. })
    ));
}

#[test]
fn what_does_not_fit_is_named() {
    let mut session = open("mixed.onnx");
    let mut refusal = |feed: Feed| session.run(&feed).unwrap_err().to_string();
    let (x, two) = ([0.0f32; 2], [1i64, 2]);
    let base = || Feed::new().f32_slice("x", &x, &[1, 2]);
    for (feed, expected) in [
        (base(), "input `timestep` is missing"),
        (
            base().f32_slice("y", &x, &[2]),
            "input `y` is not one of the graph's",
        ),
        (
            base().f32_slice("x", &x, &[1, 2]),
            "input `x` is given twice",
        ),
        (
            base().i64_slice("timestep", &two, &[2]),
            "`timestep` has shape [2], expected []",
        ),
        (
            base().f32_slice("timestep", &[0.5], &[]),
            "`timestep`: 0.5 is no whole number",
        ),
        (
            Feed::new().f32_slice("x", &x, &[2, 1]),
            "has shape [2, 1], expected [?, 2]",
        ),
    ] {
        let text = refusal(feed);
        assert!(
            text.contains(expected),
            "{text:?} should contain {expected:?}"
        );
        assert!(
            text.contains("mixed.onnx"),
            "{text:?} should name the model"
        );
    }
    let outputs = session
        .run(&base().i64_slice("timestep", &[1], &[]))
        .unwrap();
    let text = outputs.f32("z").unwrap_err().to_string();
    assert!(text.contains("no output `z`; it has y, echo"), "{text}");
    assert!(
        outputs
            .f32("echo")
            .unwrap_err()
            .to_string()
            .contains("floating-point")
    );
}

#[test]
fn models_that_cannot_be_loaded_are_named() {
    let runtime = Runtime::load().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("torn.onnx");
    let whole = std::fs::read(model("mixed.onnx")).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    for path in [path, dir.path().join("absent.onnx")] {
        let error = Session::open(&runtime, &path, &SessionOptions::default()).unwrap_err();
        assert!(
            matches!(&error, Error::Load { path: p, .. } if *p == path),
            "{error}"
        );
    }
}

/// Asking for what can't run is an error that says why; `auto` runs on what there is. On a machine
/// whose library has CUDA and whose GPU works, the same calls must succeed.
#[test]
fn providers_run_or_say_why_not() {
    let runtime = Runtime::load().unwrap();
    let open = |ep| {
        Session::open(
            &runtime,
            model("mixed.onnx"),
            &SessionOptions::new(ep, 0, 1),
        )
    };
    let cuda_works = match open(Ep::Cuda) {
        Ok(session) => session.ep() == Ep::Cuda,
        Err(error) => {
            let Error::Unavailable {
                ep: Ep::Cuda,
                reason,
            } = &error
            else {
                panic!("{error}");
            };
            assert!(!reason.is_empty());
            assert!(error.hint().is_some());
            false
        }
    };
    if let Err(error) = open(Ep::TensorRt) {
        assert!(
            matches!(
                error,
                Error::Unavailable {
                    ep: Ep::TensorRt,
                    ..
                }
            ),
            "{error}"
        );
    }
    let picked = open(Ep::Auto).unwrap().ep();
    assert_eq!(picked, if cuda_works { Ep::Cuda } else { Ep::Cpu });
}

#[test]
fn a_feed_of_a_thousand_inputs_is_cheap() {
    let values = vec![0.5f32; 4096];
    let names: Vec<String> = (0..1120)
        .map(|i| format!("down_blocks.{i}.lora_A.weight"))
        .collect();
    let mut feed = Feed::new();
    for name in &names {
        feed.push_f32(name.as_str(), values.as_slice(), &[8, 512]);
    }
    assert_eq!(feed.len(), 1120);
    // Nothing was copied: every entry is the one buffer, so a clone is small too.
    let start = std::time::Instant::now();
    let copy = feed.clone();
    assert!(start.elapsed().as_millis() < 50 && copy.len() == feed.len());
}

/// What `Runtime::load` says in a process of its own: the library is opened once per process.
/// `Err` is what the user would read, hint included.
fn load_elsewhere(exe: &Path, variable: Option<&Path>) -> String {
    let mut command = Command::new(exe);
    command.args(["--exact", "say_what_loading_says", "--nocapture"]);
    // No Python on the path, so no site-packages.
    command
        .env("PATH", "/nonexistent")
        .env_remove("ORT_DYLIB_PATH");
    command.current_dir(exe.parent().unwrap());
    if let Some(path) = variable {
        command.env("ORT_DYLIB_PATH", path);
    }
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

/// Not a check by itself: [`load_elsewhere`] runs it in a process of its own and reads what it says.
#[test]
fn say_what_loading_says() {
    match Runtime::load() {
        Ok(runtime) => println!("loaded {}", runtime.path().display()),
        Err(error) => println!("{error} hint: {}", error.hint().unwrap_or_default()),
    }
}

#[test]
fn a_library_that_is_not_there_or_is_something_else() {
    let exe = std::env::current_exe().unwrap();
    let text = load_elsewhere(&exe, Some(Path::new("/nowhere/libonnxruntime.so")));
    assert!(
        text.contains("ORT_DYLIB_PATH is /nowhere/libonnxruntime.so, but there is no"),
        "{text}"
    );
    assert!(text.contains("scripts/setup"), "{text}");
    let text = load_elsewhere(&exe, Some(&model("mixed.onnx")));
    assert!(
        text.contains("cannot load ONNX Runtime from") && text.contains("mixed.onnx"),
        "{text}"
    );
}

#[test]
fn the_library_is_found_beside_the_executable_or_missed_with_advice() {
    let dir = tempfile::tempdir().unwrap();
    let exe = dir.path().join("build/debug/test");
    std::fs::create_dir_all(exe.parent().unwrap()).unwrap();
    std::fs::copy(std::env::current_exe().unwrap(), &exe).unwrap();
    let text = load_elsewhere(&exe, None);
    assert!(
        text.contains("ONNX Runtime's library was not found; looked in ORT_DYLIB_PATH"),
        "{text}"
    );
    assert!(text.contains("hint: run scripts/setup"), "{text}");
    let place = dir.path().join(".runtime");
    std::fs::create_dir(&place).unwrap();
    let library = Runtime::load().unwrap().path().to_path_buf();
    let link = place.join(library.file_name().unwrap());
    std::os::unix::fs::symlink(&library, &link).unwrap();
    let text = load_elsewhere(&exe, None);
    assert!(
        text.contains(&format!("loaded {}", link.display())),
        "{text}"
    );
}
