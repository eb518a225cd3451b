//! Opening the fixtures of `scripts/oracle/nets.py` and running graphs on them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use popalign::base::fsio;
use popalign::graph::Graph;
use popalign::nets::graphs::Options;
use popalign::runtime::{Ep, Feed, Outputs, Runtime, Session, SessionOptions};
use popalign::tensors::{DType, Weights};

/// A stored array; integers are in `i64s`, other numbers in `f32s`.
#[derive(Clone)]
pub(crate) struct Array {
    pub(crate) shape: Vec<usize>,
    pub(crate) f32s: Vec<f32>,
    i64s: Vec<i64>,
}

/// Inputs and outputs of one graph.
pub(crate) struct Part {
    pub(crate) inputs: BTreeMap<String, Array>,
    pub(crate) outputs: BTreeMap<String, Array>,
}

/// LoRA targets beside the default ones that some cases of the oracle have.
const MORE_TARGETS: [&str; 5] = [
    "time_emb_proj",
    "ff.net.0.proj",
    "ff.net.2",
    "linear_1",
    "proj_in",
];

impl Part {
    /// The options with all LoRA targets that the part has factors of.
    pub(crate) fn with_targets(&self, mut options: Options) -> Options {
        let mut names = self.inputs.keys();
        if names.any(|name| name.contains("time_emb_proj")) {
            let spec = options.lora.as_mut().unwrap();
            spec.targets.extend(MORE_TARGETS.map(String::from));
        }
        options
    }

    /// What `io.safetensors` of a case holds of a part.
    pub(crate) fn open(case: &Path, part: &str) -> Self {
        let file = Weights::open_files([case.join("io.safetensors")]).unwrap();
        let take = |side: &str| -> BTreeMap<String, Array> {
            let prefix = format!("{part}/{side}/");
            let named =
                |t: &popalign::tensors::Tensor| t.name.strip_prefix(&prefix).map(String::from);
            file.iter()
                .filter_map(|t| Some((named(t)?, read(t))))
                .collect()
        };
        let outputs = take("out");
        assert!(!outputs.is_empty(), "{} has no {part}", case.display());
        Self {
            inputs: take("in"),
            outputs,
        }
    }

    /// Number of samples.
    pub(crate) fn batch(&self) -> usize {
        self.outputs.values().next().unwrap().shape[0]
    }
}

fn read(tensor: &popalign::tensors::Tensor) -> Array {
    let shape = tensor.shape.iter().map(|&n| n as usize).collect();
    if tensor.dtype == DType::I64 {
        let bytes = tensor.read_bytes().unwrap();
        let i64s = bytes
            .as_chunks::<8>()
            .0
            .iter()
            .map(|&b| i64::from_le_bytes(b))
            .collect();
        return Array {
            shape,
            f32s: Vec::new(),
            i64s,
        };
    }
    Array {
        shape,
        f32s: tensor.read_f32().unwrap(),
        i64s: Vec::new(),
    }
}

/// The folder of frozen cases, or the one `POPALIGN_NETS_FIXTURES` names.
pub(crate) fn fixtures() -> PathBuf {
    match std::env::var_os("POPALIGN_NETS_FIXTURES") {
        Some(folder) => folder.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/nets"),
    }
}

/// The folders of the SDXL and SD 1.5 kinds' cases.
pub(crate) fn cases() -> Vec<PathBuf> {
    let mut cases: Vec<PathBuf> = std::fs::read_dir(fixtures())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("unet").is_dir())
        .collect();
    cases.sort();
    assert!(cases.len() >= 6, "too few cases: {cases:?}");
    cases
}

/// Writes a graph beside links to its weights and opens it on one thread.
pub(crate) fn open(graph: &Graph, weights: &Weights) -> Session {
    open_with(graph, weights, &SessionOptions::new(Ep::Cpu, 0, 1))
}

/// The same with other options.
pub(crate) fn open_with(graph: &Graph, weights: &Weights, options: &SessionOptions) -> Session {
    let folder = tempfile::tempdir().unwrap();
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    for file in weights.files() {
        fsio::link_or_copy(file, &folder.path().join(name(file))).unwrap();
    }
    let onnx = graph.to_onnx(name, "zeros.bin");
    let zeros = vec![0; usize::try_from(onnx.zeros).unwrap()];
    fsio::write(folder.path().join("zeros.bin"), zeros).unwrap();
    let model = folder.path().join("model.onnx");
    fsio::write(&model, &onnx.model).unwrap();
    let runtime = Runtime::load().unwrap();
    Session::open(&runtime, &model, options).unwrap()
}

/// Runs the first `batch` samples. LoRA factors and what has no axes belong to all samples.
pub(crate) fn run(
    session: &mut Session,
    inputs: &BTreeMap<String, Array>,
    batch: usize,
) -> Outputs {
    let mut feed = Feed::new();
    for (name, array) in inputs {
        let mut shape = array.shape.clone();
        if !shape.is_empty() && !name.contains("lora_") {
            shape[0] = batch;
        }
        let count = shape.iter().product();
        if array.i64s.is_empty() {
            feed.push_f32(name, &array.f32s[..count], &shape);
        } else {
            feed.push_i64(name, &array.i64s[..count], &shape);
        }
    }
    session.run(&feed).unwrap()
}

/// Largest difference as a share of the largest expected value.
pub(crate) fn relative_error(found: &[f32], expected: &[f32]) -> f32 {
    let largest = |values: &mut dyn Iterator<Item = f32>| {
        values.fold(0.0, |a: f32, b| {
            if b.is_nan() {
                f32::INFINITY
            } else {
                a.max(b.abs())
            }
        })
    };
    let difference = largest(&mut found.iter().zip(expected).map(|(a, b)| a - b));
    difference / largest(&mut expected.iter().copied()).max(f32::MIN_POSITIVE)
}
