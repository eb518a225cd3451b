//! The segments of a JPEG file.

use super::fault::{Fault, Kind};
use super::huffman::Huffman;
use crate::picture::limits::MOST_PIXELS;

/// Order in which a block's coefficients are stored.
const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20,
    13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59,
    52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// Where in a block the stored coefficient `k` belongs.
pub(super) fn natural(k: usize) -> usize {
    usize::from(ZIGZAG[k])
}

/// What a file says before, between and after its scans.
#[derive(Debug, Default)]
pub(super) struct Header {
    pub(super) frame: Option<Frame>,
    pub(super) tables: Tables,
    pub(super) exif: Option<Vec<u8>>,
    jfif: bool,
    /// The transform that Adobe's segment names.
    adobe: Option<u8>,
}

/// What later scans use until it is replaced.
#[derive(Debug, Default)]
pub(super) struct Tables {
    quantization: [Option<[u16; 64]>; 4],
    pub(super) dc: [Option<Huffman>; 4],
    pub(super) ac: [Option<Huffman>; 4],
    /// MCUs between restart markers; 0 for none.
    pub(super) restart: usize,
}

/// The picture.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) progressive: bool,
    pub(super) width: usize,
    pub(super) height: usize,
    /// The picture in MCUs.
    pub(super) mcus: [usize; 2],
    pub(super) components: Vec<Component>,
    most: [usize; 2],
}

/// One colour.
#[derive(Debug)]
pub(super) struct Component {
    pub(super) id: u8,
    /// Blocks of an MCU, across and down.
    pub(super) sampling: [usize; 2],
    table: usize,
    /// Its samples, without those that only fill blocks.
    pub(super) width: usize,
    pub(super) height: usize,
    /// Its blocks across and down, with those that only fill MCUs.
    pub(super) columns: usize,
    pub(super) rows: usize,
    pub(super) blocks: Vec<[i16; 64]>,
    /// In natural order, as it was when the component's first scan began.
    pub(super) quantization: Option<[u16; 64]>,
}

/// What one scan brings.
#[derive(Debug)]
pub(super) struct Scan {
    /// Index of the component, of its DC table and of its AC table.
    pub(super) components: Vec<[usize; 3]>,
    /// First and last coefficient.
    pub(super) spectrum: [usize; 2],
    /// Bits that came before, and bits still to come.
    pub(super) high: u32,
    pub(super) low: u32,
}

/// What the components are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ColorSpace {
    Grey,
    Rgb,
    YCbCr,
    Cmyk,
    Ycck,
}

impl Component {
    /// By how much it must be widened and heightened.
    pub(super) fn expand(&self, frame: &Frame) -> Result<[usize; 2], Fault> {
        let [h, v] = self.sampling;
        let [most_h, most_v] = frame.most;
        if most_h % h != 0 || most_v % v != 0 {
            let text = format!("sampling {h}x{v} beside {most_h}x{most_v} isn't supported");
            return Err(Fault::unsupported(text));
        }
        Ok([most_h / h, most_v / v])
    }
}

impl Frame {
    /// Whether every component had a scan.
    pub(super) fn complete(&self) -> bool {
        self.components.iter().all(|c| c.quantization.is_some())
    }
}

impl Header {
    /// As libjpeg guesses it.
    pub(super) fn color_space(&self, frame: &Frame) -> Result<ColorSpace, Fault> {
        let ids: Vec<u8> = frame.components.iter().map(|c| c.id).collect();
        Ok(match (&ids[..], self.adobe) {
            ([_], _) => ColorSpace::Grey,
            ([_, _, _], _) if self.jfif => ColorSpace::YCbCr,
            ([_, _, _], Some(0)) | (b"RGB", None) => ColorSpace::Rgb,
            ([_, _, _], _) => ColorSpace::YCbCr,
            ([_, _, _, _], None | Some(0)) => ColorSpace::Cmyk,
            ([_, _, _, _], _) => ColorSpace::Ycck,
            _ => {
                let text = format!("{} colours aren't supported", ids.len());
                return Err(Fault::unsupported(text));
            }
        })
    }
}

