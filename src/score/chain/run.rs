//! Running a chain over pictures.
//!
//! Pictures are classified one at a time, each by one thread: what is said of a picture then
//! depends neither on its batch mates nor on the number of threads, and small networks gain more
//! from many pictures at once than from many threads on one. On a GPU one worker feeds the device.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use image::RgbImage;

use super::judge::{self, Measure};
use super::{Error, Manifest, Model, Output, Verdict, prepare};
use crate::graph::external_files;
use crate::runtime::{ElementType, Ep, Feed, Runtime, Session, SessionOptions, TensorSpec};
use crate::{fsio, runtime};

/// A classifier chain, loaded.
#[derive(Debug)]
pub struct Chain {
    shared: Shared,
    sha256: String,
    runtime: Runtime,
    options: SessionOptions,
    /// How many workers there may be; they are loaded when there are pictures for them.
    most: usize,
    workers: Vec<Worker>,
}

/// What all workers read.
#[derive(Debug)]
struct Shared {
    path: PathBuf,
    manifest: Manifest,
}

/// One set of sessions.
#[derive(Debug)]
struct Worker {
    models: Vec<Session>,
}

impl Chain {
    /// Reads a manifest and loads its models, which must have the inputs and outputs that it
    /// names.
    ///
    /// # Errors
    /// As [`Manifest::read`]; a model that can't be loaded ([`Error::Runtime`]) or is not what the
    /// manifest says ([`Error::Model`]).
    pub fn open(
        runtime: &Runtime,
        manifest: &Path,
        options: &SessionOptions,
    ) -> Result<Self, Error> {
        let shared = Shared {
            path: manifest.to_path_buf(),
            manifest: Manifest::read(manifest)?,
        };
        if shared.manifest.detector.is_some() {
            return Err(Error::Manifest {
                path: shared.path,
                reason: "detector: chains with a detector can't be run yet".into(),
            });
        }
        let threads = options.threads;
        let options = SessionOptions {
            threads: 1,
            ..options.clone()
        };
        let first = Worker::load(&shared, runtime, &options)?;
        let on_cpu = first.models.iter().all(|m| m.ep() == Ep::Cpu);
        Ok(Self {
            sha256: shared.sha256()?,
            runtime: runtime.clone(),
            most: if on_cpu { threads } else { 1 },
            options,
            workers: vec![first],
            shared,
        })
    }

    /// What the manifest says.
    pub fn manifest(&self) -> &Manifest {
        &self.shared.manifest
    }

    /// Identifies the chain: over the manifest, the ONNX files that it names and the weights that
    /// lie beside them.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Says of each picture who is in it, in order.
    ///
    /// # Errors
    /// A model that can't run or answers no numbers. A picture that says nothing is no error but a
    /// [`Verdict::Dropped`].
    pub fn classify(&mut self, pictures: &[RgbImage]) -> Result<Vec<Verdict>, Error> {
        self.each(pictures, Worker::classify)
    }

    /// Applies `work` to every picture, on as many workers as there is work for.
    fn each<T: Send>(
        &mut self,
        pictures: &[RgbImage],
        work: fn(&mut Worker, &Shared, &RgbImage) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        while self.workers.len() < self.most.min(pictures.len()) {
            let worker = Worker::load(&self.shared, &self.runtime, &self.options)?;
            self.workers.push(worker);
        }
        let (shared, next, failed) = (&self.shared, AtomicUsize::new(0), AtomicBool::new(false));
        let run = |worker: &mut Worker| -> Result<Vec<(usize, T)>, Error> {
            let mut done = Vec::new();
            while !failed.load(Ordering::Relaxed) {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(picture) = pictures.get(index) else {
                    break;
                };
                let result = work(worker, shared, picture);
                failed.fetch_or(result.is_err(), Ordering::Relaxed);
                done.push((index, result?));
            }
            Ok(done)
        };
        let (first, others) = self.workers.split_at_mut(1);
        let parts: Vec<_> = std::thread::scope(|scope| {
            let others: Vec<_> = others
                .iter_mut()
                .take(pictures.len().saturating_sub(1))
                .map(|worker| scope.spawn(|| run(worker)))
                .collect();
            let mut parts: Vec<_> = first.iter_mut().map(&run).collect();
            let join = |handle: std::thread::ScopedJoinHandle<'_, _>| match handle.join() {
                Ok(part) => part,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            parts.extend(others.into_iter().map(join));
            parts
        });
        let mut all: Vec<(usize, T)> = Vec::with_capacity(pictures.len());
        for part in parts {
            all.extend(part?);
        }
        all.sort_by_key(|(index, _)| *index);
        Ok(all.into_iter().map(|(_, result)| result).collect())
    }
}

