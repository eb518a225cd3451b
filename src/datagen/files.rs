//! Pictures' files: their bytes and their names.

use std::io::Cursor;

use image::{ExtendedColorType, ImageEncoder, RgbImage};

use super::{Error, Format, Result};

const JPEG_QUALITY: u8 = 95;
/// Longest part of a caption in a file's name.
const SLUG: usize = 60;

/// A picture's file.
pub(super) fn encoded(picture: &RgbImage, format: Format) -> Result<Vec<u8>> {
    let mut bytes = Cursor::new(Vec::new());
    let (width, height) = picture.dimensions();
    let colour = ExtendedColorType::Rgb8;
    let written = match format {
        Format::Jpg => image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY)
            .write_image(picture, width, height, colour),
        Format::Png | Format::None => image::codecs::png::PngEncoder::new(&mut bytes)
            .write_image(picture, width, height, colour),
    };
    written.map_err(|source| Error::Encode {
        format: format.extension().unwrap_or_default(),
        source,
    })?;
    Ok(bytes.into_inner())
}

/// The name of a picture: its place in the list and its caption, "000012-a-photo-of-a-doctor".
pub(super) fn file_stem(index: usize, caption: &str) -> String {
    let mut name = format!("{index:06}-");
    let longest = name.len() + SLUG;
    for letter in caption.chars() {
        if name.len() >= longest {
            break;
        }
        if letter.is_ascii_alphanumeric() {
            name.push(letter.to_ascii_lowercase());
        } else if !name.ends_with('-') {
            name.push('-');
        }
    }
    name.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captions_become_names() {
        let stem = |caption: &str| file_stem(7, caption);
        assert_eq!(
            stem("A photo of a  naïve chef, head!"),
            "000007-a-photo-of-a-na-ve-chef-head"
        );
        assert_eq!(stem("../../etc/passwd"), "000007-etc-passwd");
        assert_eq!(stem("画"), "000007");
        assert_eq!(stem(&"x".repeat(300)).len(), 7 + SLUG);
    }
}
