//! Looking closely at a bundle that is there: `pa-export --verify`.

use super::identity::Identity;
use super::{Bundle, Error, Part, Result};
use crate::base::fsio;
use crate::base::fsio::Linked;
use crate::graph::check;
use crate::runtime::{Ep, Runtime, SessionOptions};

/// What [`Bundle::verify`] has found in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verified<'a> {
    /// A file is what was exported.
    File(&'a str),
    /// A weight file is what was exported, and how it stands there.
    Weights(&'a str, Linked),
    /// A graph obeys the ONNX checker's rules.
    Graph(Part),
    /// ONNX Runtime has loaded a graph.
    Loaded(Part),
    /// A graph that the CPU provider has no kernels for, so that it was not loaded.
    NotLoaded(Part, &'static str),
}

impl Bundle {
    /// Checks everything that [`Bundle::open`] takes on trust: every small file and graph is hashed,
    /// every weight file identified by its contents, every graph held to the ONNX checker's rules.
    ///
    /// # Errors
    /// [`Error::Damaged`], naming the file.
    pub fn verify(&self, report: &mut dyn FnMut(Verified<'_>)) -> Result<()> {
        let damaged = |file: &str, problem: String| Error::Damaged {
            dir: self.dir().to_path_buf(),
            file: file.to_owned(),
            problem,
        };
        let changed = |file: &str| damaged(file, "was changed since the export".into());
        for (file, hash) in &self.config().files {
            if fsio::sha256(&self.dir().join(file))? != *hash {
                return Err(changed(file));
            }
            report(Verified::File(file));
        }
        for weights in &self.config().weights {
            for link in &weights.links {
                let path = self.dir().join(&link.path);
                if Identity::of(&path)? != weights.identity {
                    return Err(changed(&link.path));
                }
                let metadata = path.metadata().map_err(fsio::at("read", &path))?;
                report(Verified::Weights(&link.path, link.stands(&metadata)));
            }
        }
        for (&part, info) in &self.config().parts {
            let path = self.dir().join(&info.model);
            if fsio::sha256(&path)? != info.sha256 {
                return Err(changed(&info.model));
            }
            check(&path).map_err(|e| damaged(&info.model, e.to_string()))?;
            report(Verified::Graph(part));
        }
        Ok(())
    }

    /// Loads every graph that the CPU can run into ONNX Runtime, without its optimizations: weights
    /// are mapped, not read.
    ///
    /// # Errors
    /// [`Error::Runtime`] for a graph that is refused.
    pub fn verify_loads(
        &self,
        runtime: &Runtime,
        report: &mut dyn FnMut(Verified<'_>),
    ) -> Result<()> {
        let options = SessionOptions {
            ep: Ep::Cpu,
            optimize: false,
            ..SessionOptions::default()
        };
        for &part in self.config().parts.keys() {
            match self.lacks_kernels(part, options.ep)? {
                Some(what) => report(Verified::NotLoaded(part, what)),
                None => {
                    self.session(runtime, part, &options)?;
                    report(Verified::Loaded(part));
                }
            }
        }
        Ok(())
    }
}
