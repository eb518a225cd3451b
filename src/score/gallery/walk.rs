//! Folders without a table: prompts are the names of sub-folders, or stand in a file beside each
//! picture.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::folder::{Gallery, Layout, Picture};
use crate::base::{fsio, text};
use crate::score::Result;

/// What counts as a picture by its name. Those that can't be decoded are counted as such later.
const EXTENSIONS: [&str; 9] = [
    "png", "jpg", "jpeg", "webp", "bmp", "gif", "tif", "tiff", "avif",
];

/// The file that PopAlign's scripts write beside each picture.
#[derive(Deserialize)]
struct Sidecar {
    prompt: String,
}

pub(super) fn read(dir: &Path) -> Result<Gallery> {
    let files = files(dir, &is_picture)?;
    let sidecars: Vec<Option<String>> = files.iter().map(|f| sidecar(&dir.join(f))).collect();
    let layout = match sidecars.iter().any(Option::is_some) {
        true => Layout::Sidecars,
        false => Layout::Folders,
    };
    let pictures = files.iter().zip(sidecars).map(|(file, sidecar)| {
        let name = slashed(file);
        Picture {
            prompt: sidecar.unwrap_or_else(|| folder_name(dir, file)),
            kind: None,
            axes: BTreeMap::new(),
            neutral: None,
            key: name.clone(),
            name,
        }
    });
    Ok(Gallery {
        dir: dir.to_path_buf(),
        layout,
        pictures: pictures.collect(),
        without_files: 0,
        config: None,
    })
}

/// The files in `dir` and its sub-folders that are `wanted`, relative to it, sorted: the order in which a
/// file system lists names is its own. Hidden files and folders are passed over, and links to folders
/// are not followed: they may lead in a circle.
pub(super) fn files(dir: &Path, wanted: &dyn Fn(&Path) -> bool) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    collect(dir, dir, wanted, &mut files)?;
    files.sort();
    Ok(files)
}

fn collect(
    root: &Path,
    dir: &Path,
    wanted: &dyn Fn(&Path) -> bool,
    files: &mut Vec<PathBuf>,
) -> Result<()> {
    let failed = fsio::at("read", dir);
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        let kind = entry.file_type().map_err(failed)?;
        if kind.is_dir() {
            collect(root, &path, wanted, files)?;
        } else if wanted(&path) && path.is_file() {
            files.extend(path.strip_prefix(root).map(Path::to_path_buf));
        }
    }
    Ok(())
}

fn is_picture(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default();
    EXTENSIONS.iter().any(|e| extension.eq_ignore_ascii_case(e))
}

fn sidecar(picture: &Path) -> Option<String> {
    let text = fs::read_to_string(picture.with_extension("json")).ok()?;
    let text = text::without_bom(&text);
    serde_json::from_str(text).ok().map(|s: Sidecar| s.prompt)
}

/// The prompt that a picture's place says: the folders between `root` and the picture, or the
/// name of `root`.
fn folder_name(root: &Path, file: &Path) -> String {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => slashed(parent),
        _ => {
            let named = root.canonicalize().unwrap_or_else(|_| root.to_path_buf());
            let name = named.file_name().unwrap_or_default();
            name.to_string_lossy().into_owned()
        }
    }
}

pub(super) fn slashed(path: &Path) -> String {
    let parts = path.components().map(|c| c.as_os_str().to_string_lossy());
    parts.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_are_folder_names_or_stand_beside_the_pictures() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("doctors");
        for folder in ["a doctor", "a nurse/seed 1", ".cache"] {
            fsio::create_dir_all(root.join(folder)).unwrap();
        }
        for file in [
            "a doctor/2.PNG",
            "a doctor/10.jpg",
            "a nurse/seed 1/1.jpeg",
            ".cache/1.png",
            "a doctor/.partial-1.png",
            "a doctor/notes.txt",
            "flat.png",
        ] {
            fsio::write(root.join(file), "").unwrap();
        }
        let gallery = read(&root).unwrap();
        let prompts: Vec<_> = gallery
            .pictures
            .iter()
            .map(|p| (p.name.as_str(), p.prompt.as_str()))
            .collect();
        assert_eq!(
            prompts,
            [
                ("a doctor/10.jpg", "a doctor"),
                ("a doctor/2.PNG", "a doctor"),
                ("a nurse/seed 1/1.jpeg", "a nurse/seed 1"),
                ("flat.png", "doctors"),
            ]
        );
        assert_eq!(gallery.layout, Layout::Folders);

        let sidecar = r#"{"file_path": "x/2.png", "prompt": "a photo of a male doctor"}"#;
        fsio::write(root.join("a doctor/2.json"), sidecar).unwrap();
        let gallery = read(&root).unwrap();
        assert_eq!(gallery.layout, Layout::Sidecars);
        assert_eq!(gallery.pictures[1].prompt, "a photo of a male doctor");
        assert_eq!(gallery.pictures[0].prompt, "a doctor");
    }
}
