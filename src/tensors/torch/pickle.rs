//! An interpreter of pickles that can only describe tensors.
//!
//! Pickle is a stack machine whose programs may call any function. This one knows the instructions
//! that torch's own files use, a few functions that it evaluates itself, and storages by name. Anything
//! else that is named, called or built is kept as that name alone: a training checkpoint has much beside
//! its state dict. Where it is the state dict or in it, or there is none, it is refused. Objects live in
//! one list and refer to each other by index, so neither cycles nor depth can exhaust the machine's
//! stack; every instruction makes at most one.
//! Opcodes: CPython `Lib/pickletools.py`; their use: torch `torch/serialization.py`.

mod script;

use std::collections::BTreeMap;

use super::code::{Code, Problem, Result, bad};
use crate::tensors::DType;

/// Most objects that a pickle may make.
const MAX_OBJECTS: usize = 1 << 20;
/// Most axes of a tensor, most digits of a storage's key and most arguments of a call. What a pickle
/// stores once it may name a million times, and each use costs as much again.
const MAX_AXES: usize = 8;
const MAX_KEY: usize = 20;
const MAX_ARGUMENTS: usize = 8;
/// Most names that describe no tensor, and longest of them.
const MAX_FOREIGN: usize = 1 << 10;
const MAX_NAME: usize = 256;

/// A tensor as the pickle describes it. Numbers count elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TensorInfo {
    pub(super) storage: String,
    pub(super) dtype: DType,
    pub(super) offset: u64,
    pub(super) shape: Vec<u64>,
    pub(super) strides: Vec<u64>,
}

/// What may be called or named.
#[derive(Debug, Clone, Copy)]
enum Global {
    OrderedDict,
    RebuildTensor,
    /// A parameter is its tensor, and what only training needs.
    RebuildParameter,
    Storage(DType),
    /// A class of TorchScript's: what holds a module's parameters and modules.
    Script,
}

/// Index of an object.
type Id = usize;

#[derive(Debug, Clone)]
enum Object {
    None,
    Int(i64),
    /// A number or bytes that mean nothing to us.
    Other,
    Text(String),
    Tuple(Vec<Id>),
    /// Lists hold nothing that matters; their items are dropped.
    List,
    Dict(Vec<(Id, Id)>),
    Global(Global),
    /// A storage: type and key.
    Storage(DType, String),
    /// What describes no tensor: index of the name that it was made by.
    Foreign(usize),
    /// An object of TorchScript's, and the dictionary of its attributes once it has been set.
    Script(Option<Id>),
    /// Boxed: a byte of pickle can make an object, which should be small.
    Tensor(Box<TensorInfo>),
}

/// The tensors that a pickled state dict names, or that of `state_dict` in a training checkpoint, or those
/// of a TorchScript module by their dotted paths.
pub(super) fn tensors(pickle: &[u8]) -> Result<Vec<(String, TensorInfo)>> {
    let mut machine = Machine {
        code: Code(pickle),
        objects: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: BTreeMap::new(),
        foreign: Vec::new(),
    };
    let root = machine.run()?;
    if let Object::Script(_) = machine.object(root) {
        return machine.module(root);
    }
    let mut dict = machine.dict(root)?;
    let inner = dict.iter().find(|&&(key, value)| {
        let named = matches!(machine.object(key), Object::Text(t) if t == "state_dict");
        named && matches!(machine.object(value), Object::Dict(_) | Object::Foreign(_))
    });
    match (inner, machine.foreign.first()) {
        (Some(&(_, inner)), _) => dict = machine.dict(inner)?,
        (None, Some(global)) => return Err(Problem::Global(global.clone())),
        (None, None) => {}
    }
    let mut named: BTreeMap<&str, &TensorInfo> = BTreeMap::new();
    for &(key, value) in dict {
        match (machine.object(key), machine.object(value)) {
            (Object::Text(name), Object::Tensor(info)) if named.insert(name, info).is_some() => {
                return bad(format!("it names `{name}` twice"));
            }
            (_, Object::Foreign(global)) | (Object::Foreign(global), _) => {
                return Err(Problem::Global(machine.foreign[*global].clone()));
            }
            _ => {}
        }
    }
    let owned = |(name, info): (&str, &TensorInfo)| (name.to_owned(), info.clone());
    Ok(named.into_iter().map(owned).collect())
}

