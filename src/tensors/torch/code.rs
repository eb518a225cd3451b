//! Reading a pickle's program: its numbers, texts and lines, each from the front of what is left.
//!
//! Opcodes: CPython `Lib/pickletools.py`.

/// Why a pickle is refused.
#[derive(Debug)]
pub(super) enum Problem {
    /// It names something that does not describe tensors.
    Global(String),
    Format(String),
}

pub(super) type Result<T> = std::result::Result<T, Problem>;

pub(super) fn bad<T>(problem: impl Into<String>) -> Result<T> {
    Err(Problem::Format(problem.into()))
}

/// What is left of a program.
pub(super) struct Code<'a>(pub(super) &'a [u8]);

impl<'a> Code<'a> {
    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        match self.0.split_at_checked(length) {
            Some((taken, rest)) => {
                self.0 = rest;
                Ok(taken)
            }
            None => bad("it is truncated"),
        }
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        match self.0.split_first_chunk::<N>() {
            Some((taken, rest)) => {
                self.0 = rest;
                Ok(*taken)
            }
            None => bad("it is truncated"),
        }
    }

    pub(super) fn line(&mut self) -> Result<String> {
        let Some(end) = self.0.iter().position(|&b| b == b'\n') else {
            return bad("it is truncated");
        };
        let bytes = self.take(end)?.to_vec();
        self.take(1)?;
        String::from_utf8(bytes).or_else(|_| bad("a name that is not UTF-8"))
    }

    /// The integer of BININT1, BININT2, BININT, LONG1 or LONG4. None where it has more than 8 bytes:
    /// no count of a tensor is so large; a random generator's state is.
    pub(super) fn integer(&mut self, op: u8) -> Result<Option<i64>> {
        Ok(Some(match op {
            b'K' => self.array::<1>()?[0].into(),
            b'M' => u16::from_le_bytes(self.array()?).into(),
            b'J' => i32::from_le_bytes(self.array()?).into(),
            _ => {
                let length = match op {
                    0x8a => self.array::<1>()?[0].into(),
                    _ => u32::from_le_bytes(self.array()?),
                };
                let bytes = self.take(length as usize)?;
                if bytes.len() > 8 {
                    return Ok(None);
                }
                // Two's complement, as short as it goes.
                let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
                let mut wide = [if negative { 0xff } else { 0 }; 8];
                wide[..bytes.len()].copy_from_slice(bytes);
                i64::from_le_bytes(wide)
            }
        }))
    }

    /// The text of any of pickle's instructions for texts and bytes. None for bytes that are no text;
    /// those of old files are names too, where they are text.
    pub(super) fn text(&mut self, op: u8) -> Result<Option<String>> {
        let length = match op {
            0x8c | b'U' | b'C' => self.array::<1>()?[0].into(),
            0x8d | 0x8e | 0x96 => u64::from_le_bytes(self.array()?),
            _ => u32::from_le_bytes(self.array()?).into(),
        };
        let bytes = self.take(usize::try_from(length).unwrap_or(usize::MAX))?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Some(text.to_owned())),
            Err(_) if matches!(op, b'X' | 0x8c | 0x8d) => bad("a text that is not UTF-8"),
            Err(_) => Ok(None),
        }
    }
}