/// Walks over a file's segments.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Whether the end marker was met.
    pub(super) ended: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, Fault> {
        if !bytes.starts_with(&[0xFF, 0xD8]) {
            return Err("no start marker".into());
        }
        Ok(Self {
            bytes,
            at: 2,
            ended: false,
        })
    }

    /// What was not read yet.
    pub(super) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    pub(super) fn skip(&mut self, bytes: usize) {
        self.at += bytes;
    }

    /// Reads segments up to the next scan's data; nothing at the end of the file.
    pub(super) fn until_scan(&mut self, header: &mut Header) -> Result<Option<Scan>, Fault> {
        while let Some(kind) = self.marker() {
            match kind {
                0xD9 => {
                    self.ended = true;
                    return Ok(None);
                }
                // Markers without a segment.
                0x01 | 0xD0..=0xD8 => continue,
                _ => {}
            }
            let segment = self.segment()?;
            match kind {
                0xC0..=0xC2 => header.frame(segment, kind == 0xC2)?,
                0xC4 => header.tables.huffman(segment)?,
                0xC3 | 0xC5..=0xCF => return Err(Fault::unsupported(unsupported(kind))),
                0xDB => header.tables.quantization(segment)?,
                0xDD => match *segment {
                    [high, low] => {
                        header.tables.restart = usize::from(u16::from_be_bytes([high, low]));
                    }
                    _ => return Err("a damaged restart interval".into()),
                },
                0xDA => return header.scan(segment).map(Some),
                0xE0 => header.jfif |= segment.starts_with(b"JFIF\0"),
                0xE1 if header.exif.is_none() => {
                    header.exif = segment.strip_prefix(b"Exif\0\0").map(<[u8]>::to_vec);
                }
                0xEE if segment.starts_with(b"Adobe") => {
                    header.adobe = segment.get(11).copied().or(header.adobe);
                }
                _ => {}
            }
        }
        Ok(None)
    }

    /// The next marker, over whatever stands before it.
    fn marker(&mut self) -> Option<u8> {
        loop {
            let here = self.bytes.get(self.at..)?;
            self.at += here.iter().position(|&b| b == 0xFF)?;
            while *self.bytes.get(self.at)? == 0xFF {
                self.at += 1;
            }
            self.at += 1;
            match self.bytes[self.at - 1] {
                0 => {}
                kind => return Some(kind),
            }
        }
    }

    fn segment(&mut self) -> Result<&'a [u8], Fault> {
        let cut = || Fault::cut("the file is cut short within a segment");
        let rest = self.rest();
        let length = rest
            .first_chunk()
            .copied()
            .map(u16::from_be_bytes)
            .ok_or_else(cut)?;
        let segment = rest.get(2..usize::from(length)).ok_or_else(cut)?;
        self.at += usize::from(length);
        Ok(segment)
    }
}

fn unsupported(kind: u8) -> &'static str {
    match kind {
        0xC9..=0xCF => "arithmetic coding isn't supported",
        0xC3 => "lossless JPEG isn't supported",
        _ => "hierarchical JPEG isn't supported",
    }
}

impl Header {
    fn frame(&mut self, segment: &[u8], progressive: bool) -> Result<(), Fault> {
        if self.frame.is_some() {
            return Err("a second frame".into());
        }
        let &[bits, h1, h0, w1, w0, count, ref parts @ ..] = segment else {
            return Err("a damaged frame".into());
        };
        if bits != 8 {
            let text = format!("{bits} bits for a sample aren't supported");
            return Err(Fault::unsupported(text));
        }
        let height = usize::from(u16::from_be_bytes([h1, h0]));
        let width = usize::from(u16::from_be_bytes([w1, w0]));
        if width * height == 0 || parts.len() != 3 * usize::from(count) || parts.is_empty() {
            return Err("a damaged frame".into());
        }
        if width * height > MOST_PIXELS || count > 4 {
            let text = format!("{width}x{height} pixels of {count} colours are too many");
            return Err(Fault::of(Kind::TooLarge, text));
        }
        let factors = |part: &[u8]| [usize::from(part[1] >> 4), usize::from(part[1] & 15)];
        let mut most = [1, 1];
        for part in parts.chunks_exact(3) {
            let [h, v] = factors(part);
            if !(1..=4).contains(&h) || !(1..=4).contains(&v) || part[2] > 3 {
                return Err("a damaged frame".into());
            }
            most = [most[0].max(h), most[1].max(v)];
        }
        let mcus = [width.div_ceil(8 * most[0]), height.div_ceil(8 * most[1])];
        let component = |part: &[u8]| {
            let [h, v] = factors(part);
            let (columns, rows) = (mcus[0] * h, mcus[1] * v);
            Component {
                id: part[0],
                sampling: [h, v],
                table: usize::from(part[2]),
                width: (width * h).div_ceil(most[0]),
                height: (height * v).div_ceil(most[1]),
                columns,
                rows,
                blocks: vec![[0; 64]; columns * rows],
                quantization: None,
            }
        };
        self.frame = Some(Frame {
            progressive,
            width,
            height,
            mcus,
            components: parts.chunks_exact(3).map(component).collect(),
            most,
        });
        Ok(())
    }

