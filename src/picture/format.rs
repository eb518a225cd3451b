//! Which format a file has, by its first bytes: its name may say anything.

use std::path::Path;

/// The ends of pictures' names.
const EXTENSIONS: [&str; 28] = [
    "png", "apng", "jpg", "jpeg", "jpe", "jfif", "webp", "bmp", "dib", "gif", "tif", "tiff",
    "avif", "avifs", "heic", "heif", "hif", "jxl", "jxr", "jp2", "j2k", "psd", "ico", "exr", "hdr",
    "qoi", "dds", "xcf",
];

/// The bytes that tell a file's format. The longest mark is that of an ISO media file with a few brands.
pub const HEAD: usize = 64;

/// What a file's first bytes say that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Portable Network Graphics.
    Png,
    /// JPEG.
    Jpeg,
    /// WebP.
    WebP,
    /// Windows' bitmap.
    Bmp,
    /// Graphics Interchange Format.
    Gif,
    /// Tagged Image File Format.
    Tiff,
    /// A format of pictures that isn't read, by its name.
    Other(&'static str),
}

/// The marks that formats begin with, at their places.
const MARKS: [(usize, &[u8], Format); 33] = [
    (0, b"\x89PNG\r\n\x1a\n", Format::Png),
    (0, b"\xff\xd8\xff", Format::Jpeg),
    (8, b"WEBP", Format::WebP),
    (0, b"GIF87a", Format::Gif),
    (0, b"GIF89a", Format::Gif),
    // A TIFF whose first picture is a thumbnail.
    (8, b"CR\x02", Format::Other("CR2")),
    (0, b"FUJIFILMCCD-RAW", Format::Other("RAF")),
    (0, b"II*\0", Format::Tiff),
    (0, b"MM\0*", Format::Tiff),
    (0, b"II+\0", Format::Tiff),
    (0, b"MM\0+", Format::Tiff),
    (0, b"BM", Format::Bmp),
    (0, b"\xff\x0a", Format::Other("JPEG XL")),
    (0, b"\0\0\0\x0cJXL ", Format::Other("JPEG XL")),
    (0, b"\0\0\0\x0cjP  ", Format::Other("JPEG 2000")),
    (0, b"\xff\x4f\xff\x51", Format::Other("JPEG 2000")),
    (0, b"II\xbc\x01", Format::Other("JPEG XR")),
    (0, b"8BPS", Format::Other("PSD")),
    (0, b"\0\0\x01\0", Format::Other("ICO")),
    (0, b"v/1\x01", Format::Other("OpenEXR")),
    (0, b"#?RADIANCE", Format::Other("Radiance HDR")),
    (0, b"DDS ", Format::Other("DDS")),
    (0, b"qoif", Format::Other("QOI")),
    (0, b"farbfeld", Format::Other("farbfeld")),
    (0, b"gimp xcf", Format::Other("XCF")),
    (0, b"%PDF", Format::Other("PDF")),
    (0, b"%!PS", Format::Other("PostScript")),
    (0, b"<svg", Format::Other("SVG")),
    // What stands in a picture's place where a download went wrong.
    (
        0,
        b"version https://git-lfs",
        Format::Other("Git LFS pointer"),
    ),
    (0, b"<!DOCTYPE html", Format::Other("HTML")),
    (0, b"<html", Format::Other("HTML")),
    (0, b"P6\n", Format::Other("PPM")),
    (0, b"P5\n", Format::Other("PGM")),
];

/// Brands of ISO media files that are pictures: what such a file begins with after its length and `ftyp`.
const BRANDS: [(&[u8], &str); 12] = [
    (b"avif", "AVIF"),
    (b"avis", "AVIF"),
    (b"heic", "HEIC"),
    (b"heix", "HEIC"),
    (b"hevc", "HEIC"),
    (b"hevx", "HEIC"),
    (b"heim", "HEIC"),
    (b"heis", "HEIC"),
    (b"hevm", "HEIC"),
    (b"crx ", "CR3"),
    (b"mif1", "HEIF"),
    (b"msf1", "HEIF"),
];

