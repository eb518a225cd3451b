//! A manifest and where it lies: what all workers of a chain read.
//!
//! Models are held to their manifest here, before any picture is read, so that a wrong name or a
//! forgotten label is an error about the manifest and not a surprise after an hour.

use std::path::{Path, PathBuf};

use super::error::Error;
use super::judge;
use super::judge::Measure;
use super::manifest::{ChainManifest, Detector, Model, Output};
use super::yunet::STRIDES;
use crate::base::fsio;
use crate::graph::external_files;
use crate::runtime::{ElementType, Outputs, Session, TensorSpec};

/// What all workers read.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) path: PathBuf,
    pub(super) manifest: ChainManifest,
}

impl Shared {
    pub(super) fn file(&self, name: &Path) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(name)
    }

    /// Over the manifest, then the detector's and each model's files in the manifest's order.
    pub(super) fn sha256(&self) -> Result<String, Error> {
        let mut parts = vec![fsio::sha256(&self.path)?];
        let detector = self.manifest.detector.iter().map(|d| &d.path);
        for path in detector.chain(self.manifest.models.iter().map(|m| &m.path)) {
            let file = self.file(path);
            let bytes = fsio::read(&file)?;
            parts.push(fsio::sha256_bytes(&bytes));
            let beside = file.parent().unwrap_or(Path::new(""));
            // ONNX Runtime has read the file already: it is a model.
            for name in external_files(&bytes).unwrap_or_default() {
                parts.push(fsio::sha256(&beside.join(name))?);
            }
        }
        Ok(fsio::sha256_bytes(parts.join("\n").as_bytes()))
    }

    /// Holds a classifier to what the manifest says of it.
    pub(super) fn check(&self, model: &Model, session: &Session) -> Result<(), Error> {
        let [width, height] = model.size;
        let input = self.check_input(&model.path, session, "size", [height, width])?;
        if input.name != model.input {
            let problem = format!("no input `{}`, it takes `{}`", model.input, input.name);
            return Err(self.bad(&model.path, "input", problem));
        }
        for output in &model.outputs {
            let spec = self.check_output(&model.path, session, &output.output)?;
            if !reads(output, spec) {
                let (shape, taken) = (spec.shape_text(), output.taken());
                let problem = format!("`{}` is {shape}, expected {taken}", spec.name);
                return Err(self.bad(&model.path, "output", problem));
            }
        }
        Ok(())
    }

    /// Holds a detector to what its kind answers.
    pub(super) fn check_detector(
        &self,
        detector: &Detector,
        session: &Session,
    ) -> Result<(), Error> {
        self.check_input(&detector.path, session, "side", [detector.side; 2])?;
        for stride in STRIDES {
            for part in ["cls", "obj", "bbox", "kps"] {
                self.check_output(&detector.path, session, &format!("{part}_{stride}"))?;
            }
        }
        Ok(())
    }

    /// The only input of a model, which must take a picture of this height and width; `key` is
    /// the manifest's for the size.
    fn check_input<'s>(
        &self,
        path: &Path,
        session: &'s Session,
        key: &str,
        [height, width]: [u32; 2],
    ) -> Result<&'s TensorSpec, Error> {
        let [input] = session.inputs() else {
            let problem = format!("expected one input, got {}", names(session.inputs()));
            return Err(self.bad(path, "input", problem));
        };
        let (name, dtype, shape) = (&input.name, input.dtype, input.shape_text());
        if !is_float(dtype) {
            let problem = format!("`{name}` is {dtype}, expected fp32 or fp16");
            return Err(self.bad(path, "input", problem));
        }
        if !input.accepts(&[1, 3, height as usize, width as usize]) {
            let problem = format!("`{name}` is {shape}, expected [1, 3, {height}, {width}]");
            return Err(self.bad(path, key, problem));
        }
        Ok(input)
    }

    fn check_output<'s>(
        &self,
        path: &Path,
        session: &'s Session,
        name: &str,
    ) -> Result<&'s TensorSpec, Error> {
        let Some(spec) = session.outputs().iter().find(|spec| spec.name == name) else {
            let problem = format!("no output `{name}`, it has {}", names(session.outputs()));
            return Err(self.bad(path, "output", problem));
        };
        if !is_float(spec.dtype) {
            let problem = format!("`{name}` is {}, expected fp32 or fp16", spec.dtype);
            return Err(self.bad(path, "output", problem));
        }
        Ok(spec)
    }

    fn bad(&self, model: &Path, key: &str, problem: String) -> Error {
        Error::Model {
            path: self.path.clone(),
            model: model.display().to_string(),
            key: key.to_owned(),
            problem,
        }
    }

    /// The error about what a model answered.
    pub(super) fn answer(&self, model: &Path, output: &str, problem: String) -> Error {
        Error::Answer {
            path: self.path.clone(),
            model: model.display().to_string(),
            output: output.to_owned(),
            problem,
        }
    }

    pub(super) fn measure(
        &self,
        model: &Model,
        output: &Output,
        answers: &Outputs,
    ) -> Result<Measure, Error> {
        let bad = |problem| self.answer(&model.path, &output.output, problem);
        let units = answers.f32_vec(&output.output)?;
        if !output.takes(units.len()) {
            let taken = output.taken();
            return Err(bad(format!("{} units, expected {taken}", units.len())));
        }
        if let Some(unit) = units.iter().find(|u| !u.is_finite()) {
            return Err(bad(format!("{unit}")));
        }
        judge::measure(output, &units).map_err(bad)
    }
}

fn names(specs: &[TensorSpec]) -> String {
    let names: Vec<_> = specs.iter().map(|s| format!("`{}`", s.name)).collect();
    names.join(", ")
}

fn is_float(dtype: ElementType) -> bool {
    use ElementType as T;
    matches!(dtype, T::Float32 | T::Float16 | T::Bfloat16 | T::Float64)
}

/// Whether a declared output can be [N, units] or [N, units, 1, 1].
fn reads(output: &Output, spec: &TensorSpec) -> bool {
    let one = |dim: &Option<i64>| dim.is_none_or(|d| d == 1);
    match &spec.dims[..] {
        [n, units, rest @ ..] if matches!(rest.len(), 0 | 2) => {
            let known = units.and_then(|u| usize::try_from(u).ok());
            one(n) && rest.iter().all(one) && known.is_none_or(|u| output.takes(u))
        }
        _ => false,
    }
}
