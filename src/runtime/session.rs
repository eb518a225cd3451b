//! One graph, loaded on one execution provider.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ort::session::builder::GraphOptimizationLevel;
use ort::session::{Session as OrtSession, SessionInputValue};
use ort::value::{TensorElementType, ValueType};

use super::feed::OutputNames;
use super::options::{ComputeStream, SessionOptions};
use super::{Ep, Error, Feed, Memory, Outputs, Result, Runtime, engine_cache, library, providers};
use crate::base::{fsio, slow};

/// An input or output as the graph declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name.
    pub name: String,
    /// Element type.
    pub dtype: TensorElementType,
    /// Dimensions; nothing where any size is fine.
    pub dims: Vec<Option<i64>>,
}

impl TensorSpec {
    fn new(name: &str, value: &ValueType) -> Self {
        let dims = value
            .tensor_shape()
            .map(|shape| shape.iter().copied())
            .into_iter()
            .flatten();
        Self {
            name: name.to_owned(),
            dtype: value.tensor_type().unwrap_or(TensorElementType::Undefined),
            dims: dims.map(|d| (d >= 0).then_some(d)).collect(),
        }
    }

    /// Whether an array of this shape may be fed.
    pub fn accepts(&self, shape: &[usize]) -> bool {
        let fits = |(dim, &size): (&Option<i64>, &usize)| dim.is_none_or(|d| d == size as i64);
        self.dims.len() == shape.len() && self.dims.iter().zip(shape).all(fits)
    }

    /// The dimensions as text: `[?, 4, ?, ?]`.
    pub fn shape_text(&self) -> String {
        let dim = |d: &Option<i64>| d.map_or("?".to_owned(), |d| d.to_string());
        format!(
            "[{}]",
            self.dims.iter().map(dim).collect::<Vec<_>>().join(", ")
        )
    }
}

/// A loaded graph.
#[derive(Debug)]
pub struct Session {
    pub(super) inner: OrtSession,
    path: Arc<Path>,
    ep: Ep,
    memory: Memory,
    /// Dropped after the session, which may still use it while it is dropped.
    _stream: Option<ComputeStream>,
    inputs: Vec<TensorSpec>,
    optional: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    pub(super) output_names: Arc<OutputNames>,
    /// Position of each name in `inputs`, then in `optional`.
    by_name: HashMap<String, usize>,
    pub(super) busy: Duration,
}

impl Session {
    /// Loads a model file. External data must lie in its folder.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the provider that was asked for can't run here,
    /// [`Error::Load`] with ONNX Runtime's reason if it refuses the graph.
    pub fn open(
        runtime: &Runtime,
        path: impl AsRef<Path>,
        options: &SessionOptions,
    ) -> Result<Self> {
        Self::load(runtime, &Model::File(path.as_ref()), options)
    }

    /// Loads a model that no file holds.
    ///
    /// # Errors
    /// As [`Session::open`]; [`Error::Load`] for TensorRT, which keeps its engines by model file.
    pub fn in_memory(
        runtime: &Runtime,
        model: &InMemory<'_>,
        options: &SessionOptions,
    ) -> Result<Self> {
        Self::load(runtime, &Model::Memory(model), options)
    }

    fn load(runtime: &Runtime, model: &Model<'_>, options: &SessionOptions) -> Result<Self> {
        let path = model.path();
        let (inner, ep) = build(runtime, model, options)?;
        let specs = |outlets: &[ort::value::Outlet]| -> Vec<TensorSpec> {
            let spec = |o: &ort::value::Outlet| TensorSpec::new(o.name(), o.dtype());
            outlets.iter().map(spec).collect()
        };
        let (inputs, outputs) = (specs(inner.inputs()), specs(inner.outputs()));
        let optional: Vec<TensorSpec> = inner
            .overridable_initializers()
            .iter()
            .map(|o| TensorSpec::new(o.name(), o.dtype()))
            .collect();
        let all = inputs.iter().chain(&optional).enumerate();
        let by_name = all.map(|(i, spec)| (spec.name.clone(), i)).collect();
        let names = outputs.iter().map(|o| o.name.clone()).collect();
        let output_names = Arc::new(OutputNames::new(names));
        Ok(Self {
            inner,
            path: path.into(),
            ep,
            memory: Memory::of(ep, options.device),
            _stream: options.stream.clone(),
            inputs,
            optional,
            outputs,
            output_names,
            by_name,
            busy: Duration::ZERO,
        })
    }

