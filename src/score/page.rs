//! What the report and the sheets for people are written on: a page that loads nothing from
//! anywhere, its style and the pictures within it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::{FilterType, resize};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::picture::decode;

/// The page's style.
const STYLE: &str = include_str!("page.css");
/// JPEG quality: no visible difference at the size of thumbnails.
const QUALITY: u8 = 88;

/// A whole page around some content.
pub(super) fn page(title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body { (body) }
        }
    }
}

/// A picture's file as a small picture within a page; nothing if it can't be decoded.
pub(super) fn data_uri(bytes: &[u8], side: u32) -> Result<Option<String>, image::ImageError> {
    let Ok(mut picture) = decode(bytes) else {
        return Ok(None);
    };
    let (width, height) = picture.dimensions();
    let longer = width.max(height);
    if longer > side {
        let fit = |n: u32| (u64::from(n) * u64::from(side) / u64::from(longer)).max(1) as u32;
        picture = resize(&picture, fit(width), fit(height), FilterType::CatmullRom);
    }
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, QUALITY).encode_image(&picture)?;
    Ok(Some(format!(
        "data:image/jpeg;base64,{}",
        STANDARD.encode(jpeg)
    )))
}