/// Refuses a call of more arguments than any of torch's has.
fn few(arguments: &[Id]) -> Result<()> {
    match arguments.len() <= MAX_ARGUMENTS {
        true => Ok(()),
        false => bad(format!("a call of more than {MAX_ARGUMENTS} arguments")),
    }
}

struct Machine<'a> {
    code: Code<'a>,
    objects: Vec<Object>,
    stack: Vec<Id>,
    /// Heights of the stack where MARK stood.
    marks: Vec<usize>,
    /// By the number it was stored under, which the pickle chooses.
    memo: BTreeMap<usize, Id>,
    /// Names that describe no tensor, each once.
    foreign: Vec<String>,
}

impl Machine<'_> {
    fn run(&mut self) -> Result<Id> {
        loop {
            let [op] = self.code.array()?;
            if op == b'.' {
                return self.pop();
            }
            self.step(op)?;
        }
    }

    /// One instruction.
    fn step(&mut self, op: u8) -> Result<()> {
        match op {
            // PROTO and FRAME only announce.
            0x80 => drop(self.code.array::<1>()?),
            0x95 => drop(self.code.array::<8>()?),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.marked()?),
            b'2' => {
                let top = self.pop()?;
                self.stack.extend([top, top]);
            }
            b'}' => self.push(Object::Dict(Vec::new()))?,
            // Sets are as lists to us.
            b']' | 0x8f => self.push(Object::List)?,
            0x91 => {
                self.marked()?;
                self.push(Object::List)?;
            }
            b')' => self.push(Object::Tuple(Vec::new()))?,
            b'N' => self.push(Object::None)?,
            0x88 => self.push(Object::Int(1))?,
            0x89 => self.push(Object::Int(0))?,
            b'G' => {
                self.code.array::<8>()?;
                self.push(Object::Other)?;
            }
            b'K' | b'M' | b'J' | 0x8a | 0x8b => {
                let value = self.code.integer(op)?;
                self.push(value.map_or(Object::Other, Object::Int))?;
            }
            b'X' | 0x8c | 0x8d | b'U' | b'T' | b'B' | b'C' | 0x8e | 0x96 => {
                let text = self.code.text(op)?;
                self.push(text.map_or(Object::Other, Object::Text))?;
            }
            b'q' | b'r' | 0x94 | b'h' | b'j' => self.memory(op)?,
            b't' | 0x85..=0x87 => self.tuple(op)?,
            b'a' | b'e' | b's' | b'u' | 0x90 => self.fill(op)?,
            b'c' | 0x93 => self.global(op)?,
            b'Q' => self.persistent()?,
            b'R' | 0x81 => self.call()?,
            // Named arguments belong to no tensor.
            0x92 => {
                self.pop()?;
                self.call()?;
            }
            b'b' => self.build()?,
            _ => {
                return bad(format!(
                    "instruction 0x{op:02x} is not one that describes tensors"
                ));
            }
        }
        Ok(())
    }

    fn memory(&mut self, op: u8) -> Result<()> {
        let index = match op {
            b'q' | b'h' => self.code.array::<1>()?[0] as usize,
            b'r' | b'j' => u32::from_le_bytes(self.code.array()?) as usize,
            _ => self.memo.len(),
        };
        if matches!(op, b'h' | b'j') {
            let Some(&id) = self.memo.get(&index) else {
                return bad(format!("it recalls {index}, which it never stored"));
            };
            self.stack.push(id);
            return Ok(());
        }
        let top = self.pop()?;
        self.stack.push(top);
        self.memo.insert(index, top);
        Ok(())
    }

    fn tuple(&mut self, op: u8) -> Result<()> {
        let items = match op {
            b't' => self.marked()?,
            _ => {
                let count = usize::from(op - 0x84);
                let mut items = Vec::with_capacity(count);
                for _ in 0..count {
                    items.push(self.pop()?);
                }
                items.reverse();
                items
            }
        };
        self.push(Object::Tuple(items))
    }

    /// Puts items into the list or dictionary below them.
    fn fill(&mut self, op: u8) -> Result<()> {
        let items = match op {
            b'a' => vec![self.pop()?],
            b's' => {
                let value = self.pop()?;
                vec![self.pop()?, value]
            }
            _ => self.marked()?,
        };
        let target = self.pop()?;
        self.stack.push(target);
        match (&mut self.objects[target], op) {
            (Object::List, b'a' | b'e' | 0x90) | (Object::Foreign(_), _) => Ok(()),
            (Object::Dict(pairs), b's' | b'u') if items.len().is_multiple_of(2) => {
                pairs.extend(items.as_chunks::<2>().0.iter().map(|&[k, v]| (k, v)));
                Ok(())
            }
            _ => bad("items are put into what is no list or dictionary"),
        }
    }

    fn global(&mut self, op: u8) -> Result<()> {
        let (module, name) = if op == b'c' {
            (self.code.line()?, self.code.line()?)
        } else {
            let (name, module) = (self.pop()?, self.pop()?);
            match (self.object(module), self.object(name)) {
                (Object::Text(module), Object::Text(name)) => (module.clone(), name.clone()),
                _ => return bad("a global without a name"),
            }
        };
        let known = match (module.as_str(), name.as_str()) {
            ("collections", "OrderedDict") => Some(Global::OrderedDict),
            ("torch._utils", "_rebuild_tensor_v2") => Some(Global::RebuildTensor),
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
                Some(Global::RebuildParameter)
            }
            ("torch", name) => storage(name).map(Global::Storage),
            _ if is_script(&module) => Some(Global::Script),
            _ => None,
        };
        match known {
            Some(global) => self.push(Object::Global(global)),
            None => self.foreign(format!("{module}.{name}")),
        }
    }

    /// Keeps what a name stands for as that name.
    fn foreign(&mut self, name: String) -> Result<()> {
        let index = match self.foreign.iter().position(|known| *known == name) {
            Some(index) => index,
            None if name.len() > MAX_NAME => return bad("a name longer than any of Python's"),
            None if self.foreign.len() == MAX_FOREIGN => {
                return bad(format!(
                    "more than {MAX_FOREIGN} names that describe no tensor"
                ));
            }
            None => {
                self.foreign.push(name);
                self.foreign.len() - 1
            }
        };
        self.push(Object::Foreign(index))
    }

    /// BINPERSID: `("storage", type, key, device, elements)`.
    fn persistent(&mut self) -> Result<()> {
        let id = self.pop()?;
        let Object::Tuple(items) = self.object(id) else {
            return bad("a persistent id that is no tuple");
        };
        few(items)?;
        let objects: Vec<&Object> = items.iter().map(|&i| self.object(i)).collect();
        match objects.as_slice() {
            [
                Object::Text(kind),
                Object::Global(Global::Storage(dtype)),
                Object::Text(key),
                ..,
            ] if kind == "storage"
                && (1..=MAX_KEY).contains(&key.len())
                && key.bytes().all(|b| b.is_ascii_digit()) =>
            {
                let storage = Object::Storage(*dtype, key.clone());
                self.push(storage)
            }
            [Object::Text(_), Object::Foreign(global), ..] => {
                let global = Object::Foreign(*global);
                self.push(global)
            }
            _ => bad("a persistent id that is no storage"),
        }
    }

    /// REDUCE and NEWOBJ: calls a function, or makes an object of a class, with a tuple of arguments.
    fn call(&mut self) -> Result<()> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let Object::Tuple(items) = self.object(arguments) else {
            return bad("a call without arguments");
        };
        let made = match self.object(function) {
            Object::Foreign(global) => Object::Foreign(*global),
            Object::Global(Global::OrderedDict) if items.is_empty() => Object::Dict(Vec::new()),
            Object::Global(Global::Script) if items.is_empty() => Object::Script(None),
            Object::Global(function) => match (function, items.first().map(|&i| self.object(i))) {
                (
                    Global::RebuildTensor | Global::RebuildParameter,
                    Some(Object::Foreign(global)),
                ) => Object::Foreign(*global),
                (Global::RebuildTensor, _) => Object::Tensor(Box::new(self.tensor(items)?)),
                (Global::RebuildParameter, Some(Object::Tensor(info))) => {
                    Object::Tensor(info.clone())
                }
                _ => return bad("a call of what is no function of torch's tensors"),
            },
            _ => return bad("a call of what is no function of torch's tensors"),
        };
        self.push(made)
    }

    /// The arguments of `_rebuild_tensor_v2`: storage, offset, size, stride, and what only training
    /// needs.
    fn tensor(&self, items: &[Id]) -> Result<TensorInfo> {
        few(items)?;
        let objects: Vec<&Object> = items.iter().map(|&i| self.object(i)).collect();
        let [
            Object::Storage(dtype, key),
            Object::Int(offset),
            Object::Tuple(shape),
            Object::Tuple(strides),
            ..,
        ] = objects.as_slice()
        else {
            return bad("a tensor that is not made of a storage, offset, size and stride");
        };
        if shape.len() > MAX_AXES || strides.len() > MAX_AXES {
            return bad(format!("a tensor of more than {MAX_AXES} axes"));
        }
        let numbers = |ids: &[Id]| {
            let number = |&id: &Id| match self.object(id) {
                Object::Int(n) => u64::try_from(*n).ok(),
                _ => None,
            };
            ids.iter().map(number).collect::<Option<Vec<u64>>>()
        };
        match (u64::try_from(*offset), numbers(shape), numbers(strides)) {
            (Ok(offset), Some(shape), Some(strides)) if shape.len() == strides.len() => {
                Ok(TensorInfo {
                    storage: key.clone(),
                    dtype: *dtype,
                    offset,
                    shape,
                    strides,
                })
            }
            _ => bad("a tensor of a size or stride that is no list of counts"),
        }
    }

    /// BUILD sets attributes; a state dict's (`_metadata`) say nothing about the tensors.
    fn build(&mut self) -> Result<()> {
        let state = self.pop()?;
        let target = self.pop()?;
        self.stack.push(target);
        match &mut self.objects[target] {
            Object::Dict(_) | Object::Foreign(_) => Ok(()),
            Object::Script(attributes @ None) => {
                *attributes = Some(state);
                Ok(())
            }
            _ => bad("attributes are set on what is no dictionary"),
        }
    }

    fn dict(&self, id: Id) -> Result<&[(Id, Id)]> {
        match self.object(id) {
            Object::Dict(pairs) => Ok(pairs),
            Object::Foreign(global) => Err(Problem::Global(self.foreign[*global].clone())),
            _ => bad("it holds no dictionary of tensors"),
        }
    }

    fn object(&self, id: Id) -> &Object {
        &self.objects[id]
    }

    fn push(&mut self, object: Object) -> Result<()> {
        if self.objects.len() >= MAX_OBJECTS {
            return bad(format!("more than {MAX_OBJECTS} objects"));
        }
        self.stack.push(self.objects.len());
        self.objects.push(object);
        Ok(())
    }

    /// Takes the topmost object; a mark is a floor.
    fn pop(&mut self) -> Result<Id> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return bad("it takes more off the stack than there is");
        }
        self.stack.pop().map_or_else(|| bad("an empty stack"), Ok)
    }

    /// Takes everything above the last mark.
    fn marked(&mut self) -> Result<Vec<Id>> {
        match self.marks.pop() {
            Some(mark) => Ok(self.stack.split_off(mark)),
            None => bad("items without a mark before them"),
        }
    }
}

/// The element type of a storage class.
fn storage(name: &str) -> Option<DType> {
    Some(match name {
        "FloatStorage" => DType::F32,
        "HalfStorage" => DType::F16,
        "BFloat16Storage" => DType::BF16,
        "DoubleStorage" => DType::F64,
        "LongStorage" => DType::I64,
        "IntStorage" => DType::I32,
        "ShortStorage" => DType::I16,
        "CharStorage" => DType::I8,
        "ByteStorage" => DType::U8,
        "BoolStorage" => DType::Bool,
        _ => return None,
    })
}

/// Whether the classes of a Python module are TorchScript's.
fn is_script(module: &str) -> bool {
    module == "__torch__" || module.starts_with("__torch__.")
}