    /// The model file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The provider it runs on, never [`Ep::Auto`].
    pub fn ep(&self) -> Ep {
        self.ep
    }

    /// Time spent in ONNX Runtime's runs so far.
    pub fn busy(&self) -> Duration {
        self.busy
    }

    /// Where it computes.
    pub fn memory(&self) -> Memory {
        self.memory
    }

    /// Whether the graph takes or gives fp16, whose numbers end at 65504.
    pub fn is_fp16(&self) -> bool {
        let mut ports = self.inputs.iter().chain(&self.outputs);
        ports.any(|port| port.dtype == TensorElementType::Float16)
    }

    /// The inputs that every run must be given.
    pub fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    /// The inputs that have defaults in the file (LoRA factors).
    pub fn optional_inputs(&self) -> &[TensorSpec] {
        &self.optional
    }

    /// The outputs, in order.
    pub fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    /// The required or optional input of that name.
    pub fn input(&self, name: &str) -> Option<&TensorSpec> {
        Some(self.spec(*self.by_name.get(name)?))
    }

    /// Runs the graph. Arrays whose type is the declared one are not copied; others are cast.
    ///
    /// # Errors
    /// [`Error::MissingInput`], [`Error::UnexpectedInput`], [`Error::InputShape`] and
    /// [`Error::InputType`] for what doesn't fit the graph, [`Error::Run`] with ONNX Runtime's
    /// reason.
    pub fn run(&mut self, feed: &Feed<'_>) -> Result<Outputs> {
        let mut given = self.nothing_given();
        let values = self.bind(feed, &mut given)?;
        self.all_given(&given)?;
        let start = Instant::now();
        let outputs = self.inner.run(values).map_err(|e| Error::Run {
            path: self.path.to_path_buf(),
            reason: e.to_string(),
        })?;
        self.busy += start.elapsed();
        let values = outputs.into_iter().map(|(_, value)| value).collect();
        Ok(Outputs::new(
            Arc::clone(&self.path),
            Arc::clone(&self.output_names),
            values,
        ))
    }

    /// For each declared input whether it has been given a value: none.
    pub(super) fn nothing_given(&self) -> Vec<bool> {
        vec![false; self.inputs.len() + self.optional.len()]
    }

    /// Checks the feed against the declared inputs and makes ONNX Runtime's views of it.
    pub(super) fn bind<'a>(
        &self,
        feed: &'a Feed<'a>,
        given: &mut [bool],
    ) -> Result<Vec<(Cow<'a, str>, SessionInputValue<'a>)>> {
        let mut values = Vec::with_capacity(feed.len());
        for entry in feed.entries() {
            let name = entry.name();
            let spec = self.take_input(name, entry.shape(), given)?;
            let value = entry
                .value(spec.dtype)
                .map_err(|problem| Error::InputType {
                    path: self.path.to_path_buf(),
                    name: name.to_owned(),
                    problem,
                })?;
            values.push((Cow::Borrowed(name), value));
        }
        Ok(values)
    }

    /// The declared input of that name, which no value was given yet and which takes this shape.
    pub(super) fn take_input(
        &self,
        name: &str,
        shape: &[usize],
        given: &mut [bool],
    ) -> Result<&TensorSpec> {
        let unexpected = |problem: &str| Error::UnexpectedInput {
            path: self.path.to_path_buf(),
            name: name.to_owned(),
            problem: problem.to_owned(),
        };
        let index = self.by_name.get(name);
        let &index = index.ok_or_else(|| unexpected("not one of the graph's"))?;
        if std::mem::replace(&mut given[index], true) {
            return Err(unexpected("given twice"));
        }
        let spec = self.spec(index);
        if spec.accepts(shape) {
            return Ok(spec);
        }
        Err(Error::InputShape {
            path: self.path.to_path_buf(),
            name: name.to_owned(),
            found: shape.to_vec(),
            expected: spec.shape_text(),
        })
    }

    /// Checks that every required input has a value.
    pub(super) fn all_given(&self, given: &[bool]) -> Result<()> {
        match given[..self.inputs.len()].iter().position(|&g| !g) {
            Some(missing) => Err(Error::MissingInput {
                path: self.path.to_path_buf(),
                name: self.inputs[missing].name.clone(),
            }),
            None => Ok(()),
        }
    }

    /// The required or, after them, optional input of that number.
    fn spec(&self, index: usize) -> &TensorSpec {
        let required = self.inputs.len();
        let own = self.inputs.get(index);
        own.unwrap_or_else(|| &self.optional[index - required])
    }
}

