//! The first frame of a GIF file, as Pillow has it.
//!
//! Where the frame doesn't reach, the canvas has the transparent colour, or the first of the palette;
//! transparent pixels have their colour of the palette; a canvas smaller than its frame grows.

use gif::{ColorOutput, DecodeOptions, DecodingError};
use image::{Rgb, RgbImage};

use super::format::Format;
use super::limits;
use super::problem::{Problem, Reason};

/// Decodes a file.
pub(super) fn decode(bytes: &[u8]) -> Result<RgbImage, Problem> {
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    let mut decoder = options.read_info(bytes).map_err(problem)?;
    let canvas = [decoder.width(), decoder.height()].map(u32::from);
    let global = decoder.global_palette().map(<[u8]>::to_vec);
    // The frame's pixels are only unpacked if they are not too many.
    let frame = decoder.next_frame_info().map_err(problem)?;
    let frame = frame.ok_or_else(|| damaged("there is no picture in it"))?;
    let [left, top, width, height] =
        [frame.left, frame.top, frame.width, frame.height].map(u32::from);
    let palette = frame.palette.clone().or(global).unwrap_or_default();
    let empty = frame.transparent.unwrap_or(0);
    let size = [canvas[0].max(left + width), canvas[1].max(top + height)];
    limits::check(Format::Gif, size[0], size[1])?;
    if size.contains(&0) {
        return Err(damaged("it has no pixels"));
    }
    let mut indices = vec![0; width as usize * height as usize];
    decoder.read_into_buffer(&mut indices).map_err(problem)?;
    // Without an entry in the palette an index is a grey, as in Pillow's palettes.
    let color = |index: u8| {
        let entry = palette
            .get(3 * usize::from(index)..)
            .and_then(<[u8]>::first_chunk);
        Rgb(entry.copied().unwrap_or([index; 3]))
    };
    let mut picture = RgbImage::from_pixel(size[0], size[1], color(empty));
    for (place, &index) in indices.iter().enumerate() {
        let (x, y) = (place as u32 % width, place as u32 / width);
        picture.put_pixel(left + x, top + y, color(index));
    }
    Ok(picture)
}

fn damaged(text: &str) -> Problem {
    Problem::Damaged {
        format: Format::Gif.name(),
        source: Reason(text.to_owned()),
    }
}

fn problem(error: DecodingError) -> Problem {
    let (format, source) = (Format::Gif.name(), Reason(error.to_string()));
    match error {
        DecodingError::UnexpectedEof => Problem::Truncated { format, source },
        DecodingError::Io(io) if io.kind() == std::io::ErrorKind::UnexpectedEof => {
            Problem::Truncated { format, source }
        }
        DecodingError::MemoryLimit | DecodingError::OutOfMemory => {
            Problem::TooLarge { format, source }
        }
        _ => Problem::Damaged { format, source },
    }
}
