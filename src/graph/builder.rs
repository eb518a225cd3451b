//! The graph itself: values, nodes, inputs, outputs, and how operations are added to it.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::dim::{Dim, ShapeText, Symbol, SymbolInfo};
use super::error::{Error, Result};
use super::op::{Op, Operators};
use super::recompute::Recompute;
use crate::base::DType;

/// A handle to one tensor of a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value(pub(super) u32);

impl Value {
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// Where an initializer's bytes are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Data {
    /// Little-endian bytes, written into the model file: small constants.
    Inline(Arc<[u8]>),
    /// A byte range of a weight file, which the model file only points to.
    External {
        /// The weight file.
        file: Arc<Path>,
        /// First byte.
        offset: u64,
        /// Number of bytes.
        length: u64,
    },
    /// All zero: large ones share one file of zeros.
    Zeros,
}

/// Where a value comes from.
#[derive(Debug, Clone)]
pub(super) enum Origin {
    /// A graph input; with data, that is its default.
    Input {
        name: String,
        default: Option<Data>,
    },
    Initializer {
        name: String,
        data: Data,
    },
    Node(usize),
}

#[derive(Debug, Clone)]
pub(super) struct Tensor {
    pub(super) dtype: DType,
    pub(super) shape: Vec<Dim>,
    pub(super) origin: Origin,
}

#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) op: Op,
    pub(super) inputs: Vec<Value>,
    pub(super) outputs: Vec<Value>,
    pub(super) scope: Arc<str>,
}

/// A network under construction.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    pub(super) tensors: Vec<Tensor>,
    /// In topological order by construction: a node's operands exist before it.
    pub(super) nodes: Vec<Node>,
    pub(super) outputs: Vec<(String, Value)>,
    pub(super) names: BTreeSet<String>,
    pub(super) symbols: Vec<SymbolInfo>,
    /// A value and axis that carries each symbol (with its factor) at run time.
    pub(super) symbol_sources: HashMap<Symbol, (Value, usize)>,
    pub(super) scope: Vec<String>,
    /// Nodes that were built as parts to compute again for their gradient.
    pub(super) segments: Vec<Range<usize>>,
    /// Which parts those are.
    pub(super) recompute: Recompute,
    /// The input that keeps a second computation apart from the first; nothing where there is none.
    pub(super) gate: Option<Value>,
    /// What a graph of fixed sizes is made for; nothing where anybody may run it.
    pub(super) made_for: Option<Operators>,
}

impl Graph {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty graph that is made for one job: its sizes are numbers, nothing is left to a runtime's passes, and
    /// nodes run in the order in which the file has them. What it is made of when [`Graph::specialise`]d.
    pub fn made_for(operators: Operators) -> Self {
        Self {
            made_for: Some(operators),
            ..Self::default()
        }
    }

    /// Whether it is made for one job.
    pub fn is_made_for_one(&self) -> bool {
        self.made_for.is_some()
    }

    /// Whether products may take factors of their result, and operands transposed.
    pub fn has_products(&self) -> bool {
        self.made_for.is_some_and(|o| o != Operators::Standard)
    }

    /// Declares a size known only at run time, every value of which is a multiple of
    /// `multiple_of`. A symbol becomes usable in computed shapes once an input carries it as a
    /// dimension of its own.
    pub fn symbol(&mut self, name: &str, multiple_of: u64) -> Symbol {
        self.symbols.push(SymbolInfo {
            name: name.to_owned(),
            multiple_of,
            planned: None,
        });
        Symbol(u16::try_from(self.symbols.len() - 1).expect("a handful of symbols"))
    }

    /// Says which value of a symbol the graph should be laid out for. Others work too.
    pub fn plan(&mut self, symbol: Symbol, value: u64) {
        self.symbols[usize::from(symbol.0)].planned = Some(value);
    }

    /// A dimension's size as planned; nothing if a symbol in it has no plan.
    pub fn planned(&self, dim: &Dim) -> Option<u64> {
        dim.at(|s| self.plan_of(s))
    }

    pub(super) fn plan_of(&self, symbol: Symbol) -> Option<u64> {
        self.symbols[usize::from(symbol.0)].planned
    }