/// The provider that sessions with these options will run on: resolves and logs [`Ep::Auto`] once
/// for many sessions.
///
/// # Errors
/// [`Error::Unavailable`] if the provider that was asked for can't run here.
pub fn resolve(runtime: &Runtime, options: &SessionOptions) -> Result<Ep> {
    let builder = OrtSession::builder(runtime.env()).map_err(|e| Error::Unavailable {
        ep: options.ep,
        reason: e.to_string(),
    })?;
    Ok(providers::register(builder, options, None)?.1)
}

/// A model as bytes.
#[derive(Debug, Clone, Copy)]
pub struct InMemory<'a> {
    /// The file that it would be, for messages.
    pub path: &'a Path,
    /// An ONNX file's bytes.
    pub bytes: &'a [u8],
    /// Where its external data lies.
    pub folder: &'a Path,
}

/// Where a model is.
enum Model<'a> {
    File(&'a Path),
    Memory(&'a InMemory<'a>),
}

impl Model<'_> {
    fn path(&self) -> &Path {
        match self {
            Self::File(path) => path,
            Self::Memory(model) => model.path,
        }
    }
}

/// Sets everything up and loads the model.
fn build(
    runtime: &Runtime,
    model: &Model<'_>,
    options: &SessionOptions,
) -> Result<(OrtSession, Ep)> {
    let path = model.path();
    let refused = |e: &dyn std::fmt::Display| Error::Load {
        path: path.to_path_buf(),
        reason: e.to_string(),
    };
    match (model, options.ep) {
        (Model::File(path), _) if !path.is_file() => {
            return Err(refused(&"there is no such file"));
        }
        (Model::Memory(_), Ep::TensorRt) => return Err(refused(&"it is in no file")),
        _ => {}
    }
    // TensorRT does its own optimisation; ONNX Runtime's own tools turn the graph passes off
    // before it, so that it sees the operators it knows.
    let in_place = options.ep == Ep::Cpu && options.weights_in_place;
    let (level, engines) = match options.ep {
        Ep::TensorRt => {
            let folder = engine_cache::folder(runtime, path, options)?;
            (GraphOptimizationLevel::Disable, Some(folder))
        }
        _ if options.finished => (GraphOptimizationLevel::Disable, None),
        // The last level is the one that lays weights out anew.
        _ if in_place => (GraphOptimizationLevel::Level2, None),
        _ if options.optimize => (GraphOptimizationLevel::All, None),
        _ => (GraphOptimizationLevel::Disable, None),
    };
    let mut builder = OrtSession::builder(runtime.env())
        .map_err(|e| refused(&e))?
        .with_log_level(library::log_level())
        .map_err(|e| refused(&e))?
        .with_optimization_level(level)
        .map_err(|e| refused(&e))?
        .with_deterministic_compute(true)
        .map_err(|e| refused(&e))?
        .with_intra_threads(options.threads)
        .map_err(|e| refused(&e))?
        .with_intra_op_spinning(options.spin)
        .map_err(|e| refused(&e))?;
    if in_place {
        builder = builder
            .with_prepacking(false)
            .map_err(|e| refused(&e))?
            .with_disabled_optimizers("ConstantFolding")
            .map_err(|e| refused(&e))?
            // One block for all of a run's tensors would be a good deal larger than they are.
            .with_memory_pattern(false)
            .map_err(|e| refused(&e))?;
    }
    let (mut builder, ep) = providers::register(builder, options, engines.as_deref())?;
    if options.one_device && ep == Ep::Cuda {
        let key = "session.disable_cpu_ep_fallback";
        builder = builder
            .with_config_entry(key, "1")
            .map_err(|e| refused(&e))?;
    }
    let loading = format!("loading {}", path.display());
    let session = match model {
        Model::File(path) => slow::call(&loading, || builder.commit_from_file(path)),
        Model::Memory(InMemory { bytes, folder, .. }) => {
            let folder = std::path::absolute(folder).map_err(fsio::at("read", folder))?;
            let key = "session.model_external_initializers_file_folder_path";
            let named = builder.with_config_entry(key, folder.to_string_lossy());
            let mut builder = named.map_err(|e| refused(&e))?;
            slow::call(&loading, || builder.commit_from_memory(bytes))
        }
    };
    let session = session.map_err(|e| refused(&e))?;
    Ok((session, ep))
}
