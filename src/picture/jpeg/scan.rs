//! One scan's coefficients, into the frame's blocks.

use super::fault::Fault;
use super::header::{Frame, Scan, Tables, natural};
use super::huffman::{Bits, Huffman};

/// Reads a scan's data from the beginning of `bytes`; where it ends there.
pub(super) fn decode(
    frame: &mut Frame,
    scan: &Scan,
    tables: &Tables,
    bytes: &[u8],
) -> Result<usize, Fault> {
    let mut state = State {
        bits: Bits::new(bytes),
        last: [0; 4],
        skip: 0,
    };
    // A scan of one component has no MCUs, only its blocks without those that fill MCUs.
    let alone = scan.components.len() == 1;
    let [across, down] = if alone {
        let c = &frame.components[scan.components[0][0]];
        [c.width.div_ceil(8), c.height.div_ceil(8)]
    } else {
        frame.mcus
    };
    let progressive = frame.progressive;
    for mcu in 0..across * down {
        if tables.restart > 0 && mcu > 0 && mcu % tables.restart == 0 {
            state.bits.restart((mcu / tables.restart - 1) as u8 % 8)?;
            state.last = [0; 4];
            state.skip = 0;
        }
        let (x, y) = (mcu % across, mcu / across);
        for &[index, dc, ac] in &scan.components {
            let component = &mut frame.components[index];
            let [h, v] = if alone { [1, 1] } else { component.sampling };
            for block in 0..h * v {
                let (column, row) = (x * h + block % h, y * v + block / h);
                let block = &mut component.blocks[row * component.columns + column];
                let codes = Codes {
                    dc: tables.dc[dc].as_ref(),
                    ac: tables.ac[ac].as_ref(),
                };
                if progressive {
                    state.part(block, index, scan, &codes)?;
                } else {
                    state.whole(block, index, &codes)?;
                }
            }
        }
    }
    Ok(state.bits.end())
}

/// The codes of a component.
struct Codes<'a> {
    dc: Option<&'a Huffman>,
    ac: Option<&'a Huffman>,
}

impl Codes<'_> {
    fn dc(&self) -> Result<&Huffman, Fault> {
        self.dc.ok_or_else(missing)
    }

    fn ac(&self) -> Result<&Huffman, Fault> {
        self.ac.ok_or_else(missing)
    }
}

fn missing() -> Fault {
    "a scan before its Huffman table".into()
}

fn overrun() -> Fault {
    "more coefficients than a block has".into()
}

struct State<'a> {
    bits: Bits<'a>,
    /// The last DC coefficient of each component.
    last: [i32; 4],
    /// Blocks whose part of this scan is all zero.
    skip: u32,
}

impl State<'_> {
    /// The next DC coefficient of a component.
    fn dc(&mut self, index: usize, code: &Huffman) -> Result<i32, Fault> {
        let length = self.bits.symbol(code)?;
        if length > 15 {
            return Err("a code that is none".into());
        }
        let last = &mut self.last[index];
        *last = last.wrapping_add(self.bits.signed(length.into())?);
        Ok(*last)
    }

    /// A block of a sequential scan.
    fn whole(&mut self, block: &mut [i16; 64], index: usize, codes: &Codes) -> Result<(), Fault> {
        block[0] = self.dc(index, codes.dc()?)? as i16;
        let code = codes.ac()?;
        let mut k = 1;
        while k < 64 {
            let symbol = self.bits.symbol(code)?;
            let (run, length) = (usize::from(symbol >> 4), u32::from(symbol & 15));
            match (run, length) {
                (15, 0) => k += 16,
                (_, 0) => break,
                _ => {
                    k += run;
                    if k > 63 {
                        return Err(overrun());
                    }
                    block[natural(k)] = self.bits.signed(length)? as i16;
                    k += 1;
                }
            }
        }
        Ok(())
    }

    /// A block's part of a progressive scan.
    fn part(
        &mut self,
        block: &mut [i16; 64],
        index: usize,
        scan: &Scan,
        codes: &Codes,
    ) -> Result<(), Fault> {
        match (scan.spectrum[0], scan.high) {
            (0, 0) => block[0] = (self.dc(index, codes.dc()?)? << scan.low) as i16,
            (0, _) => block[0] |= (self.bits.bits(1)? << scan.low) as i16,
            (_, 0) => self.first(block, scan, codes.ac()?)?,
            (_, _) => self.refine(block, scan, codes.ac()?)?,
        }
        Ok(())
    }

    /// The number of blocks, this one included, that end where a symbol of this run says so.
    fn ending(&mut self, run: usize) -> Result<u32, Fault> {
        Ok((1 << run) + self.bits.bits(run as u32)? as u32)
    }

    /// The first bits of a block's AC coefficients.
    fn first(&mut self, block: &mut [i16; 64], scan: &Scan, code: &Huffman) -> Result<(), Fault> {
        if self.skip > 0 {
            self.skip -= 1;
            return Ok(());
        }
        let [mut k, last] = scan.spectrum;
        while k <= last {
            let symbol = self.bits.symbol(code)?;
            let (run, length) = (usize::from(symbol >> 4), u32::from(symbol & 15));
            match (run, length) {
                (15, 0) => k += 16,
                (_, 0) => {
                    self.skip = self.ending(run)? - 1;
                    break;
                }
                _ => {
                    k += run;
                    if k > last {
                        return Err(overrun());
                    }
                    block[natural(k)] = (self.bits.signed(length)? << scan.low) as i16;
                    k += 1;
                }
            }
        }
        Ok(())
    }

    /// One more bit of a block's AC coefficients: of those that are not zero yet, and some new
    /// ones of size 1.
    fn refine(&mut self, block: &mut [i16; 64], scan: &Scan, code: &Huffman) -> Result<(), Fault> {
        let one = 1i16 << scan.low;
        let [mut k, last] = scan.spectrum;
        if self.skip == 0 {
            while k <= last {
                let symbol = self.bits.symbol(code)?;
                let (mut run, length) = (usize::from(symbol >> 4), symbol & 15);
                let mut new = 0;
                match (run, length) {
                    (15, 0) => {}
                    (_, 0) => {
                        self.skip = self.ending(run)?;
                        break;
                    }
                    (_, 1) => new = if self.bits.bits(1)? == 1 { one } else { -one },
                    _ => return Err("a code that is none".into()),
                }
                // Over `run` coefficients that are still zero, refining the others on the way.
                while k <= last {
                    let coefficient = &mut block[natural(k)];
                    if *coefficient != 0 {
                        self.correct(coefficient, one)?;
                    } else if run == 0 {
                        *coefficient = new;
                        break;
                    } else {
                        run -= 1;
                    }
                    k += 1;
                }
                if k > last && new != 0 {
                    return Err(overrun());
                }
                k += 1;
            }
        }
        if self.skip > 0 {
            self.skip -= 1;
            while k <= last {
                let coefficient = &mut block[natural(k)];
                if *coefficient != 0 {
                    self.correct(coefficient, one)?;
                }
                k += 1;
            }
        }
        Ok(())
    }

    /// Reads one more bit of a coefficient.
    fn correct(&mut self, coefficient: &mut i16, one: i16) -> Result<(), Fault> {
        if self.bits.bits(1)? == 1 && *coefficient & one == 0 {
            let step = if *coefficient > 0 { one } else { -one };
            *coefficient = coefficient.wrapping_add(step);
        }
        Ok(())
    }
}