    fn scan(&mut self, segment: &[u8]) -> Result<Scan, Fault> {
        let damaged = || Fault::from("a damaged scan");
        let frame = self.frame.as_mut().ok_or("a scan before its frame")?;
        let (&count, rest) = segment.split_first().ok_or_else(damaged)?;
        let parts = rest.get(..2 * usize::from(count)).ok_or_else(damaged)?;
        let &[first, last, bits] = &rest[parts.len()..] else {
            return Err(damaged());
        };
        let mut components = Vec::new();
        for part in parts.chunks_exact(2) {
            let index = frame.components.iter().position(|c| c.id == part[0]);
            let index = index.ok_or_else(damaged)?;
            let (dc, ac) = (usize::from(part[1] >> 4), usize::from(part[1] & 15));
            if dc > 3 || ac > 3 || components.iter().any(|c: &[usize; 3]| c[0] == index) {
                return Err(damaged());
            }
            components.push([index, dc, ac]);
            let component = &mut frame.components[index];
            if component.quantization.is_none() {
                let table = self.tables.quantization[component.table];
                component.quantization = Some(table.ok_or("a scan before its quantization")?);
            }
        }
        let (spectrum, high, low) = if frame.progressive {
            (
                [usize::from(first), usize::from(last)],
                bits >> 4,
                bits & 15,
            )
        } else {
            ([0, 63], 0, 0)
        };
        let dc_only = spectrum == [0, 0];
        let ac_only = spectrum[0] > 0 && spectrum[0] <= spectrum[1] && spectrum[1] < 64;
        let fits = match count {
            0 => false,
            1 => !frame.progressive || dc_only || ac_only,
            2..=4 => !frame.progressive || dc_only,
            _ => false,
        };
        if !fits || low > 13 || (high != 0 && high != low + 1) {
            return Err(damaged());
        }
        Ok(Scan {
            components,
            spectrum,
            high: high.into(),
            low: low.into(),
        })
    }
}

impl Tables {
    fn quantization(&mut self, mut segment: &[u8]) -> Result<(), Fault> {
        let damaged = || Fault::from("a damaged quantization table");
        while let Some((&info, rest)) = segment.split_first() {
            let wide = match info >> 4 {
                0 => false,
                1 => true,
                _ => return Err(damaged()),
            };
            let length = if wide { 128 } else { 64 };
            let values = rest.get(..length).ok_or_else(damaged)?;
            let mut table = [0; 64];
            for k in 0..64 {
                table[natural(k)] = if wide {
                    u16::from_be_bytes([values[2 * k], values[2 * k + 1]])
                } else {
                    values[k].into()
                };
            }
            *self
                .quantization
                .get_mut(usize::from(info & 15))
                .ok_or_else(damaged)? = Some(table);
            segment = &rest[length..];
        }
        Ok(())
    }

    fn huffman(&mut self, mut segment: &[u8]) -> Result<(), Fault> {
        let damaged = || Fault::from("a damaged Huffman table");
        while let Some((&info, rest)) = segment.split_first() {
            let (counts, rest) = rest.split_first_chunk::<16>().ok_or_else(damaged)?;
            let total = counts.iter().copied().map(usize::from).sum();
            let symbols = rest.get(..total).ok_or_else(damaged)?;
            let table = Huffman::new(counts, symbols).ok_or_else(damaged)?;
            let tables = match info >> 4 {
                0 => &mut self.dc,
                1 => &mut self.ac,
                _ => return Err(damaged()),
            };
            *tables.get_mut(usize::from(info & 15)).ok_or_else(damaged)? = Some(table);
            segment = &rest[total..];
        }
        Ok(())
    }
}
