//! Running a chain over pictures.
//!
//! Pictures are classified one at a time, each by one thread: what is said of a picture then
//! depends neither on its batch mates nor on the number of threads, and small networks gain more
//! from many pictures at once than from many threads on one. On a GPU one worker feeds the device.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use image::RgbImage;

use super::error::Error;
use super::face::Face;
use super::manifest::ChainManifest;
use super::shared::Shared;
use super::verdict::{DropReason, Verdict};
use super::{judge, prepare};
use crate::runtime::{Ep, Feed, Runtime, Session, SessionOptions};

/// More workers than this would cost more memory than they save time: each has its own networks.
const MOST_WORKERS: usize = 16;

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

/// One set of sessions.
#[derive(Debug)]
struct Worker {
    detector: Option<Session>,
    models: Vec<Session>,
}

/// What a chain says about a picture, and what it looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// Who is in it, or why it doesn't count.
    pub verdict: Verdict,
    /// The faces found, best first; none if the chain has no detector.
    pub faces: Vec<Face>,
    /// The face that was classified.
    pub chosen: Option<usize>,
}

impl Chain {
    /// Reads a manifest and loads its models, which must have the inputs and outputs that it
    /// names.
    ///
    /// # Errors
    /// As [`ChainManifest::read`]; a model that can't be loaded ([`Error::Runtime`]) or is not what the
    /// manifest says ([`Error::Model`]).
    pub fn open(
        runtime: &Runtime,
        manifest: &Path,
        options: &SessionOptions,
    ) -> Result<Self, Error> {
        let shared = Shared {
            path: manifest.to_path_buf(),
            manifest: ChainManifest::read(manifest)?,
        };
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
            most: if on_cpu { threads.min(MOST_WORKERS) } else { 1 },
            options,
            workers: vec![first],
            shared,
        })
    }

    /// What the manifest says.
    pub fn manifest(&self) -> &ChainManifest {
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
        let readings = self.read(pictures)?;
        Ok(readings.into_iter().map(|r| r.verdict).collect())
    }

    /// As [`Chain::classify`], with the faces that were found.
    ///
    /// # Errors
    /// As [`Chain::classify`].
    pub fn read(&mut self, pictures: &[RgbImage]) -> Result<Vec<Reading>, Error> {
        self.each(pictures, Worker::read)
    }

    /// Says who is in a box of a picture (left, top, right, bottom in pixels, such as a
    /// [`Face`]'s), whatever the detector finds.
    ///
    /// # Errors
    /// As [`Chain::classify`].
    pub fn classify_box(&mut self, picture: &RgbImage, bounds: [f64; 4]) -> Result<Verdict, Error> {
        self.workers[0].judge(&self.shared, picture, bounds)
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
        let mut detector = None;
        if let Some(d) = &shared.manifest.detector {
            let session = Session::open(runtime, shared.file(&d.path), options)?;
            shared.check_detector(d, &session)?;
            detector = Some(session);
        }
        let mut models = Vec::new();
        for model in &shared.manifest.models {
            let session = Session::open(runtime, shared.file(&model.path), options)?;
            shared.check(model, &session)?;
            models.push(session);
        }
        Ok(Self { detector, models })
    }

    fn read(&mut self, shared: &Shared, picture: &RgbImage) -> Result<Reading, Error> {
        let whole = [0.0, 0.0, picture.width().into(), picture.height().into()];
        let (faces, chosen) = match (&shared.manifest.detector, &mut self.detector) {
            (Some(detector), Some(session)) => {
                let faces = detector.faces(shared, session, picture)?;
                let chosen = detector.choose(&faces);
                (faces, chosen)
            }
            _ => {
                return Ok(Reading {
                    verdict: self.judge(shared, picture, whole)?,
                    faces: Vec::new(),
                    chosen: None,
                });
            }
        };
        let verdict = match chosen {
            Some(face) => self.judge(shared, picture, faces[face].bounds)?,
            None if faces.is_empty() => Verdict::Dropped(DropReason::NoFace),
            None => Verdict::Dropped(DropReason::SeveralFaces),
        };
        Ok(Reading {
            verdict,
            faces,
            chosen,
        })
    }

    /// Shows the models what is in a box of the picture.
    fn judge(
        &mut self,
        shared: &Shared,
        picture: &RgbImage,
        bounds: prepare::Bounds,
    ) -> Result<Verdict, Error> {
        let mut measures = Vec::new();
        for (model, session) in shared.manifest.models.iter().zip(&mut self.models) {
            let [width, height] = model.size.map(|n| n as usize);
            let pixels = prepare::tensor(model, picture, bounds);
            let feed = Feed::new().f32_slice(&model.input, &pixels, &[1, 3, height, width]);
            let answers = session.run(&feed)?;
            for output in &model.outputs {
                measures.push((output, shared.measure(model, output, &answers)?));
            }
        }
        Ok(judge::verdict(measures))
    }
}
