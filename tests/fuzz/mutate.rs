//! Changes to valid files that keep most of them valid, so that readers get far into them.

use proptest::prelude::*;

/// One change. Places are fractions of the file, so that they fit whatever its length is by then.
#[derive(Debug, Clone)]
pub(crate) enum Mutation {
    Flip(u32, u8),
    Set(u32, u8),
    Cut(u32),
    Remove(u32, u8),
    Insert(u32, Vec<u8>),
    /// Copies a piece of the file over or into another place.
    Splice(u32, u32, u8, bool),
    /// Overwrites 2, 4 or 8 bytes with a number that is likely to overflow.
    Number(u32, u8, u64),
    /// Replaces a decimal number by another.
    Decimal(u32, String),
    /// Replaces a quoted text by another of the file's.
    Word(u32, u32),
}

/// Numbers at which arithmetic goes wrong.
fn numbers() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just(1),
        Just(u64::from(u16::MAX)),
        Just(u64::from(u32::MAX)),
        Just(1 << 31),
        Just(1 << 32),
        Just((1 << 63) - 1),
        Just(1 << 63),
        Just(u64::MAX),
        Just(u64::MAX - 7),
        (0..64_u32).prop_map(|bits| 1 << bits),
        any::<u64>(),
        0..4096_u64,
    ]
}

fn decimals() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => numbers().prop_map(|n| n.to_string()),
        1 => Just("-1".to_owned()),
        1 => Just("1e999".to_owned()),
        1 => Just("0.5".to_owned()),
        1 => Just("null".to_owned()),
        1 => Just("18446744073709551616".to_owned()),
        1 => Just("[[[[0]]]]".to_owned()),
    ]
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = any::<u32>;
    prop_oneof![
        1 => (at(), 0..8_u8).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
        1 => (at(), any::<u8>()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        1 => at().prop_map(Mutation::Cut),
        1 => (at(), any::<u8>()).prop_map(|(at, n)| Mutation::Remove(at, n)),
        1 => (at(), prop::collection::vec(any::<u8>(), 1..12)).prop_map(|(at, b)| Mutation::Insert(at, b)),
        1 => (at(), at(), any::<u8>(), any::<bool>())
            .prop_map(|(from, to, n, over)| Mutation::Splice(from, to, n, over)),
        1 => (at(), 1..4_u8, numbers()).prop_map(|(at, width, n)| Mutation::Number(at, width, n)),
        3 => (at(), decimals()).prop_map(|(at, text)| Mutation::Decimal(at, text)),
        2 => (at(), at()).prop_map(|(from, to)| Mutation::Word(from, to)),
    ]
}

/// A few changes, one after the other.
pub(crate) fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    prop::collection::vec(mutation(), 1..6)
}

/// The place that a fraction of a length means.
fn place(fraction: u32, length: usize) -> usize {
    ((u64::from(fraction) * (length as u64 + 1)) >> 32) as usize
}

/// The file with all changes made.
pub(crate) fn mutated(mut file: Vec<u8>, mutations: &[Mutation]) -> Vec<u8> {
    for mutation in mutations {
        apply(&mut file, mutation);
    }
    file
}

fn apply(file: &mut Vec<u8>, mutation: &Mutation) {
    let length = file.len();
    let at = |fraction: &u32| place(*fraction, length);
    let end = |start: usize, n: u8| (start + usize::from(n)).min(length);
    match mutation {
        Mutation::Flip(to, bit) => change(file, at(to), |b| b ^ (1 << bit)),
        Mutation::Set(to, byte) => change(file, at(to), |_| *byte),
        Mutation::Cut(to) => file.truncate(at(to)),
        Mutation::Remove(to, n) => drop(file.drain(at(to)..end(at(to), *n))),
        Mutation::Insert(to, bytes) => {
            let to = at(to);
            file.splice(to..to, bytes.iter().copied());
        }
        Mutation::Splice(from, to, n, over) => {
            let piece = file[at(from)..end(at(from), *n)].to_vec();
            let (start, replaced) = (at(to), if *over { piece.len() } else { 0 });
            file.splice(start..(start + replaced).min(length), piece);
        }
        Mutation::Number(to, width, number) => {
            let (start, width) = (at(to), 1 << width);
            let stop = (start + width).min(length);
            file[start..stop].copy_from_slice(&number.to_le_bytes()[..stop - start]);
        }
        Mutation::Decimal(to, text) => {
            let digits = runs(file, u8::is_ascii_digit);
            if let Some(run) = digits
                .get(place(*to, digits.len().saturating_sub(1)))
                .cloned()
            {
                file.splice(run, text.bytes());
            }
        }
        Mutation::Word(from, to) => {
            let words = quoted(file);
            let pick = |fraction: &u32| words.get(place(*fraction, words.len().saturating_sub(1)));
            if let (Some(from), Some(to)) = (pick(from), pick(to)) {
                let word = file[from.clone()].to_vec();
                file.splice(to.clone(), word);
            }
        }
    }
}

fn change(file: &mut [u8], at: usize, by: impl Fn(u8) -> u8) {
    if let Some(byte) = file.get_mut(at) {
        *byte = by(*byte);
    }
}

/// The runs of bytes that are alike.
fn runs(file: &[u8], alike: impl Fn(&u8) -> bool) -> Vec<std::ops::Range<usize>> {
    let mut runs: Vec<std::ops::Range<usize>> = Vec::new();
    for (index, _) in file.iter().enumerate().filter(|(_, byte)| alike(byte)) {
        match runs.last_mut() {
            Some(run) if run.end == index => run.end += 1,
            _ => runs.push(index..index + 1),
        }
    }
    runs
}

/// The insides of quoted texts.
fn quoted(file: &[u8]) -> Vec<std::ops::Range<usize>> {
    let marks: Vec<usize> = (0..file.len()).filter(|&i| file[i] == b'"').collect();
    marks
        .chunks_exact(2)
        .map(|pair| pair[0] + 1..pair[1])
        .collect()
}
