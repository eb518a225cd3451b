//! Huffman codes and the bits they are made of.

use super::fault::Fault;

/// Codes of up to this many bits are looked up.
const FAST: u32 = 9;

/// A code.
#[derive(Debug)]
pub(super) struct Huffman {
    /// By the next [`FAST`] bits: length and symbol; length 0 for longer codes.
    fast: Vec<(u8, u8)>,
    /// By length: one more than the largest code, left-aligned in 16 bits.
    limit: [u32; 17],
    /// By length: what to add to a code to get its symbol's index.
    offset: [i32; 17],
    symbols: Vec<u8>,
}

impl Huffman {
    /// From the number of codes of each length and their symbols; nothing if there are no such
    /// codes.
    pub(super) fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Self> {
        let mut table = Self {
            fast: vec![(0, 0); 1 << FAST],
            limit: [0; 17],
            offset: [0; 17],
            symbols: symbols.to_vec(),
        };
        let (mut code, mut index) = (0u32, 0usize);
        for length in 1..=16u32 {
            table.offset[length as usize] = index as i32 - code as i32;
            for _ in 0..counts[length as usize - 1] {
                if length <= FAST {
                    let shift = FAST - length;
                    let from = (code << shift) as usize;
                    let entry = (length as u8, *symbols.get(index)?);
                    table.fast.get_mut(from..from + (1 << shift))?.fill(entry);
                }
                code += 1;
                index += 1;
            }
            if code > 1 << length {
                return None;
            }
            table.limit[length as usize] = code << (16 - length);
            code <<= 1;
        }
        (index == symbols.len()).then_some(table)
    }
}

/// The bits of a scan.
#[derive(Debug)]
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The next bits, at the top.
    buffer: u64,
    filled: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            buffer: 0,
            filled: 0,
        }
    }

    /// Where the data ends, for whoever reads on: at a marker.
    pub(super) fn end(self) -> usize {
        self.at
    }

    fn fill(&mut self) {
        while self.filled <= 56 {
            let step = match self.bytes.get(self.at..) {
                // A data byte of 0xFF is followed by 0; anything else after it is a marker.
                Some([0xFF, 0, ..]) => 2,
                Some([0xFF, ..] | []) | None => return,
                Some(_) => 1,
            };
            let byte = u64::from(self.bytes[self.at]);
            self.at += step;
            self.buffer |= byte << (56 - self.filled);
            self.filled += 8;
        }
    }

    fn take(&mut self, count: u32) -> Result<(), Fault> {
        if count > self.filled {
            let text = "the picture's data ends early";
            // Before a marker it is damage; a lone byte can be half of one.
            return Err(match self.bytes.len() <= self.at + 1 {
                true => Fault::cut(text),
                false => text.into(),
            });
        }
        self.buffer <<= count;
        self.filled -= count;
        Ok(())
    }

    /// The next `count` bits, 0 to 16.
    pub(super) fn bits(&mut self, count: u32) -> Result<i32, Fault> {
        if count == 0 {
            return Ok(0);
        }
        if self.filled < count {
            self.fill();
        }
        let value = (self.buffer >> (64 - count)) as i32;
        self.take(count)?;
        Ok(value)
    }

    /// The next symbol of a code.
    pub(super) fn symbol(&mut self, code: &Huffman) -> Result<u8, Fault> {
        if self.filled < 16 {
            self.fill();
        }
        let (length, symbol) = code.fast[(self.buffer >> (64 - FAST)) as usize];
        if length > 0 {
            self.take(length.into())?;
            return Ok(symbol);
        }
        let next = (self.buffer >> 48) as u32;
        for length in FAST + 1..=16 {
            if next < code.limit[length as usize] {
                self.take(length)?;
                let index = (next >> (16 - length)) as i32 + code.offset[length as usize];
                let symbol = code.symbols.get(index as usize);
                return symbol.copied().ok_or_else(|| "a code that is none".into());
            }
        }
        Err("a code that is none".into())
    }

    /// The value of `count` bits in which numbers below the half are negative.
    pub(super) fn signed(&mut self, count: u32) -> Result<i32, Fault> {
        let value = self.bits(count)?;
        let negative = count > 0 && value < 1 << (count - 1);
        Ok(if negative {
            value - (1 << count) + 1
        } else {
            value
        })
    }

    /// Goes over the restart marker of this number.
    pub(super) fn restart(&mut self, number: u8) -> Result<(), Fault> {
        self.buffer = 0;
        self.filled = 0;
        while self.bytes.get(self.at + 1) == Some(&0xFF) {
            self.at += 1;
        }
        match self.bytes.get(self.at..) {
            Some([0xFF, kind, ..]) if *kind == 0xD0 + number => {
                self.at += 2;
                Ok(())
            }
            Some([] | [_]) | None => Err(Fault::cut("the file ends before a restart marker")),
            _ => Err("a restart marker is missing".into()),
        }
    }
}