    /// `dim / n`, if that is a whole number whatever the symbols' values.
    pub fn part_of(&self, dim: &Dim, n: u64) -> Option<Dim> {
        let part = dim.over(n);
        part.is_whole(&self.symbols).then_some(part)
    }

    /// Adds a required graph input.
    pub fn input(&mut self, name: &str, dtype: DType, shape: &[Dim]) -> Result<Value> {
        self.add_input(name, dtype, shape, None)
    }

    /// Adds an input that need not be fed: an initializer of the same name holds its default
    /// (ONNX's overridable initializer).
    pub fn input_with_default(
        &mut self,
        name: &str,
        dtype: DType,
        shape: &[Dim],
        default: Data,
    ) -> Result<Value> {
        self.add_input(name, dtype, shape, Some(default))
    }

    fn add_input(
        &mut self,
        name: &str,
        dtype: DType,
        shape: &[Dim],
        default: Option<Data>,
    ) -> Result<Value> {
        self.claim(name)?;
        let origin = Origin::Input {
            name: name.to_owned(),
            default,
        };
        let value = self.add_tensor(dtype, shape.to_vec(), origin);
        for (axis, dim) in shape.iter().enumerate() {
            if let (1, 1, &[symbol]) = dim.parts() {
                self.symbol_sources.entry(symbol).or_insert((value, axis));
            }
        }
        Ok(value)
    }

    /// Adds a weight. Equal names are allowed (two graphs of one file, tied weights).
    pub fn initializer(&mut self, name: &str, dtype: DType, shape: &[u64], data: Data) -> Value {
        let shape = shape.iter().map(|&n| Dim::from(n)).collect();
        self.add_tensor(
            dtype,
            shape,
            Origin::Initializer {
                name: name.to_owned(),
                data,
            },
        )
    }

    /// An f32 constant.
    pub fn constant(&mut self, values: &[f32], shape: &[u64]) -> Value {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.initializer("", DType::F32, shape, Data::Inline(bytes.into()))
    }

    /// An f32 scalar.
    pub fn scalar(&mut self, value: f32) -> Value {
        self.constant(&[value], &[])
    }

    /// An i64 vector.
    pub fn integers(&mut self, values: &[i64]) -> Value {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.initializer(
            "",
            DType::I64,
            &[values.len() as u64],
            Data::Inline(bytes.into()),
        )
    }

    /// Names a value as a graph output.
    pub fn output(&mut self, name: &str, value: Value) -> Result<()> {
        self.claim(name)?;
        self.outputs.push((name.to_owned(), value));
        Ok(())
    }

    fn claim(&mut self, name: &str) -> Result<()> {
        if self.names.insert(name.to_owned()) {
            Ok(())
        } else {
            Err(Error::Duplicate(name.to_owned()))
        }
    }

    /// Shape of a value.
    pub fn shape(&self, value: Value) -> &[Dim] {
        &self.tensors[value.index()].shape
    }

    /// Number of axes of a value.
    pub fn rank(&self, value: Value) -> usize {
        self.shape(value).len()
    }

    /// Element type of a value.
    pub fn dtype(&self, value: Value) -> DType {
        self.tensors[value.index()].dtype
    }

    /// Bytes of a value at given sizes of the symbols; nothing if one isn't given or they overflow.
    pub(super) fn bytes(&self, value: Value, size: impl Fn(Symbol) -> Option<u64>) -> Option<u64> {
        let shape: Option<Vec<u64>> = self.shape(value).iter().map(|d| d.at(&size)).collect();
        self.dtype(value).bytes(&shape?)
    }

    /// How often each value is read, by nodes and as an output.
    pub(super) fn uses(&self) -> Vec<u32> {
        let mut uses = vec![0; self.tensors.len()];
        let inputs = self.nodes.iter().flat_map(|n| &n.inputs);
        for value in inputs.chain(self.outputs.iter().map(|o| &o.1)) {
            uses[value.index()] += 1;
        }
        uses
    }

    /// All values, in the order they were made.
    pub(super) fn values(&self) -> impl Iterator<Item = Value> + use<> {
        (0..self.tensors.len() as u32).map(Value)
    }