impl Worker {
    fn load(shared: &Shared, runtime: &Runtime, options: &SessionOptions) -> Result<Self, Error> {
        let mut models = Vec::new();
        for model in &shared.manifest.models {
            let session = Session::open(runtime, shared.file(&model.path), options)?;
            shared.check(model, &session)?;
            models.push(session);
        }
        Ok(Self { models })
    }

    fn classify(&mut self, shared: &Shared, picture: &RgbImage) -> Result<Verdict, Error> {
        let whole = [0.0, 0.0, picture.width().into(), picture.height().into()];
        let mut measures = Vec::new();
        for (model, session) in shared.manifest.models.iter().zip(&mut self.models) {
            let [width, height] = model.size.map(|n| n as usize);
            let pixels = prepare::tensor(model, picture, whole);
            let feed = Feed::new().f32_slice(&model.input, &pixels, &[1, 3, height, width]);
            let answers = session.run(&feed)?;
            for output in &model.outputs {
                measures.push((output, shared.measure(model, output, &answers)?));
            }
        }
        Ok(judge::verdict(measures))
    }
}

impl Shared {
    fn file(&self, name: &Path) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(name)
    }

    /// Over the manifest, then each model's files in the manifest's order.
    fn sha256(&self) -> Result<String, Error> {
        let mut parts = vec![fsio::sha256(&self.path)?];
        for model in &self.manifest.models {
            let file = self.file(&model.path);
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

    /// Holds a model to what the manifest says of it.
    fn check(&self, model: &Model, session: &Session) -> Result<(), Error> {
        let bad = |key: &str, problem: String| {
            Err(Error::Model {
                path: self.path.clone(),
                model: model.path.display().to_string(),
                key: key.to_owned(),
                problem,
            })
        };
        let names = |specs: &[TensorSpec]| {
            let names: Vec<_> = specs.iter().map(|s| format!("`{}`", s.name)).collect();
            names.join(", ")
        };
        let [input] = session.inputs() else {
            let problem = format!("expected one input, got {}", names(session.inputs()));
            return bad("input", problem);
        };
        if input.name != model.input {
            let problem = format!("no input `{}`, it takes `{}`", model.input, input.name);
            return bad("input", problem);
        }
        let [width, height] = model.size.map(|n| n as usize);
        if !input.accepts(&[1, 3, height, width]) {
            let declared = input.shape_text();
            let problem = format!(
                "`{}` is {declared}, expected [1, 3, {height}, {width}]",
                input.name
            );
            return bad("size", problem);
        }
        if !is_float(input.dtype) {
            let problem = format!("`{}` is {}, expected fp32 or fp16", input.name, input.dtype);
            return bad("input", problem);
        }
        for output in &model.outputs {
            let Some(spec) = session.outputs().iter().find(|s| s.name == output.output) else {
                let has = names(session.outputs());
                return bad(
                    "output",
                    format!("no output `{}`, it has {has}", output.output),
                );
            };
            if !is_float(spec.dtype) || !reads(output, spec) {
                let (dtype, shape, taken) = (spec.dtype, spec.shape_text(), output.taken());
                let problem = format!(
                    "`{}` is {dtype} {shape}, expected fp32 or fp16 and {taken}",
                    spec.name
                );
                return bad("output", problem);
            }
        }
        Ok(())
    }

    fn measure(
        &self,
        model: &Model,
        output: &Output,
        answers: &runtime::Outputs,
    ) -> Result<Measure, Error> {
        let bad = |problem: String| Error::Answer {
            path: self.path.clone(),
            model: model.path.display().to_string(),
            output: output.output.clone(),
            problem,
        };
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