/// Formats whose first bytes say nothing, by what their files' names end with.
const NAMES: [(&str, &str); 8] = [
    ("tga", "TGA"),
    ("svg", "SVG"),
    ("pcx", "PCX"),
    ("pbm", "PBM"),
    ("pgm", "PGM"),
    ("ppm", "PPM"),
    ("pnm", "PNM"),
    ("cur", "CUR"),
];

/// Whether a file's name ends as a picture's does, of a format that is read or not.
pub fn is_picture_name(name: &Path) -> bool {
    let known = NAMES.iter().map(|(extension, _)| *extension);
    ends_with_one(name, EXTENSIONS.iter().copied().chain(known)).is_some()
}

/// The name of a format that only a file's name tells.
pub fn told_by_name(name: &Path) -> Option<&'static str> {
    let extension = ends_with_one(name, NAMES.iter().map(|(extension, _)| *extension))?;
    let mut names = NAMES.iter();
    names
        .find(|(own, _)| *own == extension)
        .map(|(_, format)| *format)
}

fn ends_with_one<'a>(name: &Path, mut ends: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let extension = name.extension()?;
    ends.find(|end| extension.eq_ignore_ascii_case(end))
}

impl Format {
    /// The format of a file that begins with these bytes, if it is one of pictures.
    pub fn of(head: &[u8]) -> Option<Self> {
        if let Some(name) = brand(head) {
            return Some(Self::Other(name));
        }
        let has =
            |at: usize, mark: &[u8]| head.get(at..).is_some_and(|rest| rest.starts_with(mark));
        let mut marks = MARKS.iter();
        marks
            .find(|(at, mark, _)| has(*at, mark))
            .map(|(_, _, format)| *format)
    }

    /// Whether these first bytes alone, under any name, make a file a picture: a bitmap's may begin a
    /// text, and a PDF may be anything.
    pub fn is_told_by_bytes(self) -> bool {
        match self {
            Self::Png | Self::Jpeg | Self::WebP | Self::Gif | Self::Tiff => true,
            Self::Bmp => false,
            Self::Other(name) => ["AVIF", "HEIC", "HEIF", "JPEG XL"].contains(&name),
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Png => "PNG",
            Self::Jpeg => "JPEG",
            Self::WebP => "WebP",
            Self::Bmp => "BMP",
            Self::Gif => "GIF",
            Self::Tiff => "TIFF",
            Self::Other(name) => name,
        }
    }
}

/// The picture format of an ISO media file: its first brand that is one, and of general ones (`mif1`)
/// what a later brand makes of it.
fn brand(head: &[u8]) -> Option<&'static str> {
    let length = u32::from_be_bytes(head.get(..4)?.try_into().ok()?) as usize;
    if head.get(4..8)? != b"ftyp" {
        return None;
    }
    let brands = head.get(8..length.min(head.len()))?;
    // The four bytes after the major brand are its version.
    let brands = brands.chunks_exact(4).enumerate().filter(|(i, _)| *i != 1);
    let known = |(_, brand): (usize, &[u8])| {
        BRANDS
            .iter()
            .find(|(own, _)| *own == brand)
            .map(|(_, name)| *name)
    };
    let mut names: Vec<&str> = brands.filter_map(known).collect();
    names.sort_by_key(|name| *name == "HEIF");
    names.first().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brands_of_media_files_name_the_format() {
        for (head, expected) in [
            (&b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf"[..], Some("AVIF")),
            (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", Some("AVIF")),
            (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", Some("HEIC")),
            (b"\0\0\0\x18ftypmif1\0\0\0\0mif1miaf", Some("HEIF")),
            // What stands after the box is none of its brands.
            (b"\0\0\0\x14ftypisom\0\0\0\0mp42avif", None),
            (b"\0\0\0\x20ftypmp42\0\0\0\0mp42isom", None),
            (b"\0\0\0\x18ftyp", None),
        ] {
            let expected = expected.map(Format::Other);
            assert_eq!(Format::of(head), expected, "{head:?}");
        }
        assert_eq!(Format::of(b"RIFF\0\0\0\0WEBPVP8 "), Some(Format::WebP));
        assert_eq!(Format::of(b"a text"), None);
        assert_eq!(Format::of(b""), None);
    }
}