    /// Number of operations.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Each operation's ONNX name with the types of its first operand and first output, in
    /// topological order.
    pub fn operations(&self) -> impl Iterator<Item = (&'static str, DType, DType)> {
        self.nodes.iter().filter_map(|node| {
            let (&input, &output) = (node.inputs.first()?, node.outputs.first()?);
            Some((node.op.name(), self.dtype(input), self.dtype(output)))
        })
    }

    /// Whether the graph has no operation.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Inputs in order: name, value, whether it has a default.
    pub fn inputs(&self) -> impl Iterator<Item = (&str, Value, bool)> {
        self.tensors
            .iter()
            .enumerate()
            .filter_map(|(i, t)| match &t.origin {
                Origin::Input { name, default } => {
                    Some((name.as_str(), Value(i as u32), default.is_some()))
                }
                _ => None,
            })
    }

    /// Outputs in order.
    pub fn outputs(&self) -> &[(String, Value)] {
        &self.outputs
    }

    /// A dimension as text, with its symbols' names: `4`, `height/2`.
    pub fn dim_text(&self, dim: &Dim) -> String {
        dim.text(&self.symbols)
    }

    /// Enters a part of the network: ops added until the matching [`Graph::pop_scope`] carry the
    /// path in their names and errors.
    pub fn push_scope(&mut self, name: impl Into<String>) {
        self.scope.push(name.into());
    }

    /// Leaves the innermost scope.
    pub fn pop_scope(&mut self) {
        self.scope.pop();
    }

    /// Runs `body` inside a scope.
    pub fn scoped<T>(&mut self, name: impl Into<String>, body: impl FnOnce(&mut Self) -> T) -> T {
        self.push_scope(name);
        let result = body(self);
        self.pop_scope();
        result
    }

    pub(super) fn at(&self) -> String {
        self.scope.join(".")
    }

    pub(super) fn add_tensor(&mut self, dtype: DType, shape: Vec<Dim>, origin: Origin) -> Value {
        self.tensors.push(Tensor {
            dtype,
            shape,
            origin,
        });
        Value(u32::try_from(self.tensors.len() - 1).expect("fewer than 2^32 values"))
    }

    /// Adds a node with outputs of the given dtypes and shapes.
    pub(super) fn push_multi(
        &mut self,
        op: Op,
        inputs: &[Value],
        outputs: Vec<(DType, Vec<Dim>)>,
    ) -> Vec<Value> {
        let node = self.nodes.len();
        let outputs: Vec<Value> = outputs
            .into_iter()
            .map(|(dtype, shape)| self.add_tensor(dtype, shape, Origin::Node(node)))
            .collect();
        let scope = self.at().into();
        self.nodes.push(Node {
            op,
            inputs: inputs.to_vec(),
            outputs: outputs.clone(),
            scope,
        });
        outputs
    }

    pub(super) fn push(
        &mut self,
        op: Op,
        inputs: &[Value],
        dtype: DType,
        shape: Vec<Dim>,
    ) -> Value {
        self.push_multi(op, inputs, vec![(dtype, shape)])[0]
    }

    fn text(&self, value: Value) -> String {
        format!(
            "{:?} {}",
            self.dtype(value),
            ShapeText(self.shape(value), &self.symbols)
        )
    }

    /// An error about operands, with their types as `got`.
    pub(super) fn mismatch(
        &self,
        op: &'static str,
        expected: impl Into<String>,
        got: &[Value],
    ) -> Error {
        let got = got
            .iter()
            .map(|&v| self.text(v))
            .collect::<Vec<_>>()
            .join(" and ");
        Error::Operand {
            op,
            at: self.at(),
            expected: expected.into(),
            got,
        }
    }

    /// The index of the node that makes a value, if one does.
    pub(super) fn node_of(&self, value: Value) -> Option<usize> {
        match self.tensors[value.index()].origin {
            Origin::Node(index) => Some(index),
            _ => None,
        }
    }

    /// The node that makes a value, if one does.
    pub(super) fn producer(&self, value: Value) -> Option<&Node> {
        self.node_of(value).map(|index| &self.nodes[index])
    }
}
